"""A step is taken whole or not at all: one that is given up before the weights move leaves the counters as they were.

The one hard idea: weights move in the optimizer alone, so a hook there is where a step can no longer be given up. Before it, all that a
step has changed is the counters, which are put back. What it leaves out: an error after it, upon which weights and counters belong to
different steps (`is_torn`), and only a checkpoint can be gone on from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heron.training.interrupt import StopRequest
    from heron.training.trainer import Trainer


class Moves:
    """Whether the weights have moved in a step."""

    def __init__(self, stop: StopRequest | None = None) -> None:
        self.have_begun = False
        self._stop = stop

    def begin(self, *_: object) -> None:
        """From here on the step can only be finished."""
        if not self.have_begun:
            if self._stop is not None:
                self._stop.insist()
                self._stop.hold()
            self.have_begun = True


@contextlib.contextmanager
def whole_step(trainer: Trainer) -> Iterator[Moves]:
    """Inside, a step of the trainer."""
    before, moves = replace(trainer.state), Moves(trainer.stop)
    hook = trainer.updater.optimizer.register_step_pre_hook(moves.begin)
    try:
        yield moves
    except BaseException:
        if moves.have_begun:
            trainer.is_torn = True
            trainer.stop.let_go()
        else:
            trainer.state = before
        raise
    finally:
        hook.remove()
    if moves.have_begun:
        trainer.stop.release()
