"""A small training that can be killed and begun anew within a moment: everything is imported once, and each life is a fork of that.

`python killable.py MODEL RUN SCRATCH` begins a life for each line that it reads, goes on with the run if there is one, and says on its
standard output: `life PID`, then what the run's listeners hear once it is recorded (`step 3`, `evaluation before`), then `ended STATUS`.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from small_runs import make_trainer, small_config, some_flat

from heron.rewards import resolve
from heron.training.assemble import reassemble

CONFIG: dict[str, dict[str, Any]] = {
    "train": {"max_steps": 1_000_000, "save_steps": 2, "save_total_limit": 2},
    "evaluation": {"size": 8, "steps": 4, "samples": 1},
}


def import_everything(model: Path, scratch: Path) -> None:
    """Most is imported only when it is needed, which takes longer than to begin a training; no thread of it is left."""
    make_trainer(small_config(model, **CONFIG), scratch).run.close()


def live(model: Path, run_dir: Path) -> None:
    """Train until somebody kills this process."""
    if (run_dir / "run.json").exists():
        trainer = reassemble(run_dir, rewards=resolve([some_flat]), listeners=[tell])
    else:
        trainer = make_trainer(small_config(model, **CONFIG), run_dir)
        trainer.run.subscribe(tell)
    trainer.train()


def tell(kind: str, payload: Mapping[str, Any]) -> None:
    """In one write, so that what arrives is whole."""
    if kind in ("metrics", "evaluation"):
        say(f"step {payload['step']}" if kind == "metrics" else f"evaluation {payload['name']}")


def say(words: str) -> None:
    os.write(1, f"{words}\n".encode())


if __name__ == "__main__":
    torch.set_num_threads(1)
    weights, folder, elsewhere = map(Path, sys.argv[1:])
    import_everything(weights, elsewhere)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                live(weights, folder)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        say(f"life {child}")
        say(f"ended {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")
