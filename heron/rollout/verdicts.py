"""Whether an answer is right, apart from what it was paid: the same question for held-out problems and for the rollouts of a step.

The one hard idea: rewards can be earned in ways that were not meant, so what is right is never read off them. An environment that
knows says so; else the evaluation's verifier compares the answer between the tags with the row's reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heron.environments import Environment
from heron.errors import RewardError
from heron.rewards import Verdict, Verifier, answer_text, parts
from heron.types import Rollout, Tags

Seen = dict[tuple[str, str], str]
"""Verdicts by answer and reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Judges rollouts."""

    environment: Environment
    """May know by itself."""
    verifier: Verifier
    """`(answer, reference)` to a verdict."""
    tags: Tags
    """Where the answer stands in a completion."""

    def of(self, rollout: Rollout) -> str | None:
        """`right`, `wrong` or `unreadable`; None where neither the environment knows nor the row has a reference to compare with."""
        return self._judged(rollout, self._extracted(rollout), {})

    def follows_format(self, rollout: Rollout) -> bool:
        """Each tag once and in order, nothing but whitespace outside."""
        found = parts(rollout.text, self.tags, rollout.prefilled)
        return found is not None and found.is_clean

    def marks(self, siblings: Sequence[Rollout]) -> list[dict[str, Any]]:
        """What is known of each rollout of a group, by the names of a `Rollout`. Rows whose reference the verifier cannot read have no
        verdict: it need not fit the training rows, which rewards alone decide about."""
        seen: Seen = {}
        return [self._marks(rollout, seen) for rollout in siblings]

    def _marks(self, rollout: Rollout, seen: Seen) -> dict[str, Any]:
        extracted = self._extracted(rollout)
        try:
            found = self._judged(rollout, extracted, seen)
        except RewardError:  # boundary: one row's reference
            found = None
        return {"verdict": found, "extracted": extracted, "follows_format": self.follows_format(rollout)}

    def _judged(self, rollout: Rollout, extracted: str | None, seen: Seen) -> str | None:
        """An answer that a sibling gave too is not verified again."""
        of_environment = self.environment.verdict(rollout.prompt, rollout.messages)
        if of_environment is not None:
            return str(of_environment.value)
        reference = rollout.prompt.answer
        if reference is None:
            return None
        if extracted is None:
            return str(Verdict.UNREADABLE.value)
        if (extracted, reference) not in seen:
            seen[extracted, reference] = str(self.verifier(extracted, reference).value)
        return seen[extracted, reference]

    def _extracted(self, rollout: Rollout) -> str | None:
        return answer_text(rollout.text, self.tags, rollout.prefilled)
