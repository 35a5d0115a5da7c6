"""The largest step that these settings allow, taken before the first one and thrown away: a long row cannot end hour five.

The one hard idea: nothing of it stays. Its gradient is dropped, no optimizer step is taken, random states are put back, and its answers
are made up. So the run after it is bit for bit the run without it, but for the sizes that were halved where memory ran out.

It samples the first tokens of as many of the longest prompts as a step or an evaluation has, with a cache for full completions; and it
trains on one full micro-batch of longest prompts with full completions, no two of which begin alike, beside an optimizer's state that is as
large as it will be. Left out: scoring, a judge in this process, and a vLLM.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from heron.config.schema import Config
from heron.engine import Engine, Request, SamplingParams
from heron.memory import Plan, in_gib
from heron.memory.table import ALWAYS, SAMPLE, TRAIN
from heron.models.policy import Policy
from heron.run import RunWriter
from heron.training.batch import pack
from heron.training.guarding.rescue import Rescue
from heron.training.passes import Minibatch
from heron.training.samples import Sample
from heron.training.timing import resident
from heron.training.updater import Updater

TOKENS = 3
"""That are sampled of every completion."""


def is_wanted(config: Config, device: torch.device) -> bool:
    """Asked for, or left to the device: a GPU's memory is a wall, a CPU's gives way."""
    return config.train.dry_step == "on" or (config.train.dry_step == "auto" and device.type == "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class DryStep:
    """What is rehearsed, and with whom."""

    config: Config
    """Sizes."""
    policy: Policy
    """Whose memory it is."""
    engine: Engine
    """Samples."""
    updater: Updater
    """Trains."""
    rescue: Rescue
    """Halves what does not fit."""
    run: RunWriter
    """Is told."""
    planned: Plan | None
    """To be held against; None where there is none."""

    def rehearse(self, turns: int) -> None:
        """Both halves of it, for conversations of up to so many answers."""
        longest = self.rescue.longest_prompt()
        self.sample(longest)
        self.train(longest, turns)

    def sample(self, prompt_tokens: int) -> None:
        """The first tokens of the largest batch of answers, with room for all of them."""
        if self.config.rollout.engine == "vllm":
            return
        rollout, evaluation = self.config.rollout, self.config.evaluation
        rows = max(self.config.train.prompts_per_step * rollout.num_generations, evaluation.size * max(evaluation.samples, 1))
        requests = [
            Request(prompt_ids=self._tokens(prompt_tokens, row), seeds=tuple(range(rollout.num_generations)))
            for row in range(-(-rows // rollout.num_generations))
        ]
        params = SamplingParams(max_tokens=rollout.max_completion_length, temperature=rollout.temperature)
        with self._measured("sampling", SAMPLE):
            self.rescue.sampling("sampling in the dry step", self.engine, rows, lambda: _begin(self.engine, requests, params))

    def train(self, prompt_tokens: int, turns: int) -> None:
        """Forward and backward pass of a full micro-batch."""
        said = turns * self.config.rollout.max_completion_length
        if self.policy.context_length is not None:
            said = max(1, min(said, self.policy.context_length - prompt_tokens))
        was_training = self.policy.model.training
        self.policy.model.train(self.config.model.recomputes)
        with self._measured("training", TRAIN), self._state_to_come():
            self.updater.rehearse(self._minibatch(prompt_tokens, said), self.rescue)
        self.policy.model.train(was_training)

    def _minibatch(self, prompt_tokens: int, said: int) -> Minibatch:
        """The first micro-batch of a step in which every answer is as long as it may be."""
        budget, size = self.rescue.micro_batch_tokens, self.config.rollout.num_generations
        groups: list[list[Sample]] = []
        while len(groups) < self.config.train.prompts_per_step and len(groups) * size * said <= budget:
            prompt = self._tokens(prompt_tokens, len(groups))
            groups.append([_sample(prompt, self._tokens(said, 1 + len(groups) * size + sibling)) for sibling in range(size)])
        first = pack(groups, budget=budget, device=torch.device("cpu"))[0].num_rows
        samples = iter(list(itertools.chain(*groups))[:first])
        chosen = [list(itertools.islice(samples, size)) for _ in groups]
        return Minibatch.packed([group for group in chosen if group], budget=budget, device=self.policy.device)

    def _tokens(self, count: int, begin: int) -> tuple[int, ...]:
        """Made-up tokens, the first of them `begin`, so that rows of different `begin` have no beginning in common."""
        size = self.policy.vocabulary_size
        return tuple((begin + 7919 * place) % size for place in range(count))

    @contextmanager
    def _state_to_come(self) -> Iterator[None]:
        """As much memory as the optimizer will hold from its first step on."""
        state = [row.bytes for row in self.planned.rows if row.name == "optimizer state" and row.phase in (ALWAYS, TRAIN)] \
            if self.planned is not None and self.policy.device.type == "cuda" and not self.updater.optimizer.state else []
        held = torch.empty(sum(state), dtype=torch.uint8, device=self.policy.device)
        yield
        del held

    @contextmanager
    def _measured(self, phase: str, planned: str) -> Iterator[None]:
        """Tell the peak inside, beside the plan's; random states are afterwards what they were."""
        device = self.policy.device
        devices = [device] if device.type == "cuda" else []
        if devices:
            torch.cuda.reset_peak_memory_stats(device)
        with torch.random.fork_rng(devices=devices):
            yield
        peak = torch.cuda.max_memory_allocated(device) if devices else resident("VmHWM")
        foreseen = None if self.planned is None else self.planned.peak_of(planned, self.planned.device)
        self.run.event("dry_step", phase=phase, peak_gib=peak / 2**30, planned_gib=None if foreseen is None else foreseen / 2**30)
        beside = "" if foreseen is None else f", {in_gib(foreseen)} planned"
        kind = "allocated" if devices else "held by the process"
        self.run.event("message", text=f"Dry step, {phase} at full length: {in_gib(peak)} {kind} at the peak{beside}.")
        if devices:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)


class _Enough(Exception):
    """Sampled what was wanted."""


def _begin(engine: Engine, requests: list[Request], params: SamplingParams) -> None:
    """Sample some tokens of everything that runs at once, and drop them."""
    calls = itertools.count(1)

    def on_token(finished: int, total: int) -> None:
        if next(calls) >= TOKENS:
            raise _Enough

    with engine.awake():
        try:
            for _ in engine.stream(requests, params, on_token=on_token):
                pass
        except _Enough:
            return


def _sample(prompt_ids: tuple[int, ...], token_ids: tuple[int, ...]) -> Sample:
    count = len(token_ids)
    return Sample(
        prompt_ids=prompt_ids, token_ids=token_ids, is_trained=(True,) * count, sampler_logprobs=(0.0,) * count, keep=(True,) * count,
        advantage=1.0, weight=1.0 / count, entropy_weight=1.0 / count,
    )
