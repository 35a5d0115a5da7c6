"""What goes on beside a call of a reward function: what it records, whether it ever comes back, and whether twice.

The hard idea: a reward that hangs looks like a slow model, or a slow GPU. So after a minute it is named, with the row that it is at, and
again after two, four, ... minutes. It is not stopped: a function in this process cannot be (`rewards.timeout` runs it in one that can).
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

from heron.errors import RewardError
from heron.rewards.scores import is_list, listed, plain

PATIENCE = 60.0
"""Seconds until a call is spoken of."""


@contextlib.contextmanager
def no_copies(name: str) -> Iterator[None]:
    """A copy of this process that a function's fork made ends with the call: it would train on, and write into the same run."""
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            os.write(2, f"The reward function {name} forked this process. The copy was ended; let it call os._exit itself.\n".encode())
            os._exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerState:
    """What TRL's reward functions are given as `trainer_state`, as far as it is known where scores are made."""

    global_step: int
    """Optimizer steps that the newest of the weights had seen which wrote the batch."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"trainer_state has global_step alone here, and no {name!r}; what else is known before the run can be a "
                             "default of one of the function's parameters.")


class Log:
    """What a function in batch form records with TRL's `log_extra(column, values)` and `log_metric(name, value)`."""

    def __init__(self, name: str, rows: int) -> None:
        self._name = name
        self._rows = rows
        self._extras: dict[str, list[Any]] = {}
        self.metrics: dict[str, float] = {}

    def extra(self, column: str, values: Sequence[Any]) -> None:
        """A value for each completion, which stands beside it among the recorded rollouts."""
        said = plain_extras(values)
        if not isinstance(said, list) or len(said) != self._rows:
            raise RewardError(f"The reward function {self._name} called log_extra({column!r}, ...) with {values!r:.80}. "
                              f"Give a list with one value for each of the {self._rows} completions.")
        self._extras[str(column)] = said

    def metric(self, name: str, value: float) -> None:
        """A number of the whole batch, which is logged with the step's metrics."""
        said = plain(value)
        if not isinstance(said, float) or not math.isfinite(said):
            raise RewardError(f"The reward function {self._name} called log_metric({name!r}, {value!r:.80}). Give a finite number.")
        self.metrics[str(name)] = said

    def extras_of(self, row: int) -> dict[str, Any]:
        """Of one completion."""
        return {column: values[row] for column, values in self._extras.items()}


def plain_extras(value: Any) -> Any:
    """As JSON can say it: lists and mappings of texts, numbers and None; anything else as Python prints it."""
    value = listed(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain_extras(each) for name, each in value.items()}
    if is_list(value):
        return [plain_extras(each) for each in value]
    number = plain(value)
    return number if isinstance(number, float) else str(value)


class Watch:
    """Names a function that does not come back. Use it in a `with`, and say in `at` where the function is."""

    def __init__(self, name: str, patience: float = PATIENCE) -> None:
        self.at = "its first row"
        self._name = name
        self._waited = 0.0
        self._next = patience
        self._done = threading.Event()

    def __enter__(self) -> Watch:
        threading.Thread(target=self._look, name=f"heron-watch-{self._name}", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()

    def _look(self) -> None:
        while not self._done.wait(self._next):
            self._waited += self._next
            self._next = self._waited
            warnings.warn(
                f"The reward function {self._name} has not come back for {self._waited:g} seconds; it is at {self.at}. "
                "With rewards.timeout = 60 it runs in a process of its own, which is killed after 60 seconds.", stacklevel=2)
