"""An engine that says what it is told: for tests of everything above it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from heron.engine.protocol import Request, SamplingParams
from heron.types import Completion, FinishReason


class ScriptedEngine:
    """Answers request by request from `script(prompt_ids, sibling) -> token ids`; the last token counts as the end token."""

    exact_logprobs = False

    def __init__(self, script: Callable[[tuple[int, ...], int], Sequence[int]]) -> None:
        self.script = script
        self.requests: list[Request] = []

    def generate(
        self, requests: Sequence[Request], params: SamplingParams, *, on_progress: Callable[[int, int], None] | None = None
    ) -> list[list[Completion]]:
        self.requests.extend(requests)
        if on_progress is not None:
            total = sum(len(request.seeds) for request in requests)
            on_progress(total, total)
        return [[self._completion(request, sibling, params) for sibling in range(len(request.seeds))] for request in requests]

    def _completion(self, request: Request, sibling: int, params: SamplingParams) -> Completion:
        said = tuple(self.script(request.prompt_ids, sibling))
        kept = said[: params.max_tokens]
        reason = FinishReason.STOP if len(kept) == len(said) else FinishReason.LENGTH
        return Completion(token_ids=kept, logprobs=(0.0,) * len(kept), finish_reason=reason, policy_version=0)

    def sync(self) -> None:
        """Nothing is shared, nothing is stale."""

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        yield
