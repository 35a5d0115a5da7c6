"""From demonstrations to samples: which tokens are trained, and what stands between them.

The hard idea: a demonstration is written as a rollout would have been. The template renders the first prompt, and what an environment's
reply would add between two turns; what the assistant says is encoded by itself and ends with the token that ends an answer. So no
template can drop or rewrite an answer, and reinforcement learning goes on with the very tokens that were learnt here. An opening tag that
the prompt ends with already is not written again.

What it leaves out: weights by row. Every trained token weighs the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heron.data.arithmetic import Demonstration
from heron.errors import DataError, ModelError, TemplateError
from heron.models.policy import Policy
from heron.training.samples import Sample
from heron.types import Message

Part = tuple[tuple[int, ...], bool]
"""Tokens that follow one another, and whether they are trained."""


def samples_of(policy: Policy, lessons: Sequence[Demonstration]) -> tuple[list[Sample], int]:
    """The samples that fit into the model's context, and how many do not."""
    samples = [sample_of(policy, lesson) for lesson in lessons]
    longest = policy.context_length
    fitting = [sample for sample in samples if longest is None or 1 + len(sample.token_ids) <= longest]
    if samples and not fitting:
        raise DataError(f"All {len(samples)} demonstrations are longer than the model's context of {longest} tokens. Shorten them.")
    return fitting, len(samples) - len(fitting)


def sample_of(policy: Policy, lesson: Demonstration) -> Sample:
    """A demonstration, split behind its first token, so that samples which begin alike can be packed as one group."""
    try:
        parts = list(_parts(policy, lesson))
    except TemplateError as error:
        raise TemplateError(f"{lesson.prompt.id}: {error}") from error
    tokens = tuple(token for ids, _ in parts for token in ids)
    trained = tuple(is_trained for ids, is_trained in parts for _ in ids)
    _check_known(policy, lesson, tokens)
    count = sum(trained)
    return Sample(
        prompt_ids=tokens[:1], token_ids=tokens[1:], is_trained=trained[1:], sampler_logprobs=(0.0,) * count, keep=(True,) * count,
        advantage=1.0, weight=1.0, entropy_weight=0.0,
    )


def _parts(policy: Policy, lesson: Demonstration) -> Iterator[Part]:
    """The prompt of the first turn, an answer, the reply to it, an answer, and so on."""
    messages = [*lesson.prompt.messages, {"role": "assistant", "content": lesson.completion}]
    turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    for turn, place in enumerate(turns):
        before = messages[:place]
        if turn == 0:
            yield policy.render(before), False
        else:
            last = turns[turn - 1]
            yield policy.render_reply(messages[:last], messages[last + 1 : place], ended=True), False
        yield _answer(policy, lesson, before, str(messages[place]["content"])), True


def _answer(policy: Policy, lesson: Demonstration, before: Sequence[Message], text: str) -> tuple[int, ...]:
    """What the assistant says behind these messages, and the token that ends it."""
    ids = policy.encode(_without_prefilled(policy, before, text))
    end = _end_token(policy, before)
    if any(token in policy.end_ids for token in ids[:-1]):
        raise DataError(f"{lesson.prompt.id}: an answer goes on behind a token that ends answers: {text!r:.80}. Take the token out; it is "
                        "written behind every answer by itself.")
    return ids if ids and ids[-1] in policy.end_ids else (*ids, end)


def _without_prefilled(policy: Policy, before: Sequence[Message], text: str) -> str:
    """The text behind the opening tag, and behind the white space that the template has put after the tag."""
    prompt = policy.render_text(before)
    tag = policy.prefilled(prompt)
    if not tag or not text.lstrip().startswith(tag):
        return text
    rest = text.lstrip()[len(tag) :]
    return rest.removeprefix(prompt[len(prompt.rstrip()) :])


def _end_token(policy: Policy, before: Sequence[Message]) -> int:
    """The token with which the template closes an answer, if that ends one; else the tokenizer's own."""
    closing = policy.render_reply(before, (), ended=False)
    return closing[0] if closing and closing[0] in policy.end_ids else int(policy.tokenizer.eos_token_id)


def _check_known(policy: Policy, lesson: Demonstration, tokens: Sequence[int]) -> None:
    if max(tokens) >= policy.vocabulary_size:
        raise ModelError(f"The demonstration {lesson.prompt.id} holds the token {max(tokens)}, but the vocabulary of {policy.source} has "
                         f"{policy.vocabulary_size} entries. Its tokenizer belongs to another model, or has tokens that were added without "
                         "resizing the embedding.")
