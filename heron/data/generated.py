"""Generated rows by the name of their dataset."""

from __future__ import annotations

from heron.config.generated import ARITHMETIC, GYM
from heron.config.schema import DataConfig
from heron.data import arithmetic, gym, tasks
from heron.types import Prompt


def generated(name: str, count: int, config: DataConfig, *, seed: int, heldout: bool) -> list[Prompt]:
    """`count` rows; the held-out ones are all of the difficulty that is asked for, whatever the curriculum."""
    if name == ARITHMETIC:
        return arithmetic.generate(count, seed=seed, digits=config.digits, heldout=heldout)
    if name.startswith(GYM):
        return gym.generate(name, count, seed=seed, heldout=heldout)
    return tasks.generate(
        name, count, seed=seed, difficulty=config.difficulty, curriculum=config.curriculum and not heldout, heldout=heldout,
    )
