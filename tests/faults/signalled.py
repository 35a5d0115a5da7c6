"""`heron train` and `heron resume` that wait in a phase of their third step, so that a signal can be sent to them exactly there.

`python signalled.py RECIPE` imports everything once; for each line `PHASE VERB|OPTION|... RUN` that it reads it forks a life, says
`life PID`, and `ended CODE` when that has ended. A life that waits makes the file `waiting` beside the recipe, and goes on when there is a
file `go`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from heron import sandbox
from heron.cli.main import main
from heron.config import load_config
from heron.training.trainer import Trainer

WAITS_IN = 3
PATIENCE = 60.0
REWARDS = f'''
import asyncio, subprocess, time
from pathlib import Path

HERE = Path(__file__).parent

def spread(completion):
    wait_if_asked("asked")
    if (HERE / "detach").exists():
        (HERE / "detach").unlink()
        subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
    return len(set(completion)) / 10

async def later(completion):
    if (HERE / "asked-async").exists():
        (HERE / "asked-async").rename(HERE / "waiting")
        await asyncio.sleep({PATIENCE})
    return 0.0

def wait_if_asked(name):
    if (HERE / name).exists():
        (HERE / name).rename(HERE / "waiting")
        time.sleep({PATIENCE})
'''


def wait(folder: Path) -> None:
    """Until there is a file `go`, or a signal ends the wait."""
    (folder / "waiting").touch()
    until = time.monotonic() + PATIENCE
    while not (folder / "go").exists() and time.monotonic() < until:
        time.sleep(0.01)


def plant(trainer: Trainer, phase: str, folder: Path) -> None:
    """Let the trainer wait there."""
    waited: list[str] = []

    def once() -> None:
        if not waited and trainer.state.step == (WAITS_IN if phase == "save" else WAITS_IN - 1):
            waited.append(phase)
            wait(folder)

    def hear(kind: str, payload: Mapping[str, Any]) -> None:
        if kind != "progress":
            return
        asks = {"score": "asked", "await": "asked-async"}.get(phase)
        if asks is not None and payload["phase"] == "sample" and trainer.state.step == WAITS_IN - 1 and not waited:
            waited.append(phase)
            (folder / asks).touch()
        if payload["phase"] == phase and asks is None:
            once()

    trainer.run.subscribe(hear)
    if (folder / "sandbox").exists():
        sleeper = "import os, time; os.fork(); time.sleep(1000)"
        threading.Thread(target=sandbox.run, args=(sleeper, "", sandbox.Limits(seconds=1000)), daemon=True).start()
    if phase == "moved":
        trainer.updater.optimizer.register_step_post_hook(lambda *_: once())


def live(phase: str, verb: str, run: str, recipe: Path) -> None:
    """One command."""
    train = Trainer.train

    def planted(trainer: Trainer) -> dict[str, Any]:
        plant(trainer, phase, recipe.parent)
        return train(trainer)

    Trainer.train = planted  # type: ignore[method-assign]
    words = {"train": ["train", str(recipe), "--run-dir", run], "resume": ["resume", run]}[verb.partition("|")[0]]
    sys.argv = ["heron", *words, *verb.split("|")[1:]]
    sys.stdout = sys.stderr
    main()


def say(words: str) -> None:
    os.write(1, f"{words}\n".encode())


def serve(recipe: Path) -> None:
    """Until there are no more lines."""
    torch.set_num_threads(1)
    from heron.training.assemble import assemble

    assemble(load_config(recipe), recipe.parent / "warm").run.close()  # most is imported only when it is needed
    for line in sys.stdin:
        phase, verb, run = line.split()
        child = os.fork()
        if child == 0:
            code: object = 1
            try:
                live(phase, verb, run, recipe)
                code = 0
            except SystemExit as end:
                code = end.code or 0
            except BaseException:
                traceback.print_exc()
            os._exit(int(str(code)))
        say(f"life {child}")
        say(f"ended {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
