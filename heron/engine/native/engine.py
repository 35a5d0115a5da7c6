"""The native engine: continuous batching on the trainer's own modules.

The sampler *is* the trainer's model (see `kernels.attention`), so its log-probs are the trainer's and a new policy version needs no copy.
A prompt is computed once; siblings that have said the same so far are one row; a row that ends makes room for the next prompt at
once. The nouns: `sequence` (a completion, a branch), `pages` and `store` (the cache), `scheduler` (what runs), `runner` (tensors),
`sampler` (what is said). `Core.step` is the whole engine in ten lines.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import deque
from collections.abc import Iterator, Sequence

from heron.engine.checks import check_requests
from heron.engine.native.cache import Cache, bytes_per_token, free_bytes, make_cache, pages_allowed, pages_wanted
from heron.engine.native.core import Core
from heron.engine.native.open import OpenSession
from heron.engine.native.pages import PAGE
from heron.engine.native.runner import Runner
from heron.engine.native.sampler import Sampler
from heron.engine.native.scheduler import Scheduler
from heron.engine.native.sequence import Branch, new_sequence, same_so_far
from heron.engine.native.sequence import Sequence as Completing
from heron.engine.params import SamplingParams
from heron.engine.protocol import Finished, Progress, Request, in_order
from heron.errors import EngineError
from heron.models.policy import Policy
from heron.models.recording import Replay
from heron.types import Completion

CHUNK = 4096
"""Prompt tokens of one forward pass."""
LONGEST = 32_768
"""Tokens of a row for which an open session makes room, where the model does not say how long its rows may be."""


class NativeEngine:
    """Samples from `policy` itself, for one thread at a time.

    Args:
        policy: the trainer's model, tokenizer and version.
        max_concurrent: most completions in the making at once.
        cache_bytes: most memory for keys and values. None: half of the memory that is free on a CPU, 80 % of it on a GPU.
        page_size: tokens of a page of the cache.
        chunk_tokens: most prompt tokens of one forward pass.
    """

    exact_logprobs = True

    def __init__(
        self, policy: Policy, *, max_concurrent: int = 256, cache_bytes: int | None = None, page_size: int = PAGE,
        chunk_tokens: int = CHUNK,
    ) -> None:
        for name, value in (("max_concurrent", max_concurrent), ("page_size", page_size), ("chunk_tokens", chunk_tokens)):
            if value < 1:
                raise EngineError(f"{name} must be at least 1, but it is {value}.")
        self.policy = policy
        self.max_concurrent = max_concurrent
        self.cache_bytes = cache_bytes
        self.page_size = page_size
        self.chunk_tokens = chunk_tokens
        self._awake = 0  # how often `awake` was entered
        self._bytes_per_page = 0  # asked of the model when first needed
        self._cache: Cache | None = None
        self._latest: weakref.ref[Session] | None = None  # who has the cache, while awake; gone if nobody wants the rest of it

    def sync(self) -> None:
        """The weights are shared: nothing to do."""

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Keep the cache between calls, so that a conversation's next turn finds its beginning there; it is freed on leaving."""
        self._awake += 1
        try:
            yield
        finally:
            self._awake -= 1
            if not self._awake:
                self._cache = self._latest = None

    def stream(self, requests: Sequence[Request], params: SamplingParams, *, on_token: Progress | None = None) -> Session:
        """Completions one by one, as they finish. While nobody asks for the next one, nothing is sampled."""
        check_requests(requests, params, self.policy)
        session = Session(self, self._cache_for(requests, params), requests, params, on_token)
        self._latest = weakref.ref(session) if self._awake else None
        return session

    def generate(
        self, requests: Sequence[Request], params: SamplingParams, *, on_progress: Progress | None = None
    ) -> list[list[Completion]]:
        """Completions of each request, in the order of its seeds."""
        return in_order(requests, self.stream(requests, params, on_token=on_progress))

    def open(self) -> OpenSession:
        """A session that requests join and leave at any step. Its cache is as large as `max_concurrent` completions can fill, or as
        `cache_bytes` allows, for as long as the session lives."""
        bytes_per_page = bytes_per_token(self.policy) * self.page_size
        budget = free_bytes(self.policy.device) if self.cache_bytes is None else self.cache_bytes
        wanted = self.max_concurrent * (-(-(self.policy.context_length or LONGEST) // self.page_size) + 1)  # and one to fork to
        count = min(wanted, pages_allowed(budget, bytes_per_page, 2, self.policy))
        cache = make_cache(count, self.policy, page_size=self.page_size)
        return OpenSession(self.policy, cache, self.scheduler_of(cache))

    def scheduler_of(self, cache: Cache) -> Scheduler:
        """For one session."""
        return Scheduler(cache.pages, page_size=self.page_size, max_rows=self.max_concurrent, chunk_tokens=self.chunk_tokens)

    def _cache_for(self, requests: Sequence[Request], params: SamplingParams) -> Cache:
        """The cache of the last call if that is done, of this version and large enough; else a new one."""
        self._bytes_per_page = self._bytes_per_page or bytes_per_token(self.policy) * self.page_size
        latest = self._latest() if self._latest is not None else None
        kept, is_done = self._cache, latest is None or latest.scheduler.is_done
        held = 0 if kept is None else kept.pages.count * self._bytes_per_page
        wanted, alone = pages_wanted(requests, params, page_size=self.page_size, max_concurrent=self.max_concurrent)
        if self.cache_bytes is None:
            budget = free_bytes(self.policy.device) + (held if is_done else 0)  # which is given back, or lent on
        else:
            budget = self.cache_bytes - (0 if is_done else held)
        count = min(wanted, pages_allowed(budget, self._bytes_per_page, alone, self.policy))
        if kept is not None and is_done and kept.pages.is_idle and kept.version == self.policy.version and kept.pages.count >= count:
            return kept
        self._cache = kept = None  # freed before the next one is made
        cache = make_cache(count, self.policy, page_size=self.page_size)
        self._cache = cache if self._awake else None
        return cache


class Session(Core):
    """Completions in the order in which they finish: iterate, or `pause`."""

    def __init__(
        self, engine: NativeEngine, cache: Cache, requests: Sequence[Request], params: SamplingParams, on_token: Progress | None
    ) -> None:
        runner = Runner(engine.policy, cache.store, replay=_recording(engine.policy, requests, params))
        super().__init__(engine.scheduler_of(cache), runner, Sampler(engine.policy, params))
        self.policy = engine.policy
        self.version = engine.policy.version
        self.on_token = on_token
        self.total = sum(len(request.seeds) for request in requests)
        self.finished = 0
        self._ready: deque[Finished] = deque()
        for branch in _branches(requests, engine.max_concurrent):
            self.scheduler.waiting.append(branch)

    def __iter__(self) -> Session:
        return self

    def __next__(self) -> Finished:
        if not self._ready:
            self._run()
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()

    def pause(self) -> list[Finished]:
        """End here; the pages are free again. Returns what has not finished, as it is, and what finished without having been asked for."""
        waiting = list(self._ready)
        self._ready.clear()
        for branch in self.scheduler.stop():
            waiting += [self._closed(sequence) for sequence in branch.sequences]
        return waiting

    def step(self) -> list[Completing]:
        """One forward pass; what ended in it is to be given out."""
        spoke = super().step()
        self._note_ends(spoke)
        return spoke

    def _run(self) -> None:
        """Step until a completion has finished, or all have."""
        if self.scheduler.is_done:
            return
        if self.policy.version != self.version:
            raise EngineError(f"The weights have changed (version {self.version} to {self.policy.version}) while completions were in the "
                              "making. Pause the stream before an update, and continue them with Request.said.")
        with self.policy.sampling():
            while not self._ready and not self.scheduler.is_done:
                self.step()
                if self.on_token is not None:
                    self.on_token(self.finished, self.total)

    def _note_ends(self, spoke: Sequence[Completing]) -> None:
        for sequence in spoke:
            if sequence.wrong is not None:
                raise sequence.wrong
            if sequence.finish_reason is not None:
                self.finished += 1
                self._ready.append(self._closed(sequence))

    def _closed(self, sequence: Completing) -> Finished:
        return Finished(request=sequence.request, sibling=sequence.sibling, completion=sequence.completion(self.version))


def _recording(policy: Policy, requests: Sequence[Request], params: SamplingParams) -> Replay | None:
    """The decode step as a recording, on a CPU and where enough is to be sampled."""
    asked = params.max_tokens * sum(len(request.seeds) for request in requests)
    return policy.recorder.replay() if policy.is_hosted and policy.recorder.is_worth(asked) else None


def _branches(requests: Sequence[Request], at_once: int) -> Iterator[Branch]:
    """What is to be sampled, longest prompts first; siblings that cannot run at once wait apart."""
    for number in sorted(range(len(requests)), key=lambda index: -len(requests[index].prompt_ids)):
        request = requests[number]
        said = request.said or (None,) * len(request.seeds)
        siblings = [
            new_sequence(number, sibling, request.prompt_ids, seed, before)
            for sibling, (seed, before) in enumerate(zip(request.seeds, said, strict=True))
        ]
        for first in range(0, len(siblings), at_once):
            yield from same_so_far(siblings[first : first + at_once])
