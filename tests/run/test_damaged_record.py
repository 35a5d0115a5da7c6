"""Records that a full disk, a copy in part, or a hand has damaged: what is left of them is read, and what is missing is said."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner

from heron.cli.main import app
from heron.cli.show_runs import print_diagnosis, print_difference, print_run, print_runs
from heron.errors import RunError, SaveError
from heron.run import Run, RunWriter, TerminalView, Watchman, print_report, reward_curve_svg
from heron.run.about import end_figures
from heron.run.curve import right_answers_svg
from heron.run.flaws import flaws
from heron.run.handout import handout, reward_png
from heron.run.index import Index
from heron.run.text import duration, number
from heron.run.watch import follow
from heron.types import Completion, FinishReason, Group, Prompt, Rollout, Turn

COMPLETION = Completion(token_ids=(5,), logprobs=(-0.1,), finish_reason=FinishReason.STOP, policy_version=0)
ROLLOUT = Rollout(
    prompt=Prompt(id="a", messages=({"role": "user", "content": "What?"},)), turns=(Turn(prompt_ids=(1,), completion=COMPLETION),),
    text="so it is",
)
ROWS = [{"id": name, "question": "What?", "answer": "42", "text": "41", "verdict": "wrong"} for name in ("a", "b")]


def make(path: Path, steps: int = 3) -> RunWriter:
    writer = RunWriter.create(path, config_toml='recipe = "arithmetic"\n', manifest={"model": "embedded"})
    for step in range(1, steps + 1):
        writer.rollouts(step, [Group(prompt=ROLLOUT.prompt, rollouts=(replace(ROLLOUT, reward=float(step)),))])
        writer.log(step, {"reward": float(step)})
    return writer


def finished(path: Path) -> None:
    writer = make(path)
    for name, accuracy in (("before", 0.0), ("after", 0.5)):
        writer.evaluation(name, ROWS, {"accuracy": accuracy, "problems": 2, "step": 0})
    writer.finish("finished", {"seconds": 3.0})


def full_after(taken: int) -> Callable[[int, bytes], int]:
    """A disk that takes so many more bytes of one line, and then none."""
    left = [taken]
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        part, left[0] = data[: left[0]], 0
        return real(descriptor, part)

    return write


@pytest.mark.parametrize("taken", [0, 1, 20])
def test_a_line_that_a_full_disk_took_half_of_is_taken_back(tmp_path: Path, taken: int) -> None:
    """Prevents: the next line glued to the torn half, which made the record unreadable and the run one that cannot be resumed."""
    writer = make(tmp_path / "run")
    with mock.patch("heron.run.records.os.write", full_after(taken)), pytest.raises(SaveError, match="No space"):
        writer.event("checkpoint", step=3, path="step-000003", bytes=1, free_bytes=1)
    writer.event("message", text="Stopped in step 4.")
    with mock.patch("heron.run.records.os.write", full_after(taken)), pytest.raises(SaveError, match="No space"):
        writer.log(4, {"reward": 4.0})
    writer.finish("failed", {"error": "OSError"})
    run = Run(tmp_path / "run")
    assert [event["kind"] for event in run.events()] == ["message", "end"] and run.torn() == ()
    again = RunWriter.reopen(tmp_path / "run", last_step=3)
    again.log(4, {"reward": 5.0})
    assert [record["reward"] for record in run.metrics()] == [1.0, 2.0, 3.0, 5.0]


@pytest.mark.parametrize("name", ["step-000001 (conflicted copy).jsonl", "step-x.jsonl", "step-1.jsonl", "step-٣٣٣٣٣٣.jsonl"])
def test_a_file_that_is_no_step_s_is_left_alone(tmp_path: Path, name: str) -> None:
    """Prevents: a run that cannot be resumed, since a program that keeps folders alike put a copy beside its rollouts."""
    make(tmp_path / "run").close()
    (tmp_path / "run" / "rollouts" / name).write_text('{"step": 1}\n')
    assert Run(tmp_path / "run").rollout_steps() == (1, 2, 3)
    RunWriter.reopen(tmp_path / "run", last_step=1).close()
    assert Run(tmp_path / "run").rollout_steps() == (1,) and (tmp_path / "run" / "rollouts" / name).exists()


def put(path: Path, name: str, *lines: str) -> None:
    """Insert lines after the first one."""
    first, *others = (path / name).read_text().splitlines()
    (path / name).write_text("\n".join([first, *lines, *others]) + "\n")


BAD = ("5", "null", '{"step": 2, "rew', '{"kind": 7, "step": "two"}', "\x00\x00", "[" * 100_000)
LOOKS: dict[str, Callable[[Run], object]] = {
    "doctor": print_diagnosis, "show": print_run, "list": lambda run: print_runs(run.path.parent, [run]), "report": print_report,
    "page": handout, "curve": reward_curve_svg, "right answers": right_answers_svg, "end": end_figures,
    "diff": lambda run: print_difference(run, run), "watch": lambda run: follow(run, TerminalView()), "png": reward_png,
}


@pytest.mark.parametrize("look", LOOKS)
def test_lines_that_are_no_records_hide_no_others(tmp_path: Path, look: str) -> None:
    """Prevents: one spoilt line, in the middle of a record of days, after which no command opens the run."""
    finished(tmp_path / "run")
    for name in ("metrics.jsonl", "events.jsonl", "evaluation/before.jsonl", "evaluation/after.jsonl", "rollouts/step-000001.jsonl"):
        put(tmp_path / "run", name, *BAD)
    run = Run(tmp_path / "run")
    LOOKS[look](run)
    assert [record["step"] for record in run.metrics()] == [1, 2, 3] and len(run.rollouts(1)) == 1
    assert len(run.evaluation("after").rows) == 2
    assert flaws(run) == tuple(
        f"{name}: 6 lines cannot be read and are left out." for name in
        ("metrics.jsonl", "events.jsonl", "evaluation/before.jsonl", "evaluation/after.jsonl"))


def test_resuming_is_strict(tmp_path: Path) -> None:
    """Prevents: a resume that writes a record anew without the lines that somebody could still have mended."""
    make(tmp_path / "run").close()
    put(tmp_path / "run", "metrics.jsonl", *BAD)
    with pytest.raises(RunError, match=r"metrics\.jsonl:2 is not a JSON object"):
        RunWriter.reopen(tmp_path / "run", last_step=3)


@pytest.mark.parametrize("words", [["doctor", "{}"], ["runs", "show", "{}"], ["runs", "{}/.."], ["watch", "{}"]])
def test_what_is_missing_is_said(tmp_path: Path, words: list[str]) -> None:
    """Prevents: a torn line that is left out in silence, and a copy in part that nobody notices."""
    finished(tmp_path / "run")
    with open(tmp_path / "run" / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 4, "re')
    put(tmp_path / "run", "events.jsonl", "5")
    (tmp_path / "run" / "config.toml").unlink()
    result = CliRunner().invoke(app, [word.format(tmp_path / "run") for word in words], catch_exceptions=False)
    said = " ".join(result.output.split())
    assert "metrics.jsonl: the last line is incomplete and is left out, as a kill in the middle of a write leaves it." in said
    assert "events.jsonl: one line cannot be read and is left out." in said
    assert "config.toml is missing, so this record is incomplete." in said


@pytest.mark.parametrize("words", [["doctor", "{}", "--json"], ["runs", "show", "{}", "--json"], ["runs", "{}/..", "--json"]])
def test_what_is_missing_is_said_to_programs(tmp_path: Path, words: list[str]) -> None:
    finished(tmp_path / "run")
    put(tmp_path / "run", "metrics.jsonl", "5")
    result = CliRunner().invoke(app, [word.format(tmp_path / "run") for word in words], catch_exceptions=False)
    told = json.loads(result.output)
    assert (told[0] if isinstance(told, list) else told)["flaws"] == ["metrics.jsonl: one line cannot be read and is left out."]


def test_the_page_to_send_says_what_is_missing(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    put(tmp_path / "run", "metrics.jsonl", "5")
    assert "metrics.jsonl: one line cannot be read and is left out." in handout(Run(tmp_path / "run"))


def test_a_line_that_is_being_written_is_no_flaw(tmp_path: Path) -> None:
    """Prevents: a warning that comes and goes while a run is watched."""
    writer = make(tmp_path / "run")
    with open(tmp_path / "run" / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 4, "re')
    assert flaws(Run(tmp_path / "run")) == ()
    writer.close()
    assert len(flaws(Run(tmp_path / "run"))) == 1


@pytest.mark.parametrize("spoilt", ["", "5", "null", "[]", "{", "\x00"])
@pytest.mark.parametrize("name", ["run.json", "summary.json"])
def test_a_spoilt_run_is_listed_with_its_error_beside_the_others(tmp_path: Path, name: str, spoilt: str) -> None:
    """Prevents: one empty file that hides every other run of the folder."""
    finished(tmp_path / "whole")
    finished(tmp_path / "spoilt")
    (tmp_path / "spoilt" / name).write_text(spoilt)
    shown = CliRunner().invoke(app, ["runs", str(tmp_path)], catch_exceptions=False).output
    assert "whole" in shown and "finished" in shown
    told = json.loads(CliRunner().invoke(app, ["runs", str(tmp_path), "--json"], catch_exceptions=False).output)
    by_name = {Path(each["path"]).name: each for each in told}
    assert by_name["whole"]["status"] == "finished"
    if name == "run.json":
        assert by_name["spoilt"]["status"] == "unreadable" and "run.json" in by_name["spoilt"]["error"]
        assert "unreadable" in shown and "run.json" in " ".join(shown.split())
    with pytest.raises(RunError, match=rf"{name} (is not valid JSON|is not a JSON object)"):
        print_run(Run(tmp_path / "spoilt"))


@pytest.mark.parametrize("text", [None, "a = [", "\udcff"])
@pytest.mark.parametrize("look", LOOKS)
def test_a_run_without_readable_settings_is_shown_without_them(tmp_path: Path, look: str, text: str | None) -> None:
    """Prevents: a traceback about a folder that was copied in part."""
    finished(tmp_path / "run")
    if text is None:
        (tmp_path / "run" / "config.toml").unlink()
    else:
        (tmp_path / "run" / "config.toml").write_bytes(text.encode(errors="surrogateescape"))
    run = Run(tmp_path / "run")
    assert len(flaws(run)) == 1 and flaws(run)[0].startswith("config.toml ")
    if look == "diff":
        with pytest.raises(RunError, match=r"config\.toml (is missing|cannot be read)"):
            LOOKS[look](run)
    else:
        LOOKS[look](run)


@pytest.mark.parametrize("look", LOOKS)
def test_figures_that_are_null_are_none(tmp_path: Path, look: str) -> None:
    """Prevents: sums with nothing, where a number was not finite when it was recorded."""
    nothing = dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "format_rate", "mean_reward", "pass_at_1", "mean_length"))
    writer = make(tmp_path / "run")
    for step in range(4, 60):
        writer.log(step, {"reward": step / 10, "pass@1": 0.2, "completions/unreadable": float("nan"), "completions/format_rate": 0.5})
    writer.log(60, dict.fromkeys(("reward", "reward_std", "pass@1", "completions/unreadable", "entropy", "grad_norm"), float("nan")))
    for name in ("before", "after"):
        writer.evaluation(name, ROWS, {"problems": 2, "step": 0, **nothing})
    writer.finish("finished", {"seconds": float("nan")})
    LOOKS[look](Run(tmp_path / "run"))


HUGE = (1e308, -1e308, 1.7e308, 1e200, -1e200, 5e-324, float("nan"), float("inf"))


@pytest.mark.parametrize("look", [*LOOKS, "index"])
def test_any_number_that_was_recorded_can_be_looked_at(tmp_path: Path, look: str) -> None:
    """Prevents: an overflow in a mean, a variance or the scale of a picture, since one reward was absurd."""
    writer = make(tmp_path / "run")
    writer.subscribe(Watchman(writer))
    names = ("reward", "reward_std", "pass@1", "completions/unreadable", "completions/mean_length", "completions/format_rate", "grad_norm",
             "entropy", "kl", "learning_rate", "time/step", "memory/peak_gib", "rewards/a/mean", "rewards/a/std", "rewards/b/mean")
    for step in range(4, 80):
        writer.log(step, {name: HUGE[(step + place) % len(HUGE)] for place, name in enumerate(names)})
    for name in ("before", "after"):
        writer.evaluation(name, ROWS, {"problems": 2, "step": 0, "accuracy": 0.5, "mean_reward": 1e308, "mean_length": 1e308})
    writer.finish("finished", {"seconds": 1e308})
    run = Run(tmp_path / "run")
    assert not run.events("listener_failed")
    if look == "index":
        index = Index(run, tmp_path / "cache")
        index.refresh()
        assert len(index.curves(["reward"])["reward"].steps) == 79
    else:
        LOOKS[look](run)


def test_huge_numbers_are_written_short() -> None:
    """Prevents: a table of three hundred digits."""
    assert number(1e308) == "1e+308" and number(-2.5e12) == "-2.5e+12" and number(123456.789) == "123456.79"
    assert duration(1e308) == duration(float("inf")) == "-" and number(10**400) == "-"
