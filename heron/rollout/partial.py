"""Sampling in portions: every open completion says at most so many tokens more, and the unfinished ones wait for the next step.

The one hard idea: a pause is an end like any other (`SamplingParams.pause_after`), so completions of any age run in one batch, and a row
that pauses makes room for the next. What it leaves out: which groups are in flight (the trainer knows).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from heron.engine.protocol import Engine, Progress, Request, SamplingParams
from heron.rollout.in_flight import InFlight
from heron.rollout.seeds import derived_seed
from heron.types import Completion

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
    """Let every open completion say up to `tokens` more, all in one batch."""
    asked = [(number, flight.open) for number, flight in enumerate(flights) if flight.open]
    requests = [_request(flights[number], siblings, prompt_ids[number]) for number, siblings in asked]
    for finished in engine.stream(requests, replace(params, pause_after=tokens), on_token=on_progress):
        number, siblings = asked[finished.request]
        yield number, siblings[finished.sibling], finished.completion


def tokens_of(flights: Sequence[InFlight]) -> int:
    """Everything that was said so far."""
    return sum(_age(flight, sibling) for flight in flights for sibling in range(len(flight.seeds)))


def _age(flight: InFlight, sibling: int) -> int:
    said = flight.said[sibling]
    return 0 if said is None else len(said.token_ids)


def _request(flight: InFlight, siblings: Sequence[int], prompt_ids: tuple[int, ...]) -> Request:
    said = tuple(flight.said[sibling] for sibling in siblings)
    return Request(prompt_ids=prompt_ids, seeds=tuple(flight.seeds[sibling] for sibling in siblings), said=said if any(said) else ())
