"""What the rest of the house knows of an engine: token ids in, completions out.

An engine never sees rewards or gradients. A request is one prompt and the seeds of its siblings; a seed decides a completion's random
numbers, so a request draws the same tokens whatever it is batched with. Completions come one by one as they finish (`stream`), so that
others can be scored meanwhile, and what has not finished can be taken out (`Stream.pause`) and continued later, even by newer weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from heron.engine.params import SamplingParams
from heron.types import Completion

Progress = Callable[[int, int], None]
"""Called with completions finished, and all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt and how many answers it wants."""

    prompt_ids: tuple[int, ...]
    """The prompt's tokens."""
    seeds: tuple[int, ...]
    """One seed per sibling; their number is the number of completions."""
    said: tuple[Completion | None, ...] = ()
    """What each sibling has said already, where it is to be continued (a paused completion); empty if all begin now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One completion and whose it is."""

    request: int
    """Number of the request."""
    sibling: int
    """Number of its seed."""
    completion: Completion


class Stream(Protocol):
    """Completions in the order in which they finish. Nothing is sampled while nobody asks for the next one."""

    def __iter__(self) -> Iterator[Finished]: ...

    def __next__(self) -> Finished: ...

    def pause(self) -> list[Finished]:
        """End here: what has not finished, as it is (`FinishReason.PAUSED`; also what has not begun, without tokens)."""
        ...


class Engine(Protocol):
    """Samples completions from a policy."""

    exact_logprobs: bool
    """The log-probs that it reports are the trainer's own (up to rounding): one model, one code."""

    def stream(self, requests: Sequence[Request], params: SamplingParams, *, on_token: Progress | None = None) -> Stream:
        """Completions one by one, as they finish. `on_token(finished, total)` is called after every token of everything."""
        ...

    def generate(
        self, requests: Sequence[Request], params: SamplingParams, *, on_progress: Progress | None = None
    ) -> list[list[Completion]]:
        """Completions of each request, in the order of its seeds. `on_progress(finished, total)` counts completions."""
        ...

    def sync(self) -> None:
        """Take over the policy's newest weights. Nothing to do where the weights are shared."""
        ...

    def awake(self) -> AbstractContextManager[None]:
        """Sampling happens inside; the cache is freed on leaving."""
        ...


def in_order(requests: Sequence[Request], finished: Iterator[Finished]) -> list[list[Completion]]:
    """Completions of each request in the order of its seeds, whatever order they finished in."""
    places: list[dict[int, Completion]] = [{} for _ in requests]
    for one in finished:
        places[one.request][one.sibling] = one.completion
    return [[found[sibling] for sibling in range(len(request.seeds))] for request, found in zip(requests, places, strict=True)]
