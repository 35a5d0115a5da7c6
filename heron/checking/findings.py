"""What a check has found, as plain values.

The one hard idea: a level says what becomes of the run. An error refuses it: training would stop there, or could not learn. A warning is
something that a user will most likely want to change. A note is a fact that is good to know. Nothing else decides the exit code.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


class Level(enum.StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """Training would stop, or could not learn: the check refuses."""
    WARNING = "warning"
    """Training would go on, most likely not as it is meant."""
    NOTE = "note"
    """Good to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found."""

    level: Level
    """What becomes of the run."""
    topic: str
    """`rows`, `answers`, `prompts`, `rewards`, `signal` or `start`."""
    text: str
    """What was found."""
    advice: str = ""
    """What to do next."""
    rows: tuple[str, ...] = ()
    """Every row (or answer) that it is about, with the reason; all of them, however many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCounts:
    """Where the rows went."""

    train: int
    """Trained on."""
    heldout: int
    """Held out for the evaluation."""
    unusable: int
    """That cannot be read, or have no question."""
    left_out: int
    """Training rows that ask a held-out question."""
    duplicates: int
    """Training rows that ask what an earlier one asks; they are trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of the prompts, and what there is room for."""

    percentiles: dict[str, int]
    """Of the prompts' lengths: `5`, `50`, `95` and `100`, the longest."""
    context: int | None
    """Of the model; None where it names none."""
    max_completion_length: int
    """Most tokens of an answer."""
    example_id: str
    """The row that is shown."""
    example: str
    """Its prompt as the model sees it, special tokens between ⟦ and ⟧."""
    prefilled: str
    """The opening tag that the template writes itself, or an empty string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One made-up answer to one row, scored."""

    row: str
    """The row's id."""
    kind: str
    """One of the five of `trials.KINDS`."""
    text: str
    """The answer."""
    rewards: dict[str, float | None]
    """Scores by function; None where it did not apply, or failed."""
    errors: dict[str, str]
    """Why a function failed, by its name."""
    total: float | None
    """Weighted; None if no function applied, or one failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What the start of the run makes of some prompts."""

    prompts: int
    """Asked."""
    samples: int
    """Answers to each."""
    pass_at_1: float | None
    """Share of right answers; None where no row has a reference."""
    pass_at_g: float | None
    """Share of prompts with a right answer among the samples."""
    mixed: float
    """Share of groups that training could learn from: their advantages differ."""
    truncated: float
    """Share of answers that were cut at the longest length."""
    unreadable: float | None
    """Share of answers that the verifier cannot read."""
    failed: int
    """Answers that a reward function failed at."""
    best: float | None
    """The highest total reward of any answer."""
    examples: tuple[tuple[str, str], ...]
    """Some unreadable answers, each with its row."""
    seconds: float
    """That it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a check has found."""

    recipe: str
    """What was checked."""
    findings: tuple[Finding, ...]
    """In the order in which they were found."""
    rows: RowCounts | None = None
    """None if there is nothing to train on."""
    lengths: Lengths | None = None
    """Of the prompts."""
    trials: tuple[Trial, ...] = ()
    """Made-up answers."""
    signal: Signal | None = None
    """None if the model was not asked."""

    @property
    def refuses(self) -> bool:
        """There is an error among the findings."""
        return any(finding.level is Level.ERROR for finding in self.findings)

    @property
    def verdict(self) -> str:
        """One sentence."""
        counts = {level: sum(finding.level is level for finding in self.findings) for level in Level}
        if self.refuses:
            return f"Do not train yet: {_counted(counts[Level.ERROR], 'error')}, {_counted(counts[Level.WARNING], 'warning')}."
        asked = "" if self.signal is not None else " The model itself was not asked."
        return f"Nothing stands against training ({_counted(counts[Level.WARNING], 'warning')}).{asked}"

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for machines."""
        return {"verdict": self.verdict, "refuses": self.refuses, **asdict(self)}


def listed(count: int, what: str, total: int) -> str:
    """`3 of 40 rows`."""
    return f"{count} of {_counted(total, what)}"


def sorted_by_level(findings: Sequence[Finding]) -> list[Finding]:
    """Errors first, then warnings, then notes; else as they were found."""
    order = list(Level)
    return sorted(findings, key=lambda finding: order.index(finding.level))


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")
