"""A completion in the making, and the branch of siblings that have said the same so far.

The one hard idea: siblings differ by what they have said, not by who they are. All that have said the same are one *branch*: one row
of every forward pass, one set of pages. Each draws its next token with its own random numbers; where they differ, the branch forks.
What it leaves out: tensors, and where pages come from.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as List
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from heron.engine.params import SamplingParams
from heron.errors import EngineError
from heron.types import Completion, FinishReason

if TYPE_CHECKING:
    from heron.engine.native.sampler import Ending


class Uniforms:
    """The random numbers of one seed, float64 in [0, 1), drawn by blocks as they are asked for."""

    BLOCK = 256

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._drawn = array("d")

    def __getitem__(self, number: int) -> float:
        while number >= len(self._drawn):
            self._drawn.extend(torch.rand(self.BLOCK, generator=self._generator, dtype=torch.float64).tolist())
        return self._drawn[number]


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """One completion in the making."""

    request: int
    """Number of the request."""
    sibling: int
    """Number of its seed."""
    prompt_ids: tuple[int, ...]
    """What it answers."""
    uniforms: Uniforms | list[float]
    """Random numbers in [0, 1), by the number of the token that they draw."""
    token_ids: list[int] = field(default_factory=list)
    """Said so far."""
    logprobs: list[float] = field(default_factory=list)
    """Log-probability of each, under the distribution that it was drawn from."""
    entropies: list[float] = field(default_factory=list)
    """Entropy of that distribution, in nats."""
    versions: list[tuple[int, int]] = field(default_factory=list)
    """`(policy version, tokens)`: which weights said how many of them, in order."""
    begun: int = 0
    """How many of them were said in calls before this one."""
    finish_reason: FinishReason | None = None
    """None while it goes on."""
    ending: Ending | None = None
    """Says when it has ended, where that is its own matter; None: as the sampler's params say."""
    wrong: EngineError | None = None
    """Why it cannot go on as it was asked to. Others can: who drives the engine says what becomes of it."""

    def say(self, token: int, logprob: float, entropy: float, version: int) -> None:
        """Add a token."""
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        self.entropies.append(entropy)
        if self.versions and self.versions[-1][0] == version:
            self.versions[-1] = (version, self.versions[-1][1] + 1)
        else:
            self.versions.append((version, 1))

    def reason_of_length(self, params: SamplingParams) -> FinishReason | None:
        """Why it must not say more, for its length; None if it may."""
        if len(self.token_ids) >= params.max_tokens:
            return FinishReason.LENGTH
        return FinishReason.PAUSED if params.pause_after and len(self.token_ids) - self.begun >= params.pause_after else None

    def completion(self, version: int) -> Completion:
        """As a value. `version` is that of weights that said nothing, if nothing was said."""
        return Completion(
            token_ids=tuple(self.token_ids), logprobs=tuple(self.logprobs), entropies=tuple(self.entropies),
            finish_reason=self.finish_reason or FinishReason.PAUSED,
            policy_version=self.versions[0][0] if self.versions else version, versions=tuple(self.versions),
        )


@dataclass(slots=True, kw_only=True, eq=False)
class Branch:
    """Siblings that have said the same so far: one row of the engine."""

    sequences: list[Sequence]
    """The open ones; at least one while the branch lives."""
    shared: list[int] = field(default_factory=list)
    """Pages of its first tokens, in order; full, and others may read them too."""
    own: list[int] = field(default_factory=list)
    """The pages behind them; this branch alone reads them, and the last one is written next."""
    length: int = 0
    """Tokens whose keys and values are in its pages."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Prompt and everything said: all that its next token depends on."""
        first = self.sequences[0]
        return (*first.prompt_ids, *first.token_ids)

    @property
    def size(self) -> int:
        """How many tokens `token_ids` has."""
        first = self.sequences[0]
        return len(first.prompt_ids) + len(first.token_ids)

    def split(self) -> list[list[Sequence]]:
        """Its open sequences, by what they have just said."""
        by_token: dict[int, list[Sequence]] = {}
        for sequence in self.sequences:
            if sequence.finish_reason is None:
                by_token.setdefault(sequence.token_ids[-1], []).append(sequence)
        return list(by_token.values())


def new_sequence(request: int, sibling: int, prompt_ids: tuple[int, ...], seed: int, said: Completion | None) -> Sequence:
    """A completion that begins, or goes on after `said`. The n-th token of a seed always meets the same random number."""
    sequence = Sequence(request=request, sibling=sibling, prompt_ids=prompt_ids, uniforms=Uniforms(seed))
    if said is not None:
        sequence.token_ids, sequence.logprobs = list(said.token_ids), list(said.logprobs)
        sequence.entropies, sequence.versions = list(said.entropies), list(said.versions)
        sequence.begun = len(said.token_ids)
    return sequence


def same_so_far(sequences: List[Sequence]) -> list[Branch]:
    """Branches of sequences of one request."""
    by_words: dict[tuple[int, ...], list[Sequence]] = {}
    for sequence in sequences:
        by_words.setdefault(tuple(sequence.token_ids), []).append(sequence)
    return [Branch(sequences=members) for members in by_words.values()]
