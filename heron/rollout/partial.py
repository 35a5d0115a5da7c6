"""Sampling in portions: every open completion says at most so many tokens more, and the unfinished ones wait for the next step.

The one hard idea: a portion is a shorter limit. Completions that have said equally much are sampled together up to what they have said plus
a portion; who stops there and not at the real limit is paused. What it leaves out: sampling those of different age in one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from heron.engine.protocol import Engine, Progress, Request, SamplingParams
from heron.rollout.in_flight import InFlight
from heron.rollout.seeds import derived_seed
from heron.types import Completion, FinishReason

Portion = tuple[int, int, Completion]
"""Number of the group in flight, of the sibling, and what it has said by now."""


def begin(rows: Sequence[int], *, siblings: int, seed: int) -> list[InFlight]:
    """Groups of which nothing has been said. They draw what `Collector.sample` draws for these prompts and this seed."""
    return [
        InFlight(
            row=row, seeds=tuple(derived_seed(derived_seed(seed, number, sibling), 0, 0) for sibling in range(siblings)),
            said=(None,) * siblings,
        )
        for number, row in enumerate(rows)
    ]


def advance(
    engine: Engine, flights: Sequence[InFlight], prompt_ids: Sequence[tuple[int, ...]], params: SamplingParams, *, tokens: int,
    on_progress: Progress | None,
) -> Iterator[Portion]:
    """Let every open completion say up to `tokens` more; the oldest begin."""
    for age in sorted({_age(flight, sibling) for flight in flights for sibling in flight.open}, reverse=True):
        members = {
            number: tuple(sibling for sibling in flight.open if _age(flight, sibling) == age) for number, flight in enumerate(flights)
        }
        asked = [(number, siblings) for number, siblings in members.items() if siblings]
        limit = min(age + tokens, params.max_tokens)
        requests = [_request(flights[number], siblings, prompt_ids[number]) for number, siblings in asked]
        for finished in engine.stream(requests, replace(params, max_tokens=limit), on_token=on_progress):
            number, siblings = asked[finished.request]
            yield number, siblings[finished.sibling], _paused(finished.completion, limit < params.max_tokens)


def tokens_of(flights: Sequence[InFlight]) -> int:
    """Everything that was said so far."""
    return sum(_age(flight, sibling) for flight in flights for sibling in range(len(flight.seeds)))


def _age(flight: InFlight, sibling: int) -> int:
    said = flight.said[sibling]
    return 0 if said is None else len(said.token_ids)


def _request(flight: InFlight, siblings: Sequence[int], prompt_ids: tuple[int, ...]) -> Request:
    said = tuple(flight.said[sibling] for sibling in siblings)
    return Request(prompt_ids=prompt_ids, seeds=tuple(flight.seeds[sibling] for sibling in siblings), said=said if any(said) else ())


def _paused(completion: Completion, may_go_on: bool) -> Completion:
    """A completion that stopped at the end of a portion has not been truncated."""
    if may_go_on and completion.finish_reason is FinishReason.LENGTH:
        return replace(completion, finish_reason=FinishReason.PAUSED)
    return completion
