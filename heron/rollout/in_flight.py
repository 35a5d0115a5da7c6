"""A group whose answers are still being sampled, as a value that survives a step and a checkpoint.

The one hard idea: a completion that is continued keeps what it said: tokens, log-probs, and which weights said them. So a group in flight
is its prompt, its seeds and its completions so far, and nothing else; the cache is computed again by the weights that go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from heron.types import Completion, FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """One prompt and what its siblings have said so far."""

    row: int
    """Of the prompt, among those that are trained on."""
    seeds: tuple[int, ...]
    """One per sibling."""
    said: tuple[Completion | None, ...]
    """Of each sibling; None before its first token."""

    @property
    def open(self) -> tuple[int, ...]:
        """Numbers of the siblings that have not finished."""
        return tuple(
            number for number, said in enumerate(self.said) if said is None or said.finish_reason is FinishReason.PAUSED
        )

    def with_said(self, completions: Mapping[int, Completion]) -> InFlight:
        """With newer completions of some siblings."""
        return replace(self, said=tuple(completions.get(number, said) for number, said in enumerate(self.said)))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON (which keeps every bit of a float)."""
        return asdict(self)

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> InFlight:
        """What `as_dict` wrote."""
        said = tuple(None if each is None else _completion(each) for each in values["said"])
        return cls(row=values["row"], seeds=tuple(values["seeds"]), said=said)


def _completion(values: Mapping[str, Any]) -> Completion:
    return Completion(
        token_ids=tuple(values["token_ids"]), logprobs=tuple(values["logprobs"]), finish_reason=FinishReason(values["finish_reason"]),
        policy_version=values["policy_version"], entropies=tuple(values["entropies"]),
        versions=tuple((version, tokens) for version, tokens in values["versions"]),
    )
