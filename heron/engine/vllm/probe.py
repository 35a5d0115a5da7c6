"""Does vLLM sample with the trainer's weights? Asked after every push, on a fixed prompt.

The one hard idea: a small update moves log-probs by less than any fixed limit, so a limit alone would miss that it never arrived. But two
correct copies differ by rounding alone, and that is seen at the first push: what is worse than several times this noise has not arrived, or
not as a whole. How much of the trainer's own change vLLM shows tells a stale push (nothing) from a partial one.

It also draws one token at a temperature that is not 1, without teacher: that request may read vLLM's cache of prompts (the teacher-forced
one does not), and its log-prob shows whether vLLM reports the distribution that it drew from.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from heron.errors import EngineError
from heron.kernels.attention import packed_plan
from heron.models.policy import Policy

LIMITS = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.1}
"""Nats by which the log-probs of two correct copies may differ at most. Between vLLM's CPU build and Heron's own forward pass 2e-6 was
measured in float32 and 0.03 in bfloat16, on a model of 10 M weights; bfloat16 rounds logits above 16 to steps of 0.125."""
TEMPERATURE = 0.5
"""Of the token that is drawn."""
NOISE = 10.0
"""Times the noise of the best push so far (root mean square) that a correct one may have."""
QUIETEST = 1e-3
"""Share of the limit below which noise is not told apart: one unit in the last place of a log-prob, about."""


class Asked(Protocol):
    """Both ways of asking vLLM."""

    def drawn(self, token_ids: Sequence[int], temperature: float) -> Drawn:
        """One token after `token_ids`."""
        ...

    def forced(self, token_ids: Sequence[int]) -> list[float]:
        """Log-probs of all of `token_ids` but the first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One sampled token."""

    token: int
    logprob: float
    """As vLLM reports it."""
    cached_tokens: int | None
    """How many tokens of the prompt were not computed but found in the cache. None: vLLM does not say."""


class Probe:
    """Compares the trainer's log-probs with vLLM's.

    Args:
        policy: the trainer's side.
        length: tokens of the prompt; more than two blocks of vLLM's cache, so that a stale one would be found.
        limit: nats by which log-probs may differ; None for that of the policy's dtype.
    """

    def __init__(self, policy: Policy, *, length: int, limit: float | None = None) -> None:
        self.policy = policy
        self.token_ids = _fixed_prompt(policy, length)
        self.limit = LIMITS[policy.dtype] if limit is None else limit
        self.gap: float | None = None
        """Largest difference of log-probs at the last push that passed."""
        self._noise = math.inf
        self._before: Tensor | None = None

    def check(self, asked: Asked) -> float:
        """The largest gap; an EngineError if vLLM's weights, its cache of prompts or its log-probs are not what they should be."""
        drawn = asked.drawn(self.token_ids, TEMPERATURE)  # first: the other question fills the cache
        heard = torch.tensor(asked.forced(self.token_ids), dtype=torch.float64)  # [L - 1]
        now = self._trainer(self.token_ids, 1.0)  # [L - 1]
        if heard.shape != now.shape:
            raise EngineError(f"vLLM sent {len(heard)} log-probs for {len(now)} tokens of the probe. Heron was written for vLLM 0.32.")
        gap, noise = float((heard - now).abs().max()), _rms(heard - now)
        if not (gap <= self.limit and noise <= NOISE * self._noise):
            raise EngineError(self._complaint(gap, noise, _share(self._before, now, heard)))
        self._check_drawn(drawn)
        self.gap, self._before = gap, now
        self._noise = min(self._noise, max(noise, QUIETEST * self.limit))
        return gap

    def _check_drawn(self, drawn: Drawn) -> None:
        if drawn.cached_tokens:
            raise EngineError(f"vLLM's prefix cache is stale: {drawn.cached_tokens} of {len(self.token_ids)} prompt tokens came from it "
                              "right after new weights were pushed and it was reset. Answers would mix two versions. Restart vLLM.")
        expected, limit = float(self._trainer((*self.token_ids, drawn.token), TEMPERATURE)[-1]), self.limit / TEMPERATURE
        if not abs(drawn.logprob - expected) <= limit:
            raise EngineError(
                f"vLLM reports the log-prob {drawn.logprob:.6g} for a token drawn at temperature {TEMPERATURE}, but by the trainer's "
                f"weights, which it has, it is {expected:.6g} (limit {limit:.3g} nats). Either this vLLM reports raw log-probs: start it "
                "with --logprobs-mode processed_logprobs. Or its prefix cache is stale: restart it."
            )

    def _complaint(self, gap: float, noise: float, share: float | None) -> str:
        kind = "stale or partial" if share is None else "stale" if abs(share) < 0.1 else "partial"
        arrived = "" if share is None else f" {share:.1%} of the last update arrived."
        usual = "" if math.isinf(self._noise) else f", root mean square {noise:.3g} where {self._noise:.3g} is usual"
        return (f"vLLM does not sample with the trainer's weights (version {self.policy.version}): the push was {kind}. Over a fixed "
                f"prompt of {len(self.token_ids)} tokens log-probs differ by up to {gap:.3g} nats (limit {self.limit:.3g}{usual})."
                f"{arrived} Nothing was sampled with them. If vLLM's log names tensors that were not loaded, use the native engine for "
                "this model; if this is rounding, raise the engine's limit.")

    def _trainer(self, token_ids: Sequence[int], temperature: float) -> Tensor:
        """The trainer's log-probs of all of `token_ids` but the first `[L - 1]`."""
        row = torch.tensor([token_ids], device=self.policy.device)  # [1, L]
        positions = torch.arange(len(token_ids), device=self.policy.device)[None]
        with self.policy.sampling():
            hidden = self.policy.hidden(row, positions, packed_plan([range(len(token_ids))], device=self.policy.device))
            logprobs, _ = self.policy.logprobs(hidden[0, :-1], row[0, 1:], temperature=temperature)
        return logprobs.double().cpu()


def _fixed_prompt(policy: Policy, length: int) -> tuple[int, ...]:
    """The same random ordinary tokens each time."""
    special = {*policy.end_ids, *policy.tokenizer.all_special_ids}
    ordinary = [token for token in range(min(policy.vocabulary_size, len(policy.tokenizer))) if token not in special]
    draw = random.Random(0)
    return tuple(draw.choice(ordinary) for _ in range(length))


def _share(before: Tensor | None, now: Tensor, heard: Tensor) -> float | None:
    """How much of the trainer's change vLLM shows: 1 all of it, 0 nothing. None where there is no earlier push, or no change."""
    if before is None or torch.equal(before, now):
        return None
    moved = now - before
    return float(1 - (now - heard) @ moved / (moved @ moved))


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())
