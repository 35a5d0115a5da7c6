"""Sampling in waves: prefill every prompt once, then decode all completions together, dropping those that have ended.

The sampler *is* the trainer's model (see `kernels.attention`), so its log-probs are the trainer's and a new policy version needs no
copy. The one hard idea: siblings that have said the same so far share one row of the cache and are computed once; each draws from the
row's distribution with its own random numbers, and where they differ the row is forked. What it leaves out: refilling the places of
finished completions before the wave has ended.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from heron.engine.native.cache import DecodePlan, KeyValueCache, PrefillPlan, empty_cache, prompt_layout
from heron.engine.protocol import Request, SamplingParams
from heron.errors import EngineError, GuardStop
from heron.kernels.attention import packed_plan
from heron.kernels.sampling import sample
from heron.models.policy import Policy
from heron.types import Completion, FinishReason

COMPACT_BELOW = 0.8
"""Finished rows are dropped from the tensors once fewer than this share of the rows is alive."""

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class _Sequence:
    """One completion in the making."""

    uniforms: list[float]  # one for each token
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    finish_reason: FinishReason | None = None


class NativeEngine:
    """Samples from `policy` itself."""

    exact_logprobs = True

    def __init__(self, policy: Policy, *, max_concurrent: int = 256) -> None:
        self.policy = policy
        self.max_concurrent = max_concurrent

    def sync(self) -> None:
        """The weights are shared: nothing to do."""

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """The cache of a wave lives only inside `generate`; on CUDA its memory goes back to the allocator's free list."""
        yield

    def generate(
        self, requests: Sequence[Request], params: SamplingParams, *, on_progress: Progress | None = None
    ) -> list[list[Completion]]:
        """Completions of each request, in the order of its seeds."""
        self._check(requests, params)
        sequences = [[_Sequence(uniforms=_uniforms(seed, params)) for seed in request.seeds] for request in requests]
        everything = [sequence for siblings in sequences for sequence in siblings]
        with self.policy.sampling():
            for wave in self._waves(requests):
                members = [[sequences[request][sibling] for sibling in siblings] for request, siblings in wave]
                prompts = [requests[request].prompt_ids for request, _ in wave]
                for _ in self._decode(prompts, members, params):
                    if on_progress is not None:
                        on_progress(sum(sequence.finish_reason is not None for sequence in everything), len(everything))
        return [[self._completion(sequence) for sequence in siblings] for siblings in sequences]

    def _check(self, requests: Sequence[Request], params: SamplingParams) -> None:
        limit = self.policy.context_length
        longest = max((len(request.prompt_ids) for request in requests), default=0)
        if limit is not None and longest + params.max_tokens > limit:
            raise EngineError(f"A prompt of {longest} tokens and up to {params.max_tokens} new ones exceed the model's context "
                              f"of {limit}. Shorten the prompts or rollout.max_completion_length.")
        if any(not request.prompt_ids for request in requests):
            raise EngineError("A request has no prompt tokens. Every prompt needs at least one.")
        highest = max((max(request.prompt_ids) for request in requests), default=0)
        if highest >= self.policy.vocabulary_size:
            raise EngineError(f"A prompt holds the token {highest}, but the model's vocabulary has {self.policy.vocabulary_size} entries. "
                              "Tokenizer and model do not belong together, or tokens were added without resizing the embedding.")

    def _waves(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, range]]]:
        """Cut the requests into waves of at most `max_concurrent` completions: `(request, its siblings)`, longest prompts first."""
        wave: list[tuple[int, range]] = []
        room = self.max_concurrent
        for request in sorted(range(len(requests)), key=lambda index: -len(requests[index].prompt_ids)):
            first, count = 0, len(requests[request].seeds)
            while first < count:
                taken = min(count - first, room)
                wave.append((request, range(first, first + taken)))
                first, room = first + taken, room - taken
                if room == 0:
                    yield wave
                    wave, room = [], self.max_concurrent
        if wave:
            yield wave

    def _decode(
        self, prompts: Sequence[tuple[int, ...]], members: Sequence[Sequence[_Sequence]], params: SamplingParams
    ) -> Iterator[None]:
        """Run one wave to its end, yielding after every token."""
        rows = [list(siblings) for siblings in members]  # a row of the cache serves all sequences that have said the same so far
        cache, logits = self._prefill(prompts, sum(map(len, rows)), params.max_tokens)
        positions = torch.tensor([len(prompt) for prompt in prompts], device=self.policy.device)  # [B] of the next token
        padded = bool((cache.starts > 0).any())
        for column in range(params.max_tokens):
            self._choose(logits, rows, column, params)
            self._record(rows, column, params.max_tokens)
            yield
            rows, forks = _branches(rows)
            if not any(rows):
                return
            if forks:
                parents = torch.tensor(forks, device=self.policy.device)
                cache.fork(parents)
                positions = torch.cat([positions, positions[parents]])
            if sum(map(bool, rows)) < COMPACT_BELOW * len(rows):
                kept = torch.tensor([number for number, row in enumerate(rows) if row], device=self.policy.device)
                rows = [row for row in rows if row]
                cache.keep(kept, room=sum(map(len, rows)))
                positions = positions[kept]
            tokens = torch.tensor([row[0].token_ids[-1] if row else 0 for row in rows], device=self.policy.device)  # [B]
            logits = self._step(cache, tokens, positions, padded)
            positions = positions + 1

    def _prefill(self, prompts: Sequence[tuple[int, ...]], room: int, max_tokens: int) -> tuple[KeyValueCache, Tensor]:
        """Compute every prompt once; returns the filled cache, with room for so many rows, and the logits `[B, V]` of the first tokens."""
        device = self.policy.device
        lengths = [len(prompt) for prompt in prompts]
        width = max(lengths)
        rows, columns = prompt_layout(lengths, width)
        cache = empty_cache([width - length for length in lengths], room=room, capacity=width + max_tokens, cursor=width, device=device)
        offsets = [sum(lengths[:index]) for index in range(len(lengths))]
        plan = PrefillPlan(
            packed=packed_plan([range(start, start + n) for start, n in zip(offsets, lengths, strict=True)], device=device),
            cache=cache, rows=torch.tensor(rows, device=device), columns=torch.tensor(columns, device=device),
        )
        token_ids = torch.tensor([[token for prompt in prompts for token in prompt]], device=device)  # [1, T]
        positions = torch.tensor([[position for n in lengths for position in range(n)]], device=device)  # [1, T]
        hidden = self.policy.hidden(token_ids, positions, plan)  # [1, T, D]
        last = torch.tensor([start + n - 1 for start, n in zip(offsets, lengths, strict=True)], device=device)
        return cache, self.policy.logits(hidden[0, last])

    def _step(self, cache: KeyValueCache, tokens: Tensor, positions: Tensor, padded: bool) -> Tensor:
        """Feed one token per row; returns the logits `[B, V]` of the next ones."""
        visible = None
        if padded:
            columns = torch.arange(cache.cursor + 1, device=tokens.device)
            visible = (columns >= cache.starts[:, None])[:, None, None]  # [B, 1, 1, t]
        hidden = self.policy.hidden(tokens[:, None], positions[:, None], DecodePlan(cache=cache, visible=visible))
        cache.cursor += 1
        return self.policy.logits(hidden[:, 0])

    @staticmethod
    def _choose(logits: Tensor, rows: Sequence[Sequence[_Sequence]], column: int, params: SamplingParams) -> None:
        """Draw the next token of every sequence from the logits of its row."""
        sequences = [sequence for row in rows for sequence in row]
        sources = torch.tensor([number for number, row in enumerate(rows) for _ in row], device=logits.device)
        logits = logits.index_select(0, sources)  # [sequences, V]
        if params.temperature == 0:
            logprobs = logits.log_softmax(-1)
            tokens = logprobs.argmax(-1)
            chosen, entropy = logprobs.gather(-1, tokens[:, None]).squeeze(-1), torch.zeros_like(logprobs[:, 0])
        else:
            uniforms = torch.tensor([sequence.uniforms[column] for sequence in sequences], dtype=torch.float64, device=logits.device)
            tokens, chosen, entropy = sample(logits / params.temperature, uniforms)
        for sequence, token, logprob, nats in zip(sequences, tokens.tolist(), chosen.tolist(), entropy.tolist(), strict=True):
            if not math.isfinite(logprob):
                raise GuardStop(f"The model's log-probs are not finite ({logprob}): its weights are broken. Go back to an earlier "
                                "checkpoint, and lower train.learning_rate.")
            sequence.token_ids.append(token)
            sequence.logprobs.append(logprob)
            sequence.entropies.append(nats)

    def _record(self, rows: Sequence[Sequence[_Sequence]], column: int, max_tokens: int) -> None:
        """Close the sequences that have just ended."""
        for sequence in (sequence for row in rows for sequence in row):
            if sequence.token_ids[-1] in self.policy.end_ids:
                sequence.finish_reason = FinishReason.STOP
            elif column + 1 == max_tokens:
                sequence.finish_reason = FinishReason.LENGTH

    def _completion(self, sequence: _Sequence) -> Completion:
        assert sequence.finish_reason is not None, "a wave ended with an open sequence"
        return Completion(
            token_ids=tuple(sequence.token_ids), logprobs=tuple(sequence.logprobs), finish_reason=sequence.finish_reason,
            policy_version=self.policy.version, entropies=tuple(sequence.entropies),
        )


def _branches(rows: Sequence[Sequence[_Sequence]]) -> tuple[list[list[_Sequence]], list[int]]:
    """The open sequences of every row by what they have just said: one branch stays (or the row is empty), others are new rows.

    Returns all rows, new ones last, and for each new row the one that it forks from.
    """
    stay: list[list[_Sequence]] = []
    new: list[list[_Sequence]] = []
    forks: list[int] = []
    for number, row in enumerate(rows):
        branches: dict[int, list[_Sequence]] = {}
        for sequence in row:
            if sequence.finish_reason is None:
                branches.setdefault(sequence.token_ids[-1], []).append(sequence)
        first, *others = branches.values() or ([],)
        stay.append(first)
        new += others
        forks += [number] * len(others)
    return [*stay, *new], forks


def _uniforms(seed: int, params: SamplingParams) -> list[float]:
    """The random numbers of one completion, `max_tokens` of them, float64."""
    return torch.rand(params.max_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
