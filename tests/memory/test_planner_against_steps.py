"""The planned peaks against what a real step and a real wave of sampling hold at once, counted storage by storage."""

from __future__ import annotations

import random
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import TAGS, completion, prompt, random_ids, save_tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from heron.config import Config, load_config
from heron.engine import NativeEngine, Request, SamplingParams
from heron.memory import plan
from heron.models import Policy, load_policy
from heron.training.batch import Microbatch, pack
from heron.training.compiled import objective_of
from heron.training.optimizer import make_optimizer
from heron.training.samples import Weighing, make_samples
from heron.training.update import accumulate, clip_and_step
from heron.types import Group, Rollout, Turn

PROMPT, REPLY, SIBLINGS = 40, 90, 4
SHAPE = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "head_dim": 32, "vocab_size": 4000}


class Live(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, and remembers the most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place not in self.seen:
            self.seen.add(place)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.drop, place, size)

    def drop(self, place: int, size: int) -> None:
        self.seen.discard(place)
        self.now -= size

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf)
        return output


def prepare(tmp_path: Path, settings: dict[str, Any], *, tied: bool = True) -> tuple[Config, Policy]:
    folder = save_tiny("qwen3", tmp_path / "model", **SHAPE, tie_word_embeddings=tied)
    model = {"name": str(folder), "device": "cpu", "lora_rank": 8} | settings
    config = load_config("arithmetic", {
        "model": model, "rollout": {"num_generations": SIBLINGS, "max_completion_length": REPLY},
        "train": {"prompts_per_step": 2, "micro_batch_tokens": PROMPT + SIBLINGS * REPLY}, "evaluation": {"size": 0},
    })
    return config, load_policy(config.model, TAGS)


def full_batches() -> list[Microbatch]:
    """Two micro-batches, each a whole group of the longest prompt and answers."""
    draw = random.Random(0)
    groups = []
    for number in range(2):
        row, first = prompt(number), random_ids(draw, PROMPT)
        turns = [(Turn(prompt_ids=first, completion=completion(random_ids(draw, REPLY))),) for _ in range(SIBLINGS)]
        rollouts = tuple(Rollout(prompt=row, turns=turn, text="", reward=1.0, advantage=1.0) for turn in turns)
        groups.append(Group(prompt=row, rollouts=rollouts))
    samples = make_samples(groups, Weighing(scheme="tokens", max_completion_length=REPLY, keep_all=True))
    return pack(samples, budget=PROMPT + SIBLINGS * REPLY, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("settings", "tied"),
    [
        ({"method": "full"}, True), ({"method": "full", "gradient_checkpointing": True}, False), ({"method": "lora"}, True),
        ({"method": "lora", "dtype": "bfloat16"}, True), ({"method": "lora", "dtype": "bfloat16", "gradient_checkpointing": True}, True),
    ],
)
def test_a_training_step_needs_what_was_planned(tmp_path: Path, settings: dict[str, Any], tied: bool) -> None:
    """Prevents: a plan that is beautiful and wrong: too small, or a tenth too large."""
    config, policy = prepare(tmp_path, settings, tied=tied)
    optimizer, batches = make_optimizer(policy.trainable(), config.train), full_batches()
    policy.model.train()
    step(policy, optimizer, batches, config)  # the optimizer has no state before its first step
    with Live() as live:
        for tensor in [*policy.model.parameters(), *tree_leaves(list(optimizer.state.values()))]:
            live.add(tensor)
        step(policy, optimizer, batches, config)
    planned = plan(config, policy.text_config.to_dict(), prompt_tokens=PROMPT).peak_of("train", "host")
    assert 0.97 * live.peak <= planned <= 1.1 * live.peak


def step(policy: Policy, optimizer: torch.optim.Optimizer, batches: list[Microbatch], config: Config) -> None:
    for batch in batches:
        accumulate(policy, batch, objective_of(config.objective), temperature=1.0)
    clip_and_step(optimizer, max_grad_norm=1.0)


class Enough(Exception):
    """The wave has shown what it needs."""


def stop(finished: int, total: int) -> None:
    raise Enough


@pytest.mark.parametrize("vocabulary", [300, 20_000])
def test_sampling_needs_what_was_planned(tmp_path: Path, vocabulary: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a plan without the logits of a wide vocabulary, or without the cache."""
    monkeypatch.setitem(SHAPE, "vocab_size", vocabulary)
    config, policy = prepare(tmp_path, {"method": "lora"})
    draw = random.Random(0)
    requests = [Request(prompt_ids=random_ids(draw, PROMPT), seeds=tuple(range(SIBLINGS))) for _ in range(2)]
    with Live() as live, pytest.raises(Enough):
        for weight in policy.model.parameters():
            live.add(weight)
        NativeEngine(policy).generate(requests, SamplingParams(max_tokens=REPLY), on_progress=stop)
    made = plan(config, policy.text_config.to_dict(), prompt_tokens=PROMPT)
    moments = next(row.bytes for row in made.rows if row.name == "optimizer state")
    assert 0.95 * live.peak <= made.peak_of("sample", made.device) - moments <= 1.25 * live.peak
