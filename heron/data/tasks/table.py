"""The generated tasks by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from heron.data.tasks import countdown, guess, letters, sums
from heron.data.tasks.answering import answer
from heron.data.tasks.task import Task

TASKS: Mapping[str, Task] = MappingProxyType({
    "brackets": Task(problem=letters.brackets, verifier="exact", lesson=answer),
    "chain_sum": Task(problem=sums.chain_sum, verifier="number", lesson=answer),
    "countdown": Task(problem=countdown.countdown, verifier="countdown", lesson=answer),
    "decimals": Task(problem=sums.decimals, verifier="number", lesson=answer),
    "guess": Task(problem=guess.problem, verifier="number", lesson=guess.play, environment="guess"),
    "letter_count": Task(problem=letters.letter_count, verifier="number", lesson=answer),
    "moves": Task(problem=countdown.moves, verifier="number", lesson=countdown.play, environment="moves"),
    "remainder": Task(problem=sums.remainder, verifier="number", lesson=answer),
    "reverse": Task(problem=letters.reverse, verifier="exact", lesson=answer),
    "sequence": Task(problem=sums.sequence, verifier="number", lesson=answer),
    "sort": Task(problem=letters.sort, verifier="exact", lesson=answer),
})
"""What may stand behind `tasks.` in `data.dataset` and `warmup.dataset`."""
