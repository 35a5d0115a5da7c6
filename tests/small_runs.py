"""Runs that take a second, for tests of the loop: a tiny model, short answers, rewards that tell any two answers apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tinymodels import ragged_groups

from heron.config import Config, load_config
from heron.engine import NativeEngine, Request, SamplingParams
from heron.engine.protocol import Finished
from heron.models import Policy
from heron.rewards import resolve
from heron.run import Run
from heron.training.assemble import assemble
from heron.training.batch import pack
from heron.training.samples import Sample
from heron.training.trainer import Trainer
from heron.types import Completion, Group


def small_config(folder: Path, /, **sections: Mapping[str, Any]) -> Config:
    """Temperature and length are those of `naive.py`."""
    small = {
        "model": {"name": str(folder), "device": "cpu"}, "data": {"limit": 40},
        "rollout": {"num_generations": 4, "max_completion_length": 12, "temperature": 0.8},
        "train": {"max_steps": 3, "prompts_per_step": 4, "learning_rate": 3e-3, "micro_batch_tokens": 200},
        "evaluation": {"size": 0},
    }
    return load_config("arithmetic", small, sections)


def some_flat(prompt: str, completion: str) -> float:
    """The same for all answers to about half of the questions; else the number of different characters."""
    return 1.0 if sum(map(ord, prompt)) % 2 else len(set(completion)) / 10


def flat(completion: str) -> float:
    return 1.0


def make_trainer(config: Config, run_dir: Path, *, rewards: Sequence[Any] = (some_flat,)) -> Trainer:
    return assemble(config, run_dir, rewards=resolve(list(rewards)))


class Engine(NativeEngine):
    """The native engine, which admits or denies that its log-probs are the trainer's, and reports entropies or does not."""

    def __init__(self, policy: Policy, *, exact_logprobs: bool = False, entropies: bool = True) -> None:
        super().__init__(policy)
        self.exact_logprobs = exact_logprobs  # type: ignore[misc]
        self.reports_entropies = entropies

    def stream(
        self, requests: Sequence[Request], params: SamplingParams, *, on_token: Callable[[int, int], None] | None = None
    ) -> Iterator[Finished]:  # type: ignore[override]
        for each in super().stream(requests, params, on_token=on_token):
            yield replace(each, completion=self.reported(each.completion))

    def reported(self, completion: Completion) -> Completion:
        """As this engine tells it."""
        return completion if self.reports_entropies else replace(completion, entropies=())


def use_engine(trainer: Trainer, engine: Engine) -> None:
    """As `assemble` does it, with another engine."""
    trainer.collector = replace(trainer.collector, engine=engine)
    trainer.updater = replace(trainer.updater, engine_is_exact=engine.exact_logprobs)


def cut_after(trainer: Trainer, step: int) -> None:
    """Train, and be ended when this step is recorded, before it is saved."""

    def end(kind: str, payload: Mapping[str, Any]) -> None:
        if kind == "metrics" and payload["step"] == step:
            raise KeyboardInterrupt

    trainer.run.subscribe(end)
    try:
        trainer.train()
    except KeyboardInterrupt:
        return
    raise AssertionError(f"it ended before step {step} was recorded")


@dataclass(slots=True)
class Forwards:
    """Packed tokens of every forward pass through a policy's layers, by what it was for."""

    sampling: list[int] = field(default_factory=list)
    training: list[int] = field(default_factory=list)
    without_gradient: list[int] = field(default_factory=list)
    """Neither: old log-probs, or those of a reference that shares the layers."""
    reference: list[int] = field(default_factory=list)
    """Through the layers of a frozen copy."""
    groups: list[Group] = field(default_factory=list)
    """That were trained on."""


@contextmanager
def counted(trainer: Trainer) -> Iterator[Forwards]:
    """Counts inside."""
    found = Forwards()
    policy = trainer.policy

    def through_policy(module: torch.nn.Module, _: Any, keywords: dict[str, Any], output: Any) -> None:
        kind = found.training if torch.is_grad_enabled() else found.without_gradient
        (found.sampling if torch.is_inference_mode_enabled() else kind).append(keywords["input_ids"].numel())

    def through_reference(module: torch.nn.Module, _: Any, keywords: dict[str, Any], output: Any) -> None:
        found.reference.append(keywords["input_ids"].numel())

    hooks = [decoder(policy).register_forward_hook(through_policy, with_kwargs=True)]
    if policy.reference is not None:
        hooks.append(decoder(policy.reference).register_forward_hook(through_reference, with_kwargs=True))
    remember(trainer, found.groups)
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def decoder(policy: Policy) -> torch.nn.Module:
    model = policy.model.get_base_model() if policy.is_lora else policy.model
    return model.get_decoder()  # type: ignore[no-any-return]


def remember(trainer: Trainer, groups: list[Group]) -> None:
    """Keep what the run is told of each step's rollouts."""
    record = trainer.run.rollouts

    def rollouts(step: int, made: Sequence[Group]) -> None:
        groups.extend(made)
        record(step, made)

    trainer.run.rollouts = rollouts  # type: ignore[method-assign]


def logprobs(policy: Policy, *, of_reference: bool = False) -> torch.Tensor:
    """Of some tokens."""
    prompt = ragged_groups(5)[0].rollouts
    samples = [
        Sample(prompt_ids=each.turns[0].prompt_ids, token_ids=each.completion_ids, is_trained=(True,) * len(each.completion_ids),
               sampler_logprobs=(0.0,) * len(each.completion_ids), keep=(True,) * len(each.completion_ids), advantage=1.0, weight=1.0,
               entropy_weight=0.0) for each in prompt
    ]
    (batch,) = pack([samples], budget=1 << 30, device=policy.device)
    if of_reference:
        return policy.reference_logprobs(batch.token_ids, batch.positions, batch.plan, batch.where, batch.targets, temperature=1.0)
    with torch.no_grad():
        hidden = policy.hidden(batch.token_ids, batch.positions, batch.plan)
        return policy.logprobs(hidden[0, batch.where], batch.targets, temperature=1.0)[0]


VARIES = ("time/", "throughput/", "memory/")
"""Metrics that depend on the clock."""


def outcome(run: Run) -> dict[str, Any]:
    """What a run came to, without what depends on the clock: its weights' SHA-256, and all of its record."""
    return {
        "weights": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in run.model_dir.glob("*.safetensors")},
        "metrics": [{key: value for key, value in record.items() if not key.startswith(VARIES)} for record in run.metrics()],
        "rollouts": [run.rollouts(step) for step in run.rollout_steps()],
        "evaluations": {name: (run.evaluation(name).rows, dict(run.evaluation(name).totals)) for name in sorted(run.evaluations())},
    }
