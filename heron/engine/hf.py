"""The plainest engine: transformers' own `generate` on the policy's own model. Slow, simple, and what other engines are compared with.

The one hard idea: transformers runs the model and we draw. A logits processor picks each row's next token with the row's own random
numbers and leaves only that one possible, so a seed gives the same tokens whatever it is batched with. While it runs, the model's attention
is transformers' own (`sdpa`, or `eager` where scores are capped). What it leaves out: filters, stop strings and structured output (refused
by name), sharing what siblings have in common, and finishing one completion before its batch has ended.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from heron.engine.checks import check_requests
from heron.engine.native.sequence import Sequence as Drawn
from heron.engine.native.sequence import new_sequence
from heron.engine.params import SamplingParams
from heron.engine.protocol import Finished, Progress, Request, in_order
from heron.errors import EngineError, GuardStop
from heron.kernels import attention
from heron.kernels.sampling import sample
from heron.models.policy import Policy
from heron.types import Completion, FinishReason

HONOURED = ("max_tokens", "temperature", "pause_after")
"""Sampling parameters that this engine knows; any other must have its default."""


class HFEngine:
    """Samples with `generate` of transformers."""

    exact_logprobs = False

    def __init__(self, policy: Policy, *, max_concurrent: int = 256) -> None:
        if max_concurrent < 1:
            raise EngineError(f"max_concurrent must be at least 1, but it is {max_concurrent}.")
        self.policy = policy
        self.max_concurrent = max_concurrent

    def stream(self, requests: Sequence[Request], params: SamplingParams, *, on_token: Progress | None = None) -> HFStream:
        """Completions by batches of `max_concurrent`, the completions of a batch when the whole batch has ended."""
        _refuse_others(params)
        check_requests(requests, params, self.policy)
        sequences = [
            new_sequence(number, sibling, request.prompt_ids, seed, request.said[sibling] if request.said else None)
            for number, request in enumerate(requests) for sibling, seed in enumerate(request.seeds)
        ]
        return HFStream(self.policy, sequences, params, batch_size=self.max_concurrent, on_token=on_token)

    def generate(
        self, requests: Sequence[Request], params: SamplingParams, *, on_progress: Progress | None = None
    ) -> list[list[Completion]]:
        """Completions of each request, in the order of its seeds."""
        return in_order(requests, self.stream(requests, params, on_token=on_progress))

    def sync(self) -> None:
        """The weights are shared: nothing to do."""

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """The cache lives only as long as a batch."""
        yield


class HFStream:
    """Batches one after the other, each when its first completion is asked for."""

    def __init__(
        self, policy: Policy, sequences: list[Drawn], params: SamplingParams, *, batch_size: int, on_token: Progress | None
    ) -> None:
        self._policy, self._params, self._on_token = policy, params, on_token
        self._total = len(sequences)
        self._waiting = [sequences[start : start + batch_size] for start in range(0, len(sequences), batch_size)]
        self._done: list[Drawn] = []

    def __iter__(self) -> HFStream:
        return self

    def __next__(self) -> Finished:
        if not self._done:
            if not self._waiting:
                raise StopIteration
            self._done = self._run(self._waiting[0])
            del self._waiting[0]
        return self._finished(self._done.pop(0))

    def pause(self) -> list[Finished]:
        """What has not been handed out: the rest of the last batch, which has ended, and the batches that have not begun."""
        rest = [*self._done, *(sequence for batch in self._waiting for sequence in batch)]
        self._done, self._waiting = [], []
        return [self._finished(sequence) for sequence in rest]

    def _run(self, batch: list[Drawn]) -> list[Drawn]:
        """Sample one batch to its end."""
        finished = self._total - sum(map(len, self._waiting))
        contexts = [(*sequence.prompt_ids, *sequence.token_ids) for sequence in batch]
        width = max(map(len, contexts))
        device = self._policy.device
        token_ids = torch.tensor([(0,) * (width - len(ids)) + ids for ids in contexts], device=device)  # [B, L], padded on the left
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in contexts], device=device)  # [B, L]

        def on_token() -> None:
            if self._on_token is not None:
                self._on_token(finished + sum(sequence.finish_reason is not None for sequence in batch), self._total)

        drawing = _Drawing(batch, self._policy, self._params, on_token)
        longest = self._params.max_tokens - min(len(sequence.token_ids) for sequence in batch)
        longest = min(longest, self._params.pause_after or longest)
        with self._policy.sampling(), _transformers_attention(self._policy) as model:
            model.generate(
                token_ids, attention_mask=mask, max_new_tokens=longest, do_sample=False, pad_token_id=0, eos_token_id=None,
                logits_processor=[drawing], stopping_criteria=[drawing.all_ended],
            )
        return batch

    def _finished(self, sequence: Drawn) -> Finished:
        completion = sequence.completion(self._policy.version)
        return Finished(request=sequence.request, sibling=sequence.sibling, completion=completion)


class _Drawing:
    """A logits processor that draws the next token of every row, writes it down, and leaves the rest impossible."""

    def __init__(self, rows: list[Drawn], policy: Policy, params: SamplingParams, on_token: Any) -> None:
        self.rows, self.policy, self.params, self.on_token = rows, policy, params, on_token

    def __call__(self, token_ids: Tensor, logits: Tensor) -> Tensor:
        """`logits [B, V]` to scores that are finite for one token a row. Rows that have ended go on with token 0, unheard."""
        tokens = torch.zeros(len(self.rows), dtype=torch.int64, device=logits.device)  # [B]
        open_rows = [number for number, row in enumerate(self.rows) if row.finish_reason is None]
        where = torch.tensor(open_rows, device=logits.device)
        said, logprobs, entropies = self._draw(logits[where].float(), [self.rows[number] for number in open_rows])
        tokens[where] = said
        for number, *drawn in zip(open_rows, said.tolist(), logprobs.tolist(), entropies.tolist(), strict=True):
            self._say(self.rows[number], *drawn)
        self.on_token()
        return torch.full_like(logits, -math.inf).scatter_(1, tokens[:, None], 0.0)

    def all_ended(self, token_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """`[B]` every row has ended: the criterion that stops the batch."""
        ended = all(row.finish_reason is not None for row in self.rows)
        return torch.full((len(self.rows),), ended, device=token_ids.device)

    def _draw(self, logits: Tensor, rows: Sequence[Drawn]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, log-probs and entropies `[B]`; a temperature of 0 takes the likeliest token."""
        if self.params.temperature == 0:
            best = logits.log_softmax(-1).max(-1)
            return best.indices, best.values, torch.zeros_like(best.values)
        uniforms = torch.tensor([row.uniforms[len(row.token_ids)] for row in rows], dtype=torch.float64, device=logits.device)
        return sample(logits / self.params.temperature, uniforms)

    def _say(self, row: Drawn, token: int, logprob: float, entropy: float) -> None:
        if not math.isfinite(logprob):
            raise GuardStop(f"The model's log-probs are not finite ({logprob}): its weights are broken. Go back to an earlier "
                            "checkpoint, and lower train.learning_rate.")
        row.say(token, logprob, entropy, self.policy.version)
        if token in self.policy.end_ids:
            row.finish_reason = FinishReason.STOP
        else:
            row.finish_reason = row.reason_of_length(self.params)


@contextlib.contextmanager
def _transformers_attention(policy: Policy) -> Iterator[Any]:
    """The bare model with an attention of transformers, and without the generation settings of its checkpoint, while inside."""
    from transformers import GenerationConfig

    model = policy.model.get_base_model() if policy.is_lora else policy.model
    settings = model.generation_config
    capped = getattr(policy.text_config, "attn_logit_softcapping", None) is not None
    try:
        model.generation_config = GenerationConfig()
        model.set_attn_implementation("eager" if capped else "sdpa")
        yield model
    finally:
        model.set_attn_implementation(attention.NAME)
        model.generation_config = settings


def _refuse_others(params: SamplingParams) -> None:
    for each in fields(params):
        value = getattr(params, each.name)
        if each.name not in HONOURED and value != each.default:
            raise EngineError(f"The hf engine cannot sample with {each.name} = {value!r}: it knows only {' and '.join(HONOURED)}. "
                              "Leave it out, or use the native engine.")
