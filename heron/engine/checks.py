"""What every engine refuses before anything is sampled."""

from __future__ import annotations

from collections.abc import Sequence

from heron.engine.params import SamplingParams
from heron.engine.protocol import Request
from heron.errors import EngineError
from heron.models.policy import Policy
from heron.types import FinishReason


def check_requests(requests: Sequence[Request], params: SamplingParams, policy: Policy) -> None:
    """Refuse what cannot be sampled, before anything is."""
    _check_lengths(requests, params, policy.context_length)
    for request in requests:
        _check_tokens(request, policy.vocabulary_size)
        _check_said(request, params)


def _check_lengths(requests: Sequence[Request], params: SamplingParams, limit: int | None) -> None:
    """Every prompt has tokens, and fits into the context with its answer."""
    if any(not request.prompt_ids for request in requests):
        raise EngineError("A request has no prompt tokens. Every prompt needs at least one.")
    longest = max((len(request.prompt_ids) for request in requests), default=0)
    if limit is None or longest + params.max_tokens <= limit:
        return
    if longest >= limit:
        raise EngineError(f"A prompt of {longest} tokens leaves no room for an answer in the model's context of {limit}. Shorten "
                          "the prompt.")
    raise EngineError(f"A prompt of {longest} tokens and up to {params.max_tokens} new ones exceed the model's context of {limit}. Shorten "
                      "the prompt, or ask for fewer new tokens (rollout.max_completion_length in a run).")


def _check_tokens(request: Request, vocabulary_size: int) -> None:
    """The model knows every token of the prompt."""
    others = {type(token) for token in request.prompt_ids} - {int}
    if others:
        raise EngineError(f"A prompt's tokens must be of type int, but there are some of {', '.join(sorted(map(repr, others)))}. "
                          "Encode the text first.")
    lowest, highest = min(request.prompt_ids), max(request.prompt_ids)
    if lowest < 0:
        raise EngineError(f"A prompt holds the token {lowest}, but tokens are numbered from 0. Leave out what masks or pads.")
    if highest >= vocabulary_size:
        raise EngineError(f"A prompt holds the token {highest}, but the model's vocabulary has {vocabulary_size} entries. "
                          "Tokenizer and model do not belong together, or tokens were added without resizing the embedding.")


def _check_said(request: Request, params: SamplingParams) -> None:
    """What is to be continued has not ended, and has room to go on."""
    said = [0 if before is None else len(before.token_ids) for before in request.said]
    if request.said and len(said) != len(request.seeds):
        raise EngineError(f"A request has {len(request.seeds)} seeds but continues {len(said)} completions. Give one (or None) for "
                          "each seed.")
    if any(before is not None and before.finish_reason is FinishReason.STOP for before in request.said):
        raise EngineError("A completion that is to go on has ended already (finish_reason stop). Ask for the others alone.")
    if max(said, default=0) >= params.max_tokens:
        raise EngineError(f"A completion that is to go on has {max(said)} tokens already, but max_tokens is {params.max_tokens}. "
                          "It counts them all.")
