"""An index that reads a small run whole: what the page needs, with nothing kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heron.run import Run
from heron.run.records import Record


@dataclass(kw_only=True)
class Curve:
    steps: list[int]
    values: list[float | None]


@dataclass(kw_only=True)
class Progress:
    metrics_bytes_done: int = 1
    metrics_bytes_total: int = 1
    rollouts_done: int = 1
    rollouts_total: int = 1


@dataclass(kw_only=True)
class Sibling:
    reward: float | None
    advantage: float
    verdict: str | None
    length: int
    finish_reason: str
    is_error: bool


@dataclass(kw_only=True)
class GroupCard:
    step: int
    group: int
    prompt: str
    question: str
    answer: Any
    siblings: list[Sibling]


@dataclass(kw_only=True)
class Page:
    total: int
    groups: list[GroupCard]


@dataclass(kw_only=True)
class Lengths:
    edges: list[float]
    right: list[int]
    not_right: list[int]
    unknown: list[int]


class MemoryIndex:
    """Reads everything at each refresh."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.generation = 0
        self._metrics: list[Record] = []

    def refresh(self, seconds: float | None = None) -> Progress:
        new = self.run.metrics()
        self.generation += new[: len(self._metrics)] != self._metrics
        self._metrics = new
        return Progress()

    def names(self) -> list[str]:
        return [name for name in dict.fromkeys(key for record in self._metrics for key in record) if name != "step"]

    def last_step(self) -> int:
        return int(self._metrics[-1]["step"]) if self._metrics else 0

    def latest(self, count: int) -> list[Record]:
        return self._metrics[-count:]

    def first(self, count: int) -> list[Record]:
        return self._metrics[:count]

    def curves(self, names: Sequence[str], *, after: int = 0, points: int = 600) -> dict[str, Curve]:
        late = [record for record in self._metrics if record["step"] > after]
        late = late[:: max(1, len(late) // points)]
        return {
            name: Curve(steps=[r["step"] for r in late if name in r], values=[r[name] for r in late if name in r]) for name in names
        }

    def groups(
        self, *, step: int | None = None, filter: str = "all", search: str = "", prompt: str | None = None, order: str = "step",
        limit: int = 20, offset: int = 0,
    ) -> Page:
        found: list[GroupCard] = []
        for number in self.run.rollout_steps() if step is None else [step] if step in self.run.rollout_steps() else []:
            rows = self.run.rollouts(number)
            for group in sorted({row["group"] for row in rows}):
                own = [row for row in rows if row["group"] == group]
                if search.lower() in " ".join([own[0]["question"], *(row["text"] for row in own)]).lower() and prompt in (None, own[0]["prompt"]):
                    found.append(_card(own))
        chosen = [card for card in found if _FILTERS[filter](card)]
        return Page(total=len(chosen), groups=chosen[offset : offset + limit])

    def group(self, step: int, number: int) -> list[Record]:
        return [row for row in self.run.rollouts(step) if row["group"] == number]

    def lengths(self, step_from: int, step_to: int, bins: int = 30) -> Lengths:
        rows = [row for step in self.run.rollout_steps() if step_from <= step <= step_to for row in self.run.rollouts(step)]
        most = max((row["length"] for row in rows), default=1) + 1
        edges = [most * at / bins for at in range(bins + 1)]
        counts = {True: [0] * bins, False: [0] * bins}
        for row in rows:
            counts[row.get("verdict") == "right"][int(row["length"] * bins / most)] += 1
        return Lengths(edges=edges, right=counts[True], not_right=counts[False], unknown=[0] * bins)

    def close(self) -> None:
        pass


_FILTERS: dict[str, Any] = {
    "all": lambda card: True,
    "signal": lambda card: any(one.advantage for one in card.siblings),
    "no-signal": lambda card: not any(one.advantage for one in card.siblings),
    "truncated": lambda card: any(one.finish_reason == "length" for one in card.siblings),
    "errors": lambda card: any(one.is_error for one in card.siblings),
    "rewarded-but-wrong": lambda card: any(one.advantage > 0 and one.verdict != "right" for one in card.siblings),
    "right": lambda card: any(one.verdict == "right" for one in card.siblings),
    "wrong": lambda card: all(one.verdict != "right" for one in card.siblings),
    "highest": lambda card: True,
    "lowest": lambda card: True,
}


def _card(rows: list[Record]) -> GroupCard:
    first = rows[0]
    siblings = [
        Sibling(reward=row["reward"], advantage=row["advantage"], verdict=row.get("verdict"), length=row["length"],
                finish_reason=row["finish_reason"], is_error="error" in row)
        for row in rows
    ]  # fmt: skip
    return GroupCard(
        step=first["step"], group=first["group"], prompt=first["prompt"], question=first["question"], answer=first["answer"], siblings=siblings,
    )
