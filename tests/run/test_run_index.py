"""The index of a run: it says what the record says, notices when the record changes, and never loses the newest or the extreme."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from heron.errors import RunError
from heron.run import Run, RunWriter
from heron.run.index import Index, reading, rollouts
from heron.types import Completion, FinishReason, Group, Prompt, Rollout, Turn


def make(path: Path, **manifest: Any) -> RunWriter:
    return RunWriter.create(path, config_toml="", manifest=manifest)


def group(name: str, rows: Sequence[Mapping[str, Any]]) -> Group:
    """Of siblings with these fields; `length` tokens long, cut off where `cut`."""
    prompt = Prompt(id=name, messages=({"role": "user", "content": f"What is {name}?"},), columns={"answer": "42"})
    return Group(prompt=prompt, rollouts=tuple(_rollout(prompt, **row) for row in rows))


def _rollout(
    prompt: Prompt, text: str = "", reward: float = 1.0, advantage: float = 0.0, verdict: str | None = "right", length: int = 2,
    cut: bool = False, error: str | None = None,
) -> Rollout:  # fmt: skip
    reason = FinishReason.LENGTH if cut else FinishReason.STOP
    completion = Completion(token_ids=(5,) * length, logprobs=(-0.1,) * length, finish_reason=reason, policy_version=0)
    return Rollout(
        prompt=prompt, turns=(Turn(prompt_ids=(1,), completion=completion),), text=text, rewards={"right": reward}, reward=reward,
        advantage=advantage, verdict=verdict, error=error,
    )  # fmt: skip


def record(writer: RunWriter, steps: range, jitter: float = 0.0) -> None:
    for step in steps:
        writer.rollouts(step, [group("a", [{"text": f"step {step}"}])])
        writer.log(step, {"reward": step + jitter})


def opened(path: Path, folder: Path) -> Index:
    index = Index(Run(path), folder)
    index.refresh()
    return index


def steps_of(index: Index, **query: Any) -> list[int]:
    return [card.step for card in index.groups(**query).groups]


def test_it_says_what_the_record_says(tmp_path: Path) -> None:
    """Prevents: a page that shows other figures than the files."""
    writer = make(tmp_path / "run")
    record(writer, range(1, 6))
    writer.log(6, {"reward": float("nan"), "kl": 0.5})
    index = opened(tmp_path / "run", tmp_path / "cache")
    assert index.names() == ["reward", "kl"] and index.last_step() == 6
    curves = index.curves(["reward", "kl", "nobody"])
    assert (curves["reward"].steps, curves["reward"].values) == ([1, 2, 3, 4, 5, 6], [1.0, 2.0, 3.0, 4.0, 5.0, None])
    assert (curves["kl"].steps, curves["kl"].values) == ([6], [0.5])
    assert curves["nobody"].steps == []
    assert index.curves(["reward"], after=4)["reward"].steps == [5, 6]
    assert [row["step"] for row in index.latest(2)] == [5, 6] and [row["step"] for row in index.first(2)] == [1, 2]
    assert steps_of(index) == [5, 4, 3, 2, 1] and steps_of(index, order="oldest", limit=2, offset=1) == [2, 3]
    assert steps_of(index, limit=2, offset=3) == [2, 1]
    (card,) = index.groups(step=3).groups
    assert (card.prompt, card.question, card.answer, card.group) == ("a", "What is a?", "42", 0)
    assert (card.siblings[0].reward, card.siblings[0].verdict, card.siblings[0].length) == (1.0, "right", 2)
    assert index.group(3, 0) == Run(tmp_path / "run").rollouts(3)


def test_nothing_is_written_into_the_run(tmp_path: Path) -> None:
    """Prevents: a viewer that changes the record, or cannot show one that it may only read."""
    record(make(tmp_path / "run"), range(1, 4))
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*"))
    opened(tmp_path / "run", tmp_path / "cache").close()
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*")) == before


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """Prevents: new steps that a page never shows, and a record that is read from the beginning each time."""
    writer = make(tmp_path / "run")
    record(writer, range(1, 4))
    first = opened(tmp_path / "run", tmp_path / "cache")
    record(writer, range(4, 7))
    first.refresh()
    assert first.curves(["reward"])["reward"].steps == [1, 2, 3, 4, 5, 6] and steps_of(first) == [6, 5, 4, 3, 2, 1]
    first.close()
    with mock.patch("heron.run.index.columns._add", side_effect=AssertionError("read again")):
        assert opened(tmp_path / "run", tmp_path / "cache").curves(["reward"])["reward"].steps == [1, 2, 3, 4, 5, 6]


def test_a_large_folder_is_not_listed_all_the_time_but_when_all_is_wanted(tmp_path: Path) -> None:
    """Prevents: a page that does nothing but list files, and an index that leaves out the newest ones."""
    writer = make(tmp_path / "run")
    record(writer, range(1, 4))
    with mock.patch.object(rollouts, "PATIENCE", 10**9):
        index = opened(tmp_path / "run", tmp_path / "cache")
        record(writer, range(4, 6))
        assert index.refresh(60).rollouts_total == 3
        assert index.refresh().rollouts_total == 5


def test_what_is_settled_is_not_looked_at_again(tmp_path: Path) -> None:
    """Prevents: a hundred thousand files that are looked up each second, or listed whenever a finished run is opened."""
    record(make(tmp_path / "run"), range(1, 6))
    os.utime(tmp_path / "run" / "rollouts", (1e9, 1e9))
    index = opened(tmp_path / "run", tmp_path / "cache")
    no = AssertionError("looked at again")
    with mock.patch("os.listdir", side_effect=no), mock.patch.object(rollouts, "identity", side_effect=no):
        index.refresh()
        assert opened(tmp_path / "run", tmp_path / "cache").refresh().rollouts_total == 5


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_resume_that_takes_steps_back_is_noticed(tmp_path: Path, is_watched: bool) -> None:
    """Prevents: a curve with steps of the abandoned branch, and its groups; also if nobody looked while it was shorter."""
    writer = make(tmp_path / "run")
    record(writer, range(1, 9))
    writer.rollouts(9, [group("a", [{"text": "abandoned"}])])
    index = opened(tmp_path / "run", tmp_path / "cache")
    generation = index.generation
    writer.close()
    again = RunWriter.reopen(tmp_path / "run", last_step=4)
    if is_watched:
        index.refresh()
        assert index.generation > generation and steps_of(index) == [4, 3, 2, 1]
    record(again, range(5, 10), jitter=0.5)
    index.refresh()
    assert index.generation > generation
    assert index.curves(["reward"])["reward"].values == [1.0, 2.0, 3.0, 4.0, 5.5, 6.5, 7.5, 8.5, 9.5]
    assert steps_of(index) == list(range(9, 0, -1)) and not index.groups(search="abandoned").total


@pytest.mark.parametrize("again", [3, 9, 12])
def test_a_resume_is_noticed_without_rollouts(tmp_path: Path, again: int) -> None:
    """Prevents: a curve of two branches, of a run that records figures only."""
    writer = make(tmp_path / "run")
    for step in range(1, 10):
        writer.log(step, {"reward": float(step)})
    index = opened(tmp_path / "run", tmp_path / "cache")
    writer.close()
    writer = RunWriter.reopen(tmp_path / "run", last_step=2)
    for step in range(3, again + 1):
        writer.log(step, {"reward": step + 0.5})
    index.refresh()
    assert index.curves(["reward"])["reward"].values == [1.0, 2.0, *(step + 0.5 for step in range(3, again + 1))]


def test_rollouts_of_a_step_that_was_never_logged_are_read_again(tmp_path: Path) -> None:
    """Prevents: answers of a step that was killed before its end, shown under the step that was trained in its place."""
    writer = make(tmp_path / "run")
    record(writer, range(1, 4))
    writer.rollouts(4, [group("a", [{"text": "killed"}])])
    index = opened(tmp_path / "run", tmp_path / "cache")
    writer.close()
    again = RunWriter.reopen(tmp_path / "run", last_step=3)
    again.rollouts(4, [group("a", [{"text": "anew and longer"}])])
    again.log(4, {"reward": 0.0})
    index.refresh()
    assert index.groups(search="killed").total == 0 and steps_of(index, search="longer") == [4]


def test_a_resume_that_logs_the_same_figures_is_noticed(tmp_path: Path) -> None:
    """Prevents: answers of the abandoned branch, where the figures of both are the same to the last digit."""
    writer = make(tmp_path / "run")
    record(writer, range(1, 5))
    index = opened(tmp_path / "run", tmp_path / "cache")
    writer.close()
    again = RunWriter.reopen(tmp_path / "run", last_step=3)
    again.rollouts(4, [group("a", [{"text": "another answer"}])])
    again.log(4, {"reward": 4.0})
    index.refresh()
    assert steps_of(index, search="another") == [4]


def test_another_run_at_the_same_path_is_another_run(tmp_path: Path) -> None:
    """Prevents: yesterday's curve under today's name."""
    for created, steps in (("yesterday", range(1, 9)), ("today", range(1, 4))):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        record(make(tmp_path / "run", created=created), steps)
        index = opened(tmp_path / "run", tmp_path / "cache")
    assert index.curves(["reward"])["reward"].steps == [1, 2, 3] and steps_of(index) == [3, 2, 1]


def test_rollouts_that_were_deleted_to_make_room_are_gone(tmp_path: Path) -> None:
    """Prevents: groups in a list that cannot be opened."""
    record(make(tmp_path / "run"), range(1, 5))
    index = opened(tmp_path / "run", tmp_path / "cache")
    for step in (1, 2):
        (tmp_path / "run" / "rollouts" / f"step-{step:06d}.jsonl").unlink()
    reading_again = Index(Run(tmp_path / "run"), tmp_path / "cache")
    reading_again.refresh()
    assert steps_of(reading_again) == [4, 3]
    with pytest.raises(RunError, match="no rollouts of step 1"):
        index.group(1, 0)


def test_torn_and_spoilt_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    """Prevents: a page that does not open since a kill cut a line, or a disk spoilt one; and one that hides it."""
    writer = make(tmp_path / "run")
    record(writer, range(1, 4))
    writer.close()
    with open(tmp_path / "run" / "metrics.jsonl", "ab") as file:
        file.write(b'\x00\x00\n{"no": "step"}\n{"step": 4, "reward": 4.0}\n{"step": 5, "rew')
    with open(tmp_path / "run" / "rollouts" / "step-000002.jsonl", "ab") as file:
        file.write(b'{"step": 2, "group": 0, "sib')
    index = opened(tmp_path / "run", tmp_path / "cache")
    assert index.curves(["reward"])["reward"].steps == [1, 2, 3, 4] and index.last_step() == 4
    assert index.torn == 4 and Run(tmp_path / "run").torn() == ("metrics.jsonl",)
    with open(tmp_path / "run" / "metrics.jsonl", "ab") as file:
        file.write(b'ard": 5.0}\n')
    index.refresh()
    assert index.last_step() == 5 and index.torn == 3, "a line that was still being written is none that was torn"


def test_first_look_at_a_large_run_shows_all_of_it(tmp_path: Path) -> None:
    """Prevents: an empty screen, or one of last week, while a long record is read."""
    writer = make(tmp_path / "run")
    record(writer, range(1, 41))
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.writelines(f'{{"step": {step}, "reward": {step}}}\n' for step in range(41, 4001))
    with mock.patch.multiple(reading, MUCH=1000, SKETCH=50):
        index = Index(Run(tmp_path / "run"), tmp_path / "cache")
        progress = index.refresh(0.0)
        assert progress.metrics_bytes_done == 0 and not progress.is_done
        curve = index.curves(["reward"])["reward"]
        assert curve.steps[0] == 1 and curve.steps[-1] == 4000 and index.names() == ["reward"]
        assert max(later - earlier for earlier, later in pairwise(curve.steps)) < 200
        assert steps_of(index)[0] == 40
        while not progress.is_done:
            progress = index.refresh(0.0)
            assert index.curves(["reward"])["reward"].steps[-1] == 4000
    assert index.curves(["reward"], points=5000)["reward"].steps == list(range(1, 4001))
    assert index.groups().total == 40


def test_two_pages_share_an_index(tmp_path: Path) -> None:
    """Prevents: two processes that index the same lines twice, or one that fails while the other writes."""
    record(make(tmp_path / "run"), range(1, 6))
    first, second = (Index(Run(tmp_path / "run"), tmp_path / "cache") for _ in range(2))
    with first._store.writing():
        assert second.refresh().metrics_bytes_done == 0, "it waits for nobody"
    first.refresh(), second.refresh()
    for index in (first, second):
        assert index.curves(["reward"])["reward"].steps == [1, 2, 3, 4, 5] and index.groups().total == 5
    assert second.refresh().is_done
    with first._store.writing() as writing:
        assert writing is not None
        writing.start_over()
    assert second.groups().total == 0 and second.refresh().is_done and second.groups().total == 5, "the other one may have died since"


def test_threads_ask_while_one_reads(tmp_path: Path) -> None:
    """Prevents: a page request that fails, or sees half of a step, while the index goes on."""
    writer = make(tmp_path / "run")
    record(writer, range(1, 150))
    index, failures = Index(Run(tmp_path / "run"), tmp_path / "cache"), []
    is_done = threading.Event()

    def ask() -> None:
        try:
            while not is_done.is_set():
                page = index.groups(search="step")
                assert len(page.groups) == min(20, page.total)
                curve = index.curves(["reward"])["reward"]
                assert curve.values == [float(step) for step in curve.steps]
        except Exception as error:  # boundary: told to the test
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    while not index.refresh(0.0).is_done:
        pass
    is_done.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_spoilt_index_is_made_anew(tmp_path: Path) -> None:
    """Prevents: a cache that has to be deleted by hand before the page opens again."""
    record(make(tmp_path / "run"), range(1, 4))
    opened(tmp_path / "run", tmp_path / "cache").close()
    (path,) = (tmp_path / "cache").glob("*.sqlite")
    path.write_bytes(b"not a database" * 1000)
    assert steps_of(opened(tmp_path / "run", tmp_path / "cache")) == [3, 2, 1]


def test_a_cache_that_cannot_be_written_gets_advice(tmp_path: Path) -> None:
    record(make(tmp_path / "run"), range(1, 2))
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RunError, match="XDG_CACHE_HOME"):
        Index(Run(tmp_path / "run"), tmp_path / "cache")


def test_index_lies_in_the_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: two runs of one name that share an index."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for place in ("here", "there"):
        record(make(tmp_path / place / "run"), range(1, 2))
        Index(Run(tmp_path / place / "run")).close()
    assert len(list((tmp_path / "home" / "heron" / "index").glob("run-*.sqlite"))) == 2


def test_indexes_of_runs_that_are_gone_make_room(tmp_path: Path) -> None:
    """Prevents: a cache that grows with every run that ever was, and one that loses an index that is needed."""
    for name in ("gone", "kept", "new"):
        record(make(tmp_path / name), range(1, 3))
    opened(tmp_path / "gone", tmp_path / "cache").close()
    opened(tmp_path / "kept", tmp_path / "cache").close()
    (tmp_path / "cache" / "not-ours.sqlite").write_text("something else")
    shutil.rmtree(tmp_path / "gone")
    opened(tmp_path / "new", tmp_path / "cache").close()
    left = sorted(path.name.rsplit("-", 1)[0] for path in (tmp_path / "cache").iterdir())
    assert left == ["kept", "new", "not"]


def test_text_that_is_no_unicode_does_not_stop_it(tmp_path: Path) -> None:
    """Prevents: an index that ends at an answer that was cut in the middle of a character."""
    writer = make(tmp_path / "run")
    writer.rollouts(1, [group("half \ud83d", [{"text": "cut \ud83d"}]), group("nul", [{"text": "before\0after"}])])
    writer.log(1, {"reward": 0.0})
    index = opened(tmp_path / "run", tmp_path / "cache")
    assert [card.prompt for card in index.groups(search="cut").groups] == ["half ?"]
    assert index.groups(prompt="half \ud83d").total == 1 and index.groups(search="\ud83d").total == 0
    assert index.group(1, 0)[0]["text"] == "cut \ud83d" and index.group(1, 1)[0]["text"] == "before\0after"


def test_a_last_line_that_is_spoilt_hides_no_step(tmp_path: Path) -> None:
    """Prevents: a run that seems to have no steps, since a power cut left zeros at the end of its record."""
    writer = make(tmp_path / "run")
    record(writer, range(1, 4))
    with open(tmp_path / "run" / "metrics.jsonl", "ab") as file:
        file.write(b"\x00" * 100 + b"\n")
    index = Index(Run(tmp_path / "run"), tmp_path / "cache")
    assert index.last_step() == 3 and [row["step"] for row in index.latest(2)] == [2, 3]


def test_metrics_of_many_chunks_and_of_late_names(tmp_path: Path) -> None:
    """Prevents: a figure that began late, or pauses, drawn at the wrong steps."""
    late = {step: {"late": -step} for step in range(705, 1801, 5)}
    lines = [json.dumps({"step": step, "reward": step / 7, **late.get(step, {})}) for step in range(1, 1801)]
    make(tmp_path / "run").close()
    index = Index(Run(tmp_path / "run"), tmp_path / "cache")
    for start in range(0, 1800, 260):
        with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
            file.write("\n".join(lines[start : start + 260]) + "\n")
        index.refresh()
    curves = index.curves(["reward", "late"], points=2000)
    assert curves["reward"].steps == list(range(1, 1801)) and curves["reward"].values[-1] == 1800 / 7
    assert curves["late"].steps == list(range(705, 1801, 5)) and curves["late"].values[0] == -705.0
    assert index.curves(["late"], after=1500)["late"].steps == list(range(1505, 1801, 5))
    assert [row["step"] for row in index.latest(700)] == list(range(1101, 1801))
    assert [row["step"] for row in index.first(1000)] == list(range(1, 1001))
    assert math.isclose(os.path.getsize(tmp_path / "run" / "metrics.jsonl"), index.refresh().metrics_bytes_done)
