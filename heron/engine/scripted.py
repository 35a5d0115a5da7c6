"""An engine that says what it is told: for tests of everything above it.

The one hard idea: it keeps the contract of every engine, time included. All open completions say one token a round, so short answers
finish first, a pause finds the others in the middle, and what is continued goes on where it was. What it leaves out: log-probs and
entropies (all 0).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence

from heron.engine.native.sequence import Sequence as Drawn
from heron.engine.native.sequence import new_sequence
from heron.engine.params import SamplingParams
from heron.engine.protocol import Finished, Progress, Request, in_order
from heron.types import Completion, FinishReason

Script = Callable[[tuple[int, ...], int], Sequence[int]]
"""`(prompt_ids, sibling)` to the token ids of the whole answer."""


class ScriptedEngine:
    """Answers request by request from `script(prompt_ids, sibling) -> token ids`; the last token counts as the end token."""

    exact_logprobs = False

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.version = 0
        """Version of the weights that say what comes next; a test counts it up."""

    def stream(self, requests: Sequence[Request], params: SamplingParams, *, on_token: Progress | None = None) -> ScriptedStream:
        """Completions as they finish: the shortest first, those of one round in the order of requests and seeds."""
        self.requests.extend(requests)
        return ScriptedStream(self, requests, params, on_token or (lambda finished, total: None))

    def generate(
        self, requests: Sequence[Request], params: SamplingParams, *, on_progress: Progress | None = None
    ) -> list[list[Completion]]:
        """Completions of each request, in the order of its seeds."""
        return in_order(requests, self.stream(requests, params, on_token=on_progress))

    def sync(self) -> None:
        """Nothing is shared, nothing is stale."""

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        yield


class ScriptedStream:
    """One token a round of everything that is open."""

    def __init__(self, engine: ScriptedEngine, requests: Sequence[Request], params: SamplingParams, on_token: Progress) -> None:
        self._engine, self._params, self._on_token = engine, params, on_token
        self._open = [
            new_sequence(number, sibling, request.prompt_ids, seed, request.said[sibling] if request.said else None)
            for number, request in enumerate(requests) for sibling, seed in enumerate(request.seeds)
        ]
        self._finishing = self._rounds(len(self._open))

    def __iter__(self) -> ScriptedStream:
        return self

    def __next__(self) -> Finished:
        return next(self._finishing)

    def pause(self) -> list[Finished]:
        """What has not been handed out, as it is."""
        self._finishing.close()
        rest, self._open = [self._finished(sequence) for sequence in self._open], []
        return rest

    def _rounds(self, total: int) -> Generator[Finished, None, None]:
        while self._open:
            for sequence in self._open:
                self._say(sequence)
            done = [sequence for sequence in self._open if sequence.finish_reason is not None]
            self._on_token(total - len(self._open) + len(done), total)
            for sequence in done:
                self._open.remove(sequence)
                yield self._finished(sequence)

    def _say(self, sequence: Drawn) -> None:
        """The next word of the script, and the end where it ends or the limit is reached."""
        script = self._engine.script(sequence.prompt_ids, sequence.sibling)
        if len(sequence.token_ids) < min(len(script), self._params.max_tokens):
            sequence.say(script[len(sequence.token_ids)], 0.0, 0.0, self._engine.version)
        if len(sequence.token_ids) >= len(script):
            sequence.finish_reason = FinishReason.STOP
        else:
            sequence.finish_reason = sequence.reason_of_length(self._params)

    def _finished(self, sequence: Drawn) -> Finished:
        completion = sequence.completion(self._engine.version)
        return Finished(request=sequence.request, sibling=sequence.sibling, completion=completion)
