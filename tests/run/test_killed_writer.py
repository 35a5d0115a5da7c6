"""A process that writes a run as fast as it can and is killed twenty times, so that kills meet writes: what it reported is in the record,
and every index of it is true. (A real training, and the page, are killed in `tests/e2e`.)"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heron.run import Run
from heron.run.index import Index

KILLS = 20
WRITE_ON = """
import os
import sys
from heron.run import Run, RunWriter
from heron.types import Completion, FinishReason, Group, Prompt, Rollout, Turn
path, last = sys.argv[1], int(sys.argv[2])
writer = RunWriter.reopen(path, last_step=last) if last else RunWriter.create(path, config_toml="", manifest={})
prompt = Prompt(id="a", messages=({"role": "user", "content": "What?"},), columns={"answer": "42"})
turn = Turn(prompt_ids=(1,), completion=Completion(token_ids=(5,), logprobs=(-0.1,), finish_reason=FinishReason.STOP, policy_version=0))
for step in range(last + 1, 10**9):
    text = f"pid {os.getpid()} " + "and so on " * 50
    rollouts = tuple(Rollout(prompt=prompt, turns=(turn,), text=text, verdict="right", advantage=1.0) for _ in range(4))
    writer.rollouts(step, [Group(prompt=prompt, rollouts=rollouts)] * 3)
    writer.log(step, {f"metric/{number}": step + number / 7 for number in range(30)})
    writer.event("reported", step=step)
    print(step, flush=True)
"""


def killed_after(path: Path, last: int, seconds: float) -> int:
    """Let it write on for so long after its first step; the last step that it reported."""
    process = subprocess.Popen([sys.executable, "-c", WRITE_ON, str(path), str(last)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [process.stdout.readline()]
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read().splitlines(keepends=True)
    assert process.wait() == -signal.SIGKILL
    return [int(line) for line in told if line.endswith("\n")][-1]


@pytest.mark.slow
def test_every_reported_step_is_in_the_record_and_the_index_opens_it(tmp_path: Path) -> None:
    """Prevents: steps that the terminal showed and the record lost; a torn line that closes the page, or that spoils the resumed run;
    steps of before a kill, shown beside those that were trained in their place."""
    source, last, path = random.Random(0), 0, tmp_path / "run"
    watching: Index | None = None
    for kill in range(KILLS):
        began, last = last + 1, killed_after(path, last, source.uniform(0.0, 0.03))
        run = Run(path)
        assert run.status == "interrupted"
        assert [line["step"] for line in run.metrics()][:last] == list(range(1, last + 1))
        assert run.rollout_steps()[:last] == tuple(range(1, last + 1)) and len(run.rollouts(last)) == 12
        watching = watching or Index(run, tmp_path / "cache")
        for index in (watching, Index(run, tmp_path / f"cache-{kill}")):
            opens(index, run, began, last)


def opens(index: Index, run: Run, began: int, last: int) -> None:
    """All that was reported is there; from `began` on it is what the last process wrote."""
    index.refresh()
    curve = index.curves(["metric/7"], points=10**6)["metric/7"]
    assert curve.steps == list(range(1, index.last_step() + 1)) and index.last_step() >= last
    assert curve.values == [step + 1.0 for step in curve.steps]
    assert index.groups().total == 3 * len(run.rollout_steps())
    assert [row["text"] for row in index.group(last, 2)] == [row["text"] for row in run.rollouts(last) if row["group"] == 2]
    process = run.rollouts(last)[0]["text"].split()[1]
    found = {card.step for card in index.groups(search=f"pid {process}", limit=10**6).groups}
    assert found == set(range(began, run.rollout_steps()[-1] + 1))
    assert index.torn in (0, 1)
