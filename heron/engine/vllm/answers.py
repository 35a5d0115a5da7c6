"""One answer that vLLM is asked for, and what it has said.

What it leaves out: entropies. vLLM reports the log-prob of what it drew, not the distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from heron.engine.params import SamplingParams
from heron.engine.protocol import Finished, Request
from heron.errors import EngineError, GuardStop
from heron.types import Completion, FinishReason

REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
"""vLLM's words for the end of an answer. Any other is an error: `abort`, for one, is nobody's answer."""


@dataclass(slots=True, kw_only=True, eq=False)
class Answer:
    """A completion in the making."""

    request: int
    """Number of the request."""
    sibling: int
    """Number of its seed."""
    prompt_ids: tuple[int, ...]
    """What it answers."""
    seed: int
    """Decides what it draws."""
    said: Completion | None
    """What it said before it was paused."""
    most: int
    """Tokens that it may say now."""
    is_portion: bool
    """At that limit it pauses, for it may go on later."""
    token_ids: list[int] = field(default_factory=list)
    """Said now."""
    logprobs: list[float] = field(default_factory=list)
    """Of each token said now, under the distribution that it was drawn from."""
    finish_reason: FinishReason = FinishReason.PAUSED
    """`PAUSED` while it goes on."""

    @property
    def num_said(self) -> int:
        """Tokens said before the pause."""
        return 0 if self.said is None else len(self.said.token_ids)

    @property
    def context(self) -> list[int]:
        """Prompt and what was said before: what vLLM is given."""
        return [*self.prompt_ids, *(() if self.said is None else self.said.token_ids)]

    def hear(self, token_ids: Sequence[int], logprobs: Sequence[float], reason: str | None) -> None:
        """More tokens, and vLLM's word for the end if this is it."""
        if len(token_ids) != len(logprobs):
            raise EngineError(f"vLLM sent {len(token_ids)} tokens with {len(logprobs)} log-probs. Its version does not fit; "
                              "Heron was written for 0.32.")
        if not all(-1e30 < logprob <= 1e-3 for logprob in logprobs):
            raise GuardStop(f"vLLM's log-probs are not finite ({min(logprobs)} to {max(logprobs)}): the weights are broken. Go back to an "
                            "earlier checkpoint, and lower train.learning_rate.")
        self.token_ids += token_ids
        self.logprobs += logprobs
        if reason is not None:
            if reason not in REASONS:
                raise EngineError(f"vLLM ended an answer with {reason!r}, which is none of {', '.join(REASONS)}. Look into vLLM's log.")
            self.finish_reason = REASONS[reason]

    def finished(self, version: int) -> Finished:
        """As a value; `version` is that of the weights that spoke now."""
        said = self.said
        before = () if said is None else said.versions or ((said.policy_version, len(said.token_ids)),)
        versions = _merged((*before, (version, len(self.token_ids))))
        completion = Completion(
            token_ids=(*(() if said is None else said.token_ids), *self.token_ids),
            logprobs=(*(() if said is None else said.logprobs), *self.logprobs),
            finish_reason=FinishReason.PAUSED if self.is_portion and self.finish_reason is FinishReason.LENGTH else self.finish_reason,
            policy_version=versions[0][0] if versions else version, versions=versions,
        )
        return Finished(request=self.request, sibling=self.sibling, completion=completion)


def answers_to(requests: Sequence[Request], params: SamplingParams) -> list[Answer]:
    """One for each seed."""
    answers = []
    for number, request in enumerate(requests):
        for sibling, seed in enumerate(request.seeds):
            said = request.said[sibling] if request.said else None
            room = params.max_tokens - (0 if said is None else len(said.token_ids))
            most = min(room, params.pause_after or room)
            answers.append(Answer(
                request=number, sibling=sibling, prompt_ids=request.prompt_ids, seed=seed, said=said, most=most, is_portion=most < room,
            ))
    return answers


def _merged(versions: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Without empty entries, neighbours of one version as one."""
    merged: list[tuple[int, int]] = []
    for version, count in versions:
        if merged and merged[-1][0] == version:
            merged[-1] = (version, merged[-1][1] + count)
        elif count:
            merged.append((version, count))
    return tuple(merged)
