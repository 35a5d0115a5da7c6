"""Writes checkpoints beside the training, keeps as many as are wanted, and tells the run what has become of each.

The one hard idea: training waits for a copy of the weights in the host's memory, and for nothing else. A thread writes that copy; whether
it succeeded is known later, so it is asked after every step, and a checkpoint counts only then. There is one copy at a time: the next one
waits for the last to be written.

A write that fails (a full disk, a folder that cannot be written) is told loudly and does not end the training: the checkpoint before it
still holds, and the next save tries again. At the end it is an error.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from heron.errors import SaveError
from heron.run import RunWriter
from heron.training.keeping.finding import checkpoints_in
from heron.training.keeping.snapshot import Snapshot
from heron.training.keeping.writing import clear_leftovers, point, pointed_at, remove, size_of, write_whole

LATEST, BEST = "latest", "best"
"""Files in `checkpoints/` that say the name of one."""
SMALL_FILES = 2**22
"""Bytes that the tokenizer and the like may take besides what is counted."""


@dataclass(slots=True)
class _Write:
    """One checkpoint under way."""

    step: int
    began: float
    thread: threading.Thread | None = None
    bytes: int = 0
    seconds: float = 0.0
    error: BaseException | None = None


class Keeper:
    """The `checkpoints/` folder of a run."""

    def __init__(self, run: RunWriter, *, keep: int, saved_step: int | None = None) -> None:
        self.folder = run.path / "checkpoints"
        self.saved_step = saved_step
        """Step of the newest checkpoint that is known to be whole."""
        self._run = run
        self._keep = keep
        self._write: _Write | None = None
        self._failure: SaveError | None = None

    def has(self, step: int) -> bool:
        """There is a checkpoint of this step, or one is being written."""
        return step in (self.saved_step, None if self._write is None else self._write.step)

    def save(self, take: Callable[[], Snapshot], *, best: int | None = None) -> None:
        """Begin to write what `take` copies. `best` is the step whose checkpoint is kept beside the newest ones."""
        self.wait()
        snapshot = take()
        write = self._write = _Write(step=snapshot.step, began=time.monotonic())
        try:
            self._check_room(snapshot)
        except OSError as error:
            write.error = error
            self.wait()
            return
        write.thread = threading.Thread(target=self._written, args=(write, snapshot, best), name="heron-save", daemon=True)
        write.thread.start()

    def poll(self) -> None:
        """Tell the run of a checkpoint that has been written meanwhile, or that could not be."""
        if self._write is not None and (self._write.thread is None or not self._write.thread.is_alive()):
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written any more."""
        write = self._write
        if write is None:
            return
        if write.thread is not None:
            write.thread.join()
        self._write = None
        self._tell(write)

    def settle(self) -> None:
        """The same; raises if the last checkpoint could not be written."""
        self.wait()
        if self._failure is not None:
            raise self._failure

    def mark_best(self, step: int | None) -> None:
        """Let `best` name the checkpoint of this step, if it is there."""
        name = None if step is None else name_of(step)
        if name is not None and (self.folder / name).is_dir() and pointed_at(self.folder / BEST) != name:
            point(self.folder / BEST, name)

    def save_model(self, folder: Path, fill: Callable[[Path], None]) -> None:
        """Write the trained model, whole or not at all."""
        try:
            write_whole(folder, fill, sealed=False)
        except Exception as error:  # boundary: safetensors raises an error of its own for a disk
            raise SaveError(f"The model could not be written to {folder}: {error}; the checkpoint of step {self.saved_step} has it. Make "
                            f"room there, and end the run with: heron resume {self._run.path}") from error

    def _check_room(self, snapshot: Snapshot) -> None:
        """Writing it would fill the disk, and fail only then."""
        needed, free = snapshot.num_bytes + SMALL_FILES, shutil.disk_usage(self._run.path).free
        if free < needed:
            raise OSError(f"it needs {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free where {self.folder} is")

    def _written(self, write: _Write, snapshot: Snapshot, best: int | None) -> None:
        """In the thread."""
        try:
            self.folder.mkdir(exist_ok=True)
            clear_leftovers(self.folder)
            final = self.folder / name_of(snapshot.step)
            write_whole(final, snapshot.write, before_it_counts=self._run.flush)
            write.bytes = size_of(final)
            point(self.folder / LATEST, final.name)
            self.mark_best(best)
            for old in self._superseded(final, best):
                remove(old)
            write.seconds = time.monotonic() - write.began
        except Exception as error:  # boundary: torch and safetensors raise errors of their own for a disk; told by the next `poll`
            write.error = error

    def _superseded(self, newest: Path, best: int | None) -> list[Path]:
        """Older checkpoints beyond those to keep, and later ones: those belong to a history that was damaged and taken back."""
        known = checkpoints_in(self.folder)
        kept = known[: known.index(newest) + 1][-self._keep :]
        return [path for path in known if path not in kept and (best is None or path.name != name_of(best))]

    def _tell(self, write: _Write) -> None:
        if write.error is None:
            self.saved_step, self._failure = write.step, None
            self._run.event(
                "checkpoint", step=write.step, path=name_of(write.step), bytes=write.bytes, seconds=write.seconds,
                free_bytes=shutil.disk_usage(self._run.path).free,
            )
            return
        before = "there is none before it" if self.saved_step is None else f"that of step {self.saved_step} still holds"
        words = f"The checkpoint of step {write.step} could not be written to {self.folder}: {write.error}"
        self._failure = SaveError(f"{words}; {before}. Make room there, and go on with: heron resume {self._run.path}")
        self._failure.__cause__ = write.error
        self._run.event("checkpoint_failed", step=write.step, error=repr(write.error))
        self._run.event("message", text=f"{words}; {before}. Training goes on, and the next save tries again: make room there.")


def name_of(step: int) -> str:
    """The folder of a step's checkpoint."""
    return f"step-{step:06d}"
