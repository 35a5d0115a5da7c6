"""An open session: requests join and leave at any step, each with its own way to draw, and tokens can be read as they are said.

The one hard idea: it is the very step of a call (`core`), so a request says what it would say alone, whatever else is in flight. The cache
is made once, for as many completions as may be in the making, and remembers beginnings: the next turn of a conversation is not computed
again. What it leaves out: threads (one at a time may use it), queues with a bound, and how clients are told (`heron.serving`).
"""

from __future__ import annotations

from collections.abc import Collection

from heron.engine.checks import check_requests
from heron.engine.native.cache import Cache, pages_wanted
from heron.engine.native.core import Core
from heron.engine.native.runner import Runner
from heron.engine.native.sampler import Samplers
from heron.engine.native.scheduler import Scheduler
from heron.engine.native.sequence import Sequence, new_sequence, same_so_far
from heron.engine.params import SamplingParams
from heron.engine.protocol import Request
from heron.errors import EngineError
from heron.models.policy import Policy


class OpenSession(Core):
    """`add` what is to be said, `step` until it has been, `drop` what nobody wants any more."""

    def __init__(self, policy: Policy, cache: Cache, scheduler: Scheduler) -> None:
        replay = policy.recorder.replay() if policy.is_hosted else None
        self.samplers = Samplers(policy)
        super().__init__(scheduler, Runner(policy, cache.store, replay=replay), self.samplers)
        self.policy = policy
        self.version = policy.version

    @property
    def is_idle(self) -> bool:
        """Nothing is in the making."""
        return self.scheduler.is_done

    @property
    def waiting(self) -> int:
        """Completions that have no row yet."""
        return sum(len(branch.sequences) for branch in self.scheduler.waiting)

    def add(self, request: Request, params: SamplingParams) -> list[Sequence]:
        """The completions in the making, one for each seed; they say their tokens in the steps that follow."""
        check_requests([request], params, self.policy)
        self._check_room(request, params)
        siblings = [new_sequence(0, number, request.prompt_ids, seed, None) for number, seed in enumerate(request.seeds)]
        self.samplers.enter(siblings, params)
        for first in range(0, len(siblings), self.scheduler.max_rows):
            self.scheduler.waiting.extend(same_so_far(siblings[first : first + self.scheduler.max_rows]))
        return siblings

    def drop(self, sequences: Collection[Sequence]) -> None:
        """Say no more of these; those that have ended are left as they are."""
        going_on = {sequence for sequence in sequences if sequence.finish_reason is None}
        self.scheduler.drop(going_on)
        for sequence in going_on:
            self.samplers.leave(sequence)

    def step(self) -> list[Sequence]:
        """One forward pass. Returns what has just said a token. What went wrong (`Sequence.wrong`) is dropped; the others go on."""
        if self.policy.version != self.version:
            raise EngineError(f"The weights have changed (version {self.version} to {self.policy.version}) in an open session. Open "
                              "another one.")
        with self.policy.sampling():
            spoke = super().step()
        for sequence in spoke:
            if sequence.finish_reason is not None:
                self.samplers.leave(sequence)
        self.drop([sequence for sequence in spoke if sequence.wrong is not None])
        return spoke

    def _check_room(self, request: Request, params: SamplingParams) -> None:
        """One completion fits into the cache, so that the oldest can always go on."""
        _, alone = pages_wanted([request], params, page_size=self.scheduler.page_size, max_concurrent=1)
        if alone > self.scheduler.pages.count:
            room = self.scheduler.pages.count * self.scheduler.page_size
            raise EngineError(f"A prompt of {len(request.prompt_ids)} tokens and up to {params.max_tokens} new ones do not fit into the "
                              f"cache of {room} tokens. Ask for fewer, or give the cache more memory.")
