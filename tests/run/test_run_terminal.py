"""What a person sees in the terminal: hostile text stays harmless, a log file is not flooded, the figures are all there."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from heron.run import Run, RunWriter, TerminalView, print_report
from heron.run.panels import MOST, RECENT, View
from heron.run.report import choose
from heron.run.text import clean, duration, one_line

HOSTILE = "[/red][bold]x \x1b[2J\x1b]0;title\x07 \x9b31m \u202eabc\u2066 \x00\r end"


def console(*, terminal: bool = False, width: int = 120) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    environment = {"TERM": "xterm"}
    return Console(file=out, force_terminal=terminal, width=width, height=40, color_system=None, _environ=environment), out


def metrics(step: int) -> dict[str, float]:
    return {
        "step": step, "reward": step / 10, "reward_std": 0.5, "rewards/found/mean": 0.25, "rewards/found/std": 0.125,
        "rewards/format/mean": 0.75, "rewards/format/std": 0.1,
        "groups/with_signal": 0.625, "completions/mean_length": 41.0, "completions/min_length": 12.0,
        "completions/max_length": 64.0, "completions/clipped_ratio": 0.03125, "kl": 0.0123,
        "time/sample": 1.5, "time/score": 0.04, "time/train": 2.0, "time/step": 3.5, "throughput/sample_tokens_per_second": 5612.0,
        "throughput/train_tokens_per_second": 4321.0, "memory/peak_gib": 1.25,
    }  # fmt: skip


START = {
    "max_steps": 60, "first_step": 1, "reward_names": ["found", "format"], "model": "embedded", "method": "full", "parameters": 4_200_000,
    "trainable_parameters": 4_200_000, "run_dir": "runs/x", "prompts": 100, "heldout": 10, "estimate": "about 4 minutes",
}  # fmt: skip

TOTALS = {
    "accuracy": 0.25, "accuracy_low": 0.2, "accuracy_high": 0.31, "pass_at_1": 0.3, "pass_at_1_low": 0.26, "pass_at_1_high": 0.34,
    "problems": 64, "samples": 4, "mean_reward": -0.5, "mean_length": 40.5, "truncated": 0.0, "step": 0,
}  # fmt: skip


def test_clean_leaves_nothing_that_a_terminal_obeys() -> None:
    """An escape sequence in a completion could clear the screen, retitle the window or turn the line around."""
    shown = clean(HOSTILE)
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 or character in "\u202e\u2066" for character in shown)
    assert "␛[2J" in shown and "[/red]" in shown, "what was there is shown, not dropped"
    assert clean("a\r\nb\tc") == "a\nb   c"
    assert one_line("a\nb " + "x" * 50, 10) == "a b xxxxx…"


@pytest.mark.parametrize("unseen", ["\ufe0f", "\u034f", "\u17b4", "\u2800", "\u3164", "\U000e0101", "\u200b"])
def test_clean_shows_what_is_drawn_as_nothing(unseen: str) -> None:
    """Two answers look alike and only one is right, or an answer looks empty and is not."""
    assert clean(f"4{unseen}2") == "4\N{REPLACEMENT CHARACTER}2"


@pytest.mark.parametrize(("seconds", "words"), [(8.4, "8 s"), (59.6, "1:00"), (245, "4:05"), (7389, "2:03:09")])
def test_durations_read_well(seconds: float, words: str) -> None:
    """59.6 must not become `60 s`, nor 3 hours 180 minutes."""
    assert duration(seconds) == words


def test_a_log_file_gets_about_twenty_lines_however_long_the_run() -> None:
    """A line per step, or a redrawn panel, floods the log of a run of thousands of steps."""
    out_console, out = console()
    view = TerminalView(out_console, clock=lambda: 0.0)
    view("start", {**START, "max_steps": 3000})
    for done in range(300):
        view("progress", {"phase": "warm-up", "done": done, "total": 300})
    for step in range(1, 3001):
        for phase in ("sample", "score", "train"):
            view("progress", {"phase": phase, "done": 1, "total": 1})
        view("metrics", metrics(step))
    view("end", {"status": "finished", "summary": {}})
    lines = out.getvalue().splitlines()
    assert 20 <= len(lines) <= 30
    assert lines[-1].startswith("step 3000/3000 | reward 300.00") and "\x1b" not in out.getvalue()
    assert "left" in lines[-2] and out.getvalue().isascii()


def test_a_slow_run_says_something_every_few_minutes() -> None:
    """With a line every 150 steps of ten minutes each, a log would be silent for a day."""
    out_console, out = console()
    now = [0.0]
    view = TerminalView(out_console, clock=lambda: now[0])
    view("start", {**START, "max_steps": 3000})
    before = len(out.getvalue().splitlines())
    for step in range(1, 6):
        now[0] += 600
        view("metrics", metrics(step))
    assert len(out.getvalue().splitlines()) - before == 5


def test_the_live_view_shows_every_figure() -> None:
    """Each of them has been the one that explained why a run did not learn."""
    out_console, out = console(terminal=True)
    with TerminalView(out_console) as view:
        view("start", START)
        view("evaluation", {"name": "before", "totals": TOTALS})
        for step in range(1, 13):
            view("progress", {"phase": "sample", "done": 96, "total": 256})
            view("metrics", metrics(step))
        view("message", {"text": HOSTILE})
        out_console.print(view.picture())
    shown = out.getvalue()
    for words in (
        "12/60", "2:48 left", "embedded", "sample", "96/256", "1.20", "± 0.50", "found", "0.25", "± 0.12", "format", "0.75",
        "62.5 % of groups", "41 (12 to 64)", "3.1 %", "0.0123", "1.5 s at 5 612 tok/s", "0.04 s", "2.0 s at 4 321 tok/s", "1.25 GiB",
        "25.0 %  [20.0, 31.0]", "▁", "█",
    ):  # fmt: skip
        assert words in shown, words
    assert "\x1b[2J" not in shown and "\x1b]0" not in shown and "\u202e" not in shown


def test_the_live_view_stands_hostile_names_and_early_stops() -> None:
    """Markup in a function's or a model's name must not crash the view; nor an end before the first step, nor a second close."""
    out_console, out = console(terminal=True, width=60)
    view = TerminalView(out_console)
    view("progress", {"phase": "[/red]", "done": 0, "total": 0})
    view("start", {"model": HOSTILE, "max_steps": 3})
    view("metrics", {"step": 1, "reward": None, f"rewards/{HOSTILE}/mean": float("nan")})
    view("end", {"status": "failed", "summary": {}})
    view.close()
    assert "[/red]" in out.getvalue()


class Speaking(Mapping[str, Any]):
    """A payload that speaks to the view while the view reads it, as a signal handler may."""

    def __init__(self, view: TerminalView) -> None:
        self.view = view

    def __getitem__(self, key: str) -> Any:
        self.view("message", {"text": "stopping"})
        return {"phase": "sample", "done": 1, "total": 2}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("phase", "done", "total"))

    def __len__(self) -> int:
        return 3


@pytest.mark.parametrize("terminal", [False, True])
def test_the_view_can_be_told_something_while_it_is_being_told(terminal: bool) -> None:
    """A lock that its own thread cannot take again would hang the run at the first Ctrl-C."""
    out_console, out = console(terminal=terminal)
    view = TerminalView(out_console)
    speaking = threading.Thread(target=view, args=("progress", Speaking(view)), daemon=True)
    speaking.start()
    speaking.join(timeout=10)
    assert not speaking.is_alive(), "the view waits for itself"
    view.close()
    assert "stopping" in out.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_the_view_says_where_the_run_is_recorded(terminal: bool) -> None:
    """Without it nobody who watched a run knows what to give to `heron chat`; cut in two, it cannot be pasted."""
    out_console, out = console(terminal=terminal, width=40)
    with TerminalView(out_console) as view:
        view("start", {**START, "run_dir": "runs/arithmetic-20260101-120000-with-a-long-name"})
    assert "run directory runs/arithmetic-20260101-120000-with-a-long-name" in out.getvalue()


def row(name: str, verdict: str, text: str = "<SOLUTION>4</SOLUTION>") -> dict[str, Any]:
    facts = {"reward": 1.0, "length": 3, "truncated": False}
    return {"id": name, "question": f"question {name}", "answer": "4", "text": text, "verdict": verdict, **facts}


BEFORE = [row("a", "right"), row("b", "right"), row("c", "wrong"), row("d", "unreadable"), row("e", "wrong", HOSTILE)]
AFTER = [row("a", "right"), row("b", "wrong", ""), row("c", "wrong"), row("d", "right"), row("e", "right", HOSTILE)]


def report_of(path: Path, *names: str) -> str:
    writer = RunWriter.create(path, config_toml="", manifest={})
    if "before" in names:
        writer.evaluation("before", BEFORE, TOTALS)
    if "after" in names:
        writer.evaluation("after", AFTER, {**TOTALS, "accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95, "step": 60})
    writer.finish("finished" if "after" in names else "interrupted", {})
    out_console, out = console()
    print_report(Run(path), out_console, show=3)
    return out.getvalue()


def test_gained_problems_are_shown_first_and_lost_ones_before_the_rest() -> None:
    """Showing the first three rows would mostly show what did not change."""
    assert [later["id"] for _, later in choose(BEFORE, AFTER, 5)] == ["d", "e", "b", "c", "a"]


def test_the_report_compares_and_tells_how_it_chose(tmp_path: Path) -> None:
    """A choice of the best cases that does not say so misleads; a completion must not restyle the table."""
    shown = report_of(tmp_path / "run", "before", "after")
    assert "25.0 %  [20.0, 31.0]" in shown and "90.0 %  [80.0, 95.0]" in shown and "30.0 %  [26.0, 34.0]" in shown
    assert "3 of 5, not at random" in shown and "2 turned right, 1 turned wrong, 1 stayed right, 1 stayed wrong" in " ".join(shown.split())
    assert "(no text)" in shown, "an empty cell looks like a fault of the report"
    assert "✗ unreadable" in shown and "✓ right" in shown and "[/red][bold]x" in shown and "\x1b" not in shown
    assert "in the asked format" not in shown, "a figure that was not measured is left out, not shown as 0"


def test_the_report_says_what_is_missing(tmp_path: Path) -> None:
    """An interrupted run has no evaluation after; that must not crash the last words of a run."""
    assert "no evaluation to compare with: the run is interrupted" in " ".join(report_of(tmp_path / "half", "before").split())
    assert "not evaluated" in report_of(tmp_path / "none")


def ended(path: Path, status: str, **summary: Any) -> str:
    """What the report says of a run that ended after one step, on a narrow console."""
    writer = RunWriter.create(path, config_toml="", manifest={})
    writer.log(1, {"reward": 0.5})
    writer.finish(status, summary)
    out_console, out = console(width=30)
    print_report(Run(path), out_console)
    return out.getvalue()


def test_the_report_ends_with_what_to_do_next(tmp_path: Path) -> None:
    """A run that ends without a word on where it is leaves its reader to search; a wrapped command cannot be pasted."""
    finished = ended(tmp_path / "my run", "finished").splitlines()
    quoted = f"'{tmp_path}/my run'"
    assert finished[-3:] == [
        f"The run is in {tmp_path}/my run. Next:", f"  heron chat {quoted} --compare start", f"  heron ui {tmp_path}",
    ]
    assert ended(tmp_path / "half", "interrupted").splitlines()[-1] == f"  heron resume {tmp_path}/half"


def test_the_report_says_why_a_run_failed(tmp_path: Path) -> None:
    """The error was recorded and never shown: a failed run looked like one that was merely not evaluated."""
    shown = " ".join(ended(tmp_path / "run", "failed", error=f"RewardError: right raised on rows:3 {HOSTILE}").split())
    assert "failed after 1 step: RewardError: right raised on rows:3" in shown and "\x1b" not in shown
    assert "failed" not in ended(tmp_path / "fine", "finished")


def test_a_long_run_is_kept_in_a_bounded_number_of_steps() -> None:
    """Prevents: a live view that takes more memory with every step; a curve whose past is drawn to another scale than its present."""
    view = View()
    for step in range(1, 5001):
        view.remember(metrics(step))
        assert len(view.metrics) <= MOST
    steps = [record["step"] for record in view.metrics]
    assert steps[-RECENT:] == list(range(4981, 5001)) and view.step == 5000
    older = steps[:-RECENT]
    assert len(older) > MOST / 3 and {later - sooner for sooner, later in pairwise(older)} == {view.every}
    view.remember(metrics(4990))
    assert [record["step"] for record in view.metrics][-2:] == [4989, 4990]
