"""What the page asks of a run's index, as protocols: `heron.run.index` fulfils them, and so does a stand-in of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from heron.run.records import Record


class Progress(Protocol):
    """How much of a record has been read."""

    metrics_bytes_done: int
    metrics_bytes_total: int
    rollouts_done: int
    rollouts_total: int


class Curve(Protocol):
    """One number over the steps; None where it was not finite."""

    steps: list[int]
    values: list[float | None]


class Index(Protocol):
    """A run's numbers and rollouts."""

    generation: int

    def refresh(self, seconds: float | None = None) -> Any: ...
    def names(self) -> list[str]: ...
    def last_step(self) -> int: ...
    def latest(self, count: int) -> list[Record]: ...
    def first(self, count: int) -> list[Record]: ...
    def curves(self, names: Sequence[str], *, after: int = 0, points: int = 600) -> dict[str, Any]: ...
    def groups(
        self, *, step: int | None = None, filter: str = "all", search: str = "", prompt: str | None = None, order: str = "step",
        limit: int = 20, offset: int = 0,
    ) -> Any: ...
    def group(self, step: int, number: int) -> list[Record]: ...
    def lengths(self, step_from: int, step_to: int, bins: int = 30) -> Any: ...
    def close(self) -> None: ...
