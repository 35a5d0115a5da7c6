"""Prompts as the model sees them: how long they are, what there is room for, and one of them to look at.

The one hard idea: what looks like a tag may be text, and what looks like text may be a special token. So the example shows where the
tokenizer has tokens of their own: between ⟦ and ⟧.
"""

from __future__ import annotations

from collections.abc import Sequence

from heron.checking.findings import Finding, Lengths, Level, listed
from heron.environments import Environment
from heron.models import Policy
from heron.types import Prompt

SHARES = (5, 50, 95, 100)


def measure(
    prompts: Sequence[Prompt], policy: Policy, environment: Environment, max_completion_length: int
) -> tuple[Lengths, set[str], list[Finding]]:
    """Lengths of the prompts, ids of those that cannot be used, and the findings."""
    tokens = {prompt.id: policy.render(environment.start(prompt)) for prompt in prompts}
    first = prompts[0]
    lengths = Lengths(
        percentiles=percentiles([len(ids) for ids in tokens.values()]), context=policy.context_length,
        max_completion_length=max_completion_length, example_id=first.id, example=marked(tokens[first.id], policy),
        prefilled=policy.prefilled(policy.render_text(environment.start(first))),
    )
    room = None if policy.context_length is None else policy.context_length - max_completion_length
    long = {name: len(ids) for name, ids in tokens.items() if room is not None and len(ids) > room}
    unknown = {name: max(ids) for name, ids in tokens.items() if max(ids) >= policy.vocabulary_size}
    return lengths, long.keys() | unknown.keys(), [*_too_long(long, lengths, len(tokens)), *_unknown(unknown, policy)]


def percentiles(lengths: Sequence[int]) -> dict[str, int]:
    """The smallest length that so many percent of the prompts do not exceed."""
    ordered = sorted(lengths)
    return {str(share): ordered[max(0, -(-share * len(ordered) // 100) - 1)] for share in SHARES}


def marked(ids: Sequence[int], policy: Policy) -> str:
    """The text of the tokens, special and added ones between ⟦ and ⟧."""
    own = {*policy.tokenizer.all_special_ids, *policy.tokenizer.get_added_vocab().values()}
    pieces: list[list[int]] = []
    for token in ids:
        if not pieces or token in own or pieces[-1][-1] in own:
            pieces.append([])
        pieces[-1].append(token)
    texts = (policy.tokenizer.decode(piece, skip_special_tokens=False) for piece in pieces)
    return "".join(f"⟦{text}⟧" if piece[0] in own else text for piece, text in zip(pieces, texts, strict=True))


def _too_long(long: dict[str, int], lengths: Lengths, total: int) -> list[Finding]:
    if not long:
        return []
    return [Finding(
        level=Level.ERROR, topic="prompts",
        text=f"{listed(len(long), 'prompt', total)} and an answer of rollout.max_completion_length={lengths.max_completion_length} exceed "
             f"the model's context of {lengths.context}.",
        advice="Shorten or remove these rows, or lower rollout.max_completion_length.",
        rows=tuple(f"{name} has {count} tokens" for name, count in long.items()),
    )]


def _unknown(unknown: dict[str, int], policy: Policy) -> list[Finding]:
    if not unknown:
        return []
    return [Finding(
        level=Level.ERROR, topic="prompts",
        text=f"{len(unknown)} prompts hold tokens that the model has no entry for: its vocabulary has {policy.vocabulary_size}.",
        advice="The tokenizer belongs to another model, or has tokens that were added without resizing the embedding.",
        rows=tuple(f"{name} holds the token {token}" for name, token in unknown.items()),
    )]
