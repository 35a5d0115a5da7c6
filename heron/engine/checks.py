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
    limit = policy.context_length
    longest = max((len(request.prompt_ids) for request in requests), default=0)
    if limit is not None and longest + params.max_tokens > limit:
        raise EngineError(f"A prompt of {longest} tokens and up to {params.max_tokens} new ones exceed the model's context "
                          f"of {limit}. Shorten the prompts or rollout.max_completion_length.")
    if any(not request.prompt_ids for request in requests):
        raise EngineError("A request has no prompt tokens. Every prompt needs at least one.")
    highest = max((max(request.prompt_ids) for request in requests), default=0)
    if highest >= policy.vocabulary_size:
        raise EngineError(f"A prompt holds the token {highest}, but the model's vocabulary has {policy.vocabulary_size} entries. "
                          "Tokenizer and model do not belong together, or tokens were added without resizing the embedding.")
    for request in requests:
        said = [0 if before is None else len(before.token_ids) for before in request.said]
        if request.said and len(said) != len(request.seeds):
            raise EngineError(f"A request has {len(request.seeds)} seeds but continues {len(said)} completions. Give one (or None) for "
                              "each seed.")
        if any(before is not None and before.finish_reason is FinishReason.STOP for before in request.said):
            raise EngineError("A completion that is to go on has ended already (finish_reason stop). Ask for the others alone.")
        if max(said, default=0) >= params.max_tokens:
            raise EngineError(f"A completion that is to go on has {max(said)} tokens already, but max_tokens is {params.max_tokens}. "
                              "It counts them all.")
