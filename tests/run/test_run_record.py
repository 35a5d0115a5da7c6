"""The record of a run: what is written is read back, and what a kill leaves is neither lost nor believed too much."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from heron.errors import RunError
from heron.run import Run, RunWriter, list_runs, records
from heron.run.index import Index
from heron.run.syncing import Syncer
from heron.types import Completion, FinishReason, Group, Prompt, Rollout, Turn


def make(path: Path) -> RunWriter:
    return RunWriter.create(path, config_toml='recipe = "arithmetic"\n', manifest={"model": "embedded"})


def group(*texts: str) -> Group:
    prompt = Prompt(id="rows:1", messages=({"role": "user", "content": "1 + 1?"},), columns={"answer": 2})
    completion = Completion(token_ids=(5, 6), logprobs=(-0.1, -0.2), finish_reason=FinishReason.LENGTH, policy_version=0)
    turns = (Turn(prompt_ids=(1,), completion=completion),)
    rollouts = [
        Rollout(prompt=prompt, turns=turns, text=text, rewards={"right": 1.0, "judge": None}, reward=1.0, advantage=float(index),
                verdict="right", extracted="2", follows_format=True)
        for index, text in enumerate(texts)
    ]
    return Group(prompt=prompt, rollouts=tuple(rollouts))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """A field that the writer forgets would leave the viewer, the report or the resume without it."""
    writer = make(tmp_path / "first")
    writer.event("start", max_steps=2)
    writer.log(1, {"reward": 0.5})
    writer.rollouts(1, [group("two", "three")])
    writer.evaluation("before", [{"id": "a", "verdict": "right"}], {"accuracy": 1.0, "step": 0})
    writer.finish("finished", {"steps": 1})
    run = Run(tmp_path / "first")
    assert run.status == "finished" and run.manifest["name"] == "first" and run.manifest["model"] == "embedded"
    assert run.settings == {"recipe": "arithmetic"} and run.summary == {"steps": 1}
    assert run.metrics() == [{"step": 1, "reward": 0.5}]
    assert [event["kind"] for event in run.events()] == ["start", "evaluation", "end"]
    assert run.evaluation("before").rows == ({"id": "a", "verdict": "right"},)
    assert run.evaluation("before").totals["accuracy"] == 1.0
    row = run.rollouts(1)[1]
    assert row == {
        "step": 1, "group": 0, "sibling": 1, "prompt": "rows:1", "question": "1 + 1?", "answer": "2", "prefilled": "", "text": "three",
        "rewards": {"right": 1.0, "judge": None}, "reward": 1.0, "advantage": 1.0, "finish_reason": "length", "length": 2,
        "verdict": "right", "extracted": "2", "follows_format": True,
    }  # fmt: skip


def test_conversation_is_written_behind_its_prompt(tmp_path: Path) -> None:
    """Prevents: a game of which only the last answer can be looked at, and answers of one turn that are stored twice."""
    one = group("4", "5")
    messages = (*one.prompt.messages, *({"role": role, "content": text} for role, text in (
        ("assistant", "3"), ("user", "lower"), ("assistant", "2"))))
    played = replace(one.rollouts[0], turns=one.rollouts[0].turns * 2, messages=messages)
    writer = make(tmp_path / "game")
    writer.rollouts(1, [replace(one, rollouts=(played, one.rollouts[1]))])
    first, second = Run(tmp_path / "game").rollouts(1)
    assert [message["content"] for message in first["conversation"]] == ["3", "lower", "2"]
    assert "conversation" not in second


WRITE_FOREVER = """
import sys
import time
from heron.run import RunWriter
writer = RunWriter.create(sys.argv[1], config_toml="", manifest={})
step = 0
while True:
    step += 1
    writer.log(step, {"reward": 1.0, "filler": 0.123456789})
    print(step, flush=True)
"""


def test_every_step_that_was_logged_survives_kill_9(tmp_path: Path) -> None:
    """A buffered or batching writer loses the last lines of a killed process."""
    process = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().split()]
    process.wait()
    run = Run(tmp_path / "run")
    steps = [record["step"] for record in run.metrics()]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= told[-1]
    assert run.status == "interrupted", "a killed run must not be shown as running for ever"


@pytest.mark.parametrize("torn", [b'{"step": 3, "rew', b'{"step": 3, "reward": 1.0}', b"\x00\x00\x00\n", b'{"step": 3, "te\n', b"\xff\xfe"])
def test_a_torn_last_line_is_ignored_and_repaired(tmp_path: Path, torn: bytes) -> None:
    """Appending after a torn line would spoil the next record too, and with it the whole file."""
    writer = make(tmp_path / "run")
    for step in (1, 2):
        writer.log(step, {"reward": float(step)})
    writer.close()
    with open(tmp_path / "run" / "metrics.jsonl", "ab") as file:
        file.write(torn)
    assert [record["step"] for record in Run(tmp_path / "run").metrics()] == [1, 2]
    again = RunWriter.reopen(tmp_path / "run", last_step=2)
    again.log(3, {"reward": 3.0})
    assert [record["step"] for record in Run(tmp_path / "run").metrics()] == [1, 2, 3]


def test_a_conversation_that_outgrew_the_context_is_recorded_as_cut_off(tmp_path: Path) -> None:
    """Prevents: rollouts that count as cut off among the numbers, and that no filter finds since their rows say that they stopped."""
    writer, (first, *others) = make(tmp_path / "run"), group("a", "b").rollouts
    said = replace(first.turns[0].completion, finish_reason=FinishReason.STOP)
    cut = [replace(each, turns=(Turn(prompt_ids=(1,), completion=said),), cut=each is first) for each in (first, *others)]
    writer.rollouts(1, [Group(prompt=first.prompt, rollouts=(each,)) for each in cut])
    writer.log(1, {"reward": 1.0})
    assert [row["finish_reason"] for row in Run(tmp_path / "run").rollouts(1)] == ["length", "stop"]
    index = Index(Run(tmp_path / "run"), tmp_path / "cache")
    index.refresh()
    assert [card.group for card in index.groups(filter="truncated").groups] == [0]


def test_a_spoilt_line_in_the_middle_is_named(tmp_path: Path) -> None:
    """Skipping it in silence would show a curve with steps missing."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl:2"):
        records.read_strictly(path)


def test_reopen_takes_back_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    """Steps that are trained again would be in the record twice, and rollouts of the abandoned branch would be shown."""
    writer = make(tmp_path / "run")
    writer.evaluation("before", [], {"accuracy": 0.1, "step": 0})
    for step in range(1, 5):
        writer.log(step, {"reward": 0.0})
        writer.rollouts(step, [group("a")])
    writer.evaluation("step-000004", [], {"accuracy": 0.2, "step": 4})
    writer.finish("interrupted", {})
    again = RunWriter.reopen(tmp_path / "run", last_step=2)
    run = Run(tmp_path / "run")
    assert [record["step"] for record in run.metrics()] == [1, 2]
    assert run.rollout_steps() == (1, 2)
    assert list(run.evaluations()) == ["before"]
    assert run.status == "running" and run.summary is None
    assert run.events("resume")[0]["last_step"] == 2
    again.close()


def test_a_run_has_one_writer(tmp_path: Path) -> None:
    """Two processes appending to one record would interleave two different trainings."""
    writer = make(tmp_path / "run")
    with pytest.raises(RunError, match="another process"):
        RunWriter.reopen(tmp_path / "run", last_step=0)
    writer.close()
    RunWriter.reopen(tmp_path / "run", last_step=0).close()


def test_create_refuses_a_directory_with_a_run(tmp_path: Path) -> None:
    """An earlier run would be overwritten."""
    make(tmp_path / "run").close()
    with pytest.raises(RunError, match="already holds a run"):
        make(tmp_path / "run")


def test_numbers_that_are_not_finite_and_lone_surrogates_can_be_recorded(tmp_path: Path) -> None:
    """`NaN` is no JSON and stops a browser; half a surrogate pair, which a cut completion may hold, stops UTF-8."""
    writer = make(tmp_path / "run")
    writer.log(1, {"loss": float("nan"), "kl": float("inf"), "reward": 1.0})
    writer.rollouts(1, [group("cut \ud83d", "\u2028\x1b")])
    run = Run(tmp_path / "run")
    assert run.metrics() == [{"step": 1, "loss": None, "kl": None, "reward": 1.0}]
    assert [row["text"] for row in run.rollouts(1)] == ["cut \ud83d", "\u2028\x1b"]
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_listeners_hear_the_stream_and_cannot_stop_it(tmp_path: Path) -> None:
    """A viewer with a bug, or a closed pipe, would end hours of training."""
    writer, heard = make(tmp_path / "run"), []

    def broken(kind: str, payload: object) -> None:
        raise BrokenPipeError("gone")

    writer.subscribe(broken)
    writer.subscribe(lambda kind, payload: heard.append((kind, dict(payload))))
    with pytest.warns(UserWarning, match="switched off"):
        writer.event("start", max_steps=3)
    writer.progress("sample", 1, 2)
    writer.log(1, {"reward": 2.0})
    writer.finish("finished", {"steps": 1})
    assert [kind for kind, _ in heard if kind != "listener_failed"] == ["start", "progress", "metrics", "end"]
    assert ("metrics", {"step": 1, "reward": 2.0}) in heard
    assert "BrokenPipeError" in Run(tmp_path / "run").events("listener_failed")[0]["error"]
    assert not Run(tmp_path / "run").events("progress"), "progress is for viewers, not for the record"


def test_a_path_that_is_no_run_gets_advice(tmp_path: Path) -> None:
    """`heron eval runs` instead of `heron eval runs/first` is the usual mistake."""
    make(tmp_path / "runs" / "first").close()
    with pytest.raises(RunError, match=r"holds 1: name one, such as .*first"):
        Run(tmp_path / "runs")
    with pytest.raises(RunError, match="no run at"):
        Run(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"no evaluation 'befor'.*Did you mean"):
        writer = RunWriter.reopen(tmp_path / "runs" / "first", last_step=0)
        writer.evaluation("before", [], {"accuracy": 0.0, "step": 0})
        Run(tmp_path / "runs" / "first").evaluation("befor")
    with pytest.raises(RunError, match="no rollouts of step 7"):
        Run(tmp_path / "runs" / "first").rollouts(7)


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    """The run one has just started must be the one that is shown, even next to one whose manifest is spoilt."""
    for name, created in (("b-old", "2026-01-01"), ("a-new", "2026-02-02"), ("c-bad", "2026-03-03")):
        RunWriter.create(tmp_path / name, config_toml="", manifest={"created": created}).close()
    (tmp_path / "c-bad" / "run.json").write_text("{")
    assert [run.path.name for run in list_runs(tmp_path)] == ["a-new", "b-old", "c-bad"]
    with pytest.raises(RunError, match="no folder"):
        list_runs(tmp_path / "missing")


def test_a_wrong_path_is_answered_with_the_newest_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run directories carry the time in their name, which nobody types right; the last in the alphabet need not be the newest."""
    monkeypatch.chdir(tmp_path)
    for name, created in (("z-old", "2026-01-01"), ("a-new", "2026-02-02")):
        RunWriter.create(Path("runs") / name, config_toml="", manifest={"created": created}).close()
    (tmp_path / "elsewhere").mkdir()
    for wrong in ("runs/a-nwe", "elsewhere"):
        with pytest.raises(RunError, match=r"The newest run here is runs/a-new\."):
            Run(wrong)
    with pytest.raises(RunError, match=r"holds 2: name one, such as runs/a-new, the newest\."):
        Run("runs")


def test_what_was_written_reaches_the_disk_within_the_interval(tmp_path: Path) -> None:
    """Prevents: a record that a power cut takes hours of, and one that the trainer waits for."""
    synced: list[str] = []
    real = os.fsync
    with mock.patch("heron.run.syncing.os.fsync", side_effect=lambda descriptor: (
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}")), real(descriptor))):
        syncer = Syncer(interval=0.05)
        for name in ("a", "b", "a"):
            (tmp_path / name).write_text(name)
            syncer.wrote(tmp_path / name)
        deadline = time.monotonic() + 5
        while {Path(path).name for path in synced if Path(path).parent == tmp_path} != {"a", "b"} and time.monotonic() < deadline:
            time.sleep(0.01)
        assert {Path(path).name for path in synced if Path(path).parent == tmp_path} == {"a", "b"}
        (tmp_path / "last").write_text("last")
        syncer.wrote(tmp_path / "gone")
        syncer.wrote(tmp_path / "last")
        syncer.close()
        assert "last" in {Path(path).name for path in synced}, "closing syncs what is left; a file that was taken back is no error"


def test_a_disk_that_keeps_nothing_is_an_error_and_not_silence(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    with mock.patch("heron.run.syncing.os.fsync", side_effect=OSError(28, "No space left on device")):
        syncer = Syncer(interval=0.01)
        syncer.wrote(tmp_path / "a")
        with pytest.raises(RunError, match="No space left"):
            for _ in range(500):
                syncer.wrote(tmp_path / "a")
                time.sleep(0.01)
        syncer.close()
