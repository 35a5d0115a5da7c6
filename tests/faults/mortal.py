"""Trainings that end themselves, or are ended: everything is imported once, and each life is a fork of that.

`python mortal.py MODEL SCRATCH` begins a life for each line of JSON that it reads: `variant`, `folder` (a run that is gone on with, if it
is there), and either `phase` and `nth` (SIGKILL in the nth moment of that phase), or `after` (SIGKILL after so many seconds), or neither.
When it is over it says `ended STATUS SECONDS`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from small_runs import make_trainer, small_config, some_flat

from heron.config import Config
from heron.rewards import resolve
from heron.run import records
from heron.training.assemble import reassemble
from heron.training.keeping import keeper, writing
from heron.training.trainer import Trainer

STEPS = 4
COMMON: dict[str, dict[str, Any]] = {
    "rollout": {"num_generations": 4, "max_completion_length": 6}, "data": {"limit": 20},
    "evaluation": {"size": 2, "steps": 2, "samples": 1},
}
TRAIN = {
    "max_steps": STEPS, "prompts_per_step": 3, "save_steps": 1, "save_total_limit": 2, "micro_batch_tokens": 50, "warmup_steps": 2,
    "learning_rate": 3e-3,
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "full": {"train": {"lr_scheduler_type": "cosine"}},
    "lora, two iterations": {
        "model": {"method": "lora", "lora_rank": 4}, "objective": {"num_iterations": 2, "beta": 0.05}, "train": {"save_steps": 2},
    },
}
PHASES = ("sample", "score", "backward", "train", "evaluate", "record", "write", "copy", "retire")
"""Moments at which a life can end: answers come in; a reward is asked; a gradient is made; a micro-batch is done; held-out answers come in;
a line is recorded; a file of a checkpoint is put to the disk; the weights are copied; an old checkpoint is removed."""


def config_of(variant: str, model: Path) -> Config:
    own = VARIANTS[variant]
    return small_config(model, **COMMON, **{
        section: values for section, values in own.items() if section not in ("model", "train")
    }, model={"name": str(model), "device": "cpu", **own.get("model", {})}, train=TRAIN | own.get("train", {}))


class Fate:
    """Ends this process in the nth moment of a phase."""

    def __init__(self, phase: str | None, nth: int) -> None:
        self.phase, self.left = phase, nth

    def at(self, phase: str) -> None:
        if phase == self.phase:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def before(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def doomed(*arguments: Any, **settings: Any) -> Any:
            self.at(phase)
            return function(*arguments, **settings)

        return doomed


def live(model: Path, *, variant: str, folder: str, phase: str | None = None, nth: int = 0) -> None:
    """Train to the end, or until the fate has it otherwise."""
    fate = Fate(phase, nth)

    def reward(prompt: str, completion: str) -> float:
        fate.at("score")
        return some_flat(prompt, completion)

    reward.__name__ = "some_flat"
    records.append = fate.before("record", records.append)
    writing.sync = fate.before("write", writing.sync)
    keeper.remove = fate.before("retire", keeper.remove)
    run_dir = Path(folder)
    if (run_dir / "run.json").exists():
        trainer = reassemble(run_dir, rewards=resolve([reward]))
    else:
        trainer = make_trainer(config_of(variant, model), run_dir, rewards=(reward,))
    watch(trainer, fate)
    trainer.train()


def watch(trainer: Trainer, fate: Fate) -> None:
    def listener(kind: str, payload: Mapping[str, Any]) -> None:
        if kind == "progress":
            fate.at(payload["phase"])

    trainer.run.subscribe(listener)
    trainer.policy.saved_weights = fate.before("copy", trainer.policy.saved_weights)  # type: ignore[method-assign]
    trainer.policy.trainable()[0][1].register_hook(lambda gradient: fate.at("backward"))


def say(words: str) -> None:
    os.write(1, f"{words}\n".encode())


if __name__ == "__main__":
    torch.set_num_threads(1)
    weights, scratch = map(Path, sys.argv[1:])
    for number, name in enumerate(VARIANTS):  # most is imported and made only when it is needed; no thread of it is left
        make_trainer(config_of(name, weights), scratch / str(number)).train()
    assert threading.active_count() == 1, "a fork would miss the others"
    say("ready")
    for line in sys.stdin:
        life = json.loads(line)
        after, began = life.pop("after", None), time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                live(weights, **life)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        if after is not None:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        say(f"ended {status} {time.monotonic() - began}")
