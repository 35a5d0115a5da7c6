"""Faults that no loss curve shows: an adapter that does not move, a base that does, a reference that is not the start.

Each was seen in a program that trained on without a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import flat, make_trainer, small_config, some_flat
from tinymodels import load_tiny, save_tiny, stir_adapter
from torch import Tensor

from heron.config import Config
from heron.engine import NativeEngine
from heron.engine.hf import HFEngine
from heron.models import Policy
from heron.rewards import resolve
from heron.run import Run
from heron.training.assemble import assemble, reassemble
from heron.training.trainer import Trainer

pytest.importorskip("bitsandbytes")
WIDE = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
TINY_STEPS = {"prompts_per_step": 2, "micro_batch_tokens": 400}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("qwen3", tmp_path_factory.mktemp("base"), dtype=torch.bfloat16, **WIDE)


@pytest.fixture(scope="module")
def start(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter to begin from."""
    policy, folder = load_tiny(base, method="qlora", lora_rank=4), tmp_path_factory.mktemp("start")
    stir_adapter(policy, scale=0.1)
    policy.save(folder)
    return folder


def qlora(base: Path, *, model: dict[str, Any] | None = None, **sections: Any) -> Config:
    sections["train"] = TINY_STEPS | {"max_steps": 300} | sections.get("train", {})
    sections["rollout"] = {"num_generations": 4, "max_completion_length": 6} | sections.get("rollout", {})
    return small_config(base, model={"method": "qlora", "lora_rank": 4} | (model or {}), **sections)


def frozen(policy: Policy) -> dict[str, tuple[torch.dtype, str]]:
    """Type and digest of all that is not trained, scales of quantised weights included."""
    return {name: (tensor.dtype, digest(tensor)) for name, tensor in everything(policy) if not tensor.requires_grad}


def everything(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    yield from policy.model.named_parameters()
    yield from policy.model.named_buffers()
    for name, weight in policy.model.named_parameters():
        if (state := getattr(weight, "quant_state", None)) is not None:
            yield f"{name}.absmax", state.absmax
            yield f"{name}.offset", state.offset
    for name, module in policy.model.named_modules():
        if (state := getattr(module, "state", None)) is not None and state.SCB is not None:
            yield f"{name}.SCB", state.SCB


def digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()


def use_engine(trainer: Trainer, engine: Any) -> None:
    trainer.collector = replace(trainer.collector, engine=engine)
    trainer.updater = replace(trainer.updater, engine_is_exact=engine.exact_logprobs)


@pytest.mark.parametrize("bits", ["nf4", "int8"])
def test_small_updates_are_not_rounded_away(base: Path, tmp_path: Path, bits: str) -> None:
    """Prevents: an adapter in 16 bits, in which steps of 1e-6 are lost: B moves, since it is 0, and A stays what it was drawn."""
    config = qlora(base, model={"quantization": bits}, train={"learning_rate": 1e-6, "warmup_steps": 0})
    trainer = make_trainer(config, tmp_path / "run")
    before = {name: weight.detach().clone() for name, weight in trainer.policy.trainable() if "lora_A" in name}
    for _ in range(20):
        trainer.step()
    after = dict(trainer.policy.trainable())
    moved = sum(int((after[name] != weight).sum()) for name, weight in before.items())
    assert moved / sum(weight.numel() for weight in before.values()) > 0.99


@pytest.mark.slow
def test_the_base_is_the_same_bits_after_200_steps_and_two_engines(base: Path, tmp_path: Path) -> None:
    """Prevents: a base that is merged into and taken out of again, which adds rounding at each step; and types that change unseen."""
    shortest = {"num_generations": 2, "max_completion_length": 3}
    trainer = make_trainer(qlora(base, train={"prompts_per_step": 1}, rollout=shortest), tmp_path / "run")
    before, types = frozen(trainer.policy), {name: tensor.dtype for name, tensor in everything(trainer.policy)}
    began = [weight.detach().clone() for _, weight in trainer.policy.trainable()]
    for number in range(4):
        use_engine(trainer, (NativeEngine, HFEngine)[number % 2](trainer.policy))
        for _ in range(10 if number % 2 else 90):
            trainer.step()
    assert trainer.state.step == 200
    assert frozen(trainer.policy) == before
    assert {name: tensor.dtype for name, tensor in everything(trainer.policy)} == types
    assert not any(torch.equal(one, other) for one, (_, other) in zip(began, trainer.policy.trainable(), strict=True))


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_checkpoint_of_16_bits_is_loaded_as_such(base: Path, method: str) -> None:
    """Prevents: a base of twice the size, in float32."""
    policy = load_tiny(base, method=method)
    plain = {weight.dtype for name, weight in policy.model.named_parameters() if "lora_" not in name}
    assert plain - {torch.uint8} == {torch.bfloat16} == {policy.dtype}


def test_the_reference_is_the_start_of_the_run(base: Path, start: Path, tmp_path: Path) -> None:
    """Prevents: a KL from the bare base, which pulls the warm-up out of the model. Rewards are all equal: the KL alone could move it."""
    trainer = make_trainer(qlora(base, model={"adapter": str(start)}, objective={"beta": 0.5}), tmp_path / "run", rewards=(flat,))
    for _ in range(3):
        trainer.step()
    assert [record["kl"] for record in Run(tmp_path / "run").metrics()] == [0.0, 0.0, 0.0]
    fresh = load_tiny(base, method="qlora", lora_rank=4, adapter=str(start))
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(trainer.policy.trainable(), fresh.trainable(), strict=True))


def test_a_resumed_run_is_the_same_bit_for_bit(base: Path, start: Path, tmp_path: Path) -> None:
    """Prevents: another choice of layers to keep, another adapter to measure the KL from, or scales that are quantised anew otherwise."""
    settings: dict[str, Any] = {"quantization_keep": 0.2, "adapter": str(start)}
    config = qlora(base, model=settings, objective={"beta": 0.05}, train={"max_steps": 4, "save_steps": 2})
    rewards = resolve([some_flat])

    def cut(kind: str, payload: Any) -> None:
        if kind == "metrics" and payload["step"] == 3:
            raise KeyboardInterrupt

    assemble(config, tmp_path / "whole", rewards=rewards).train()
    with pytest.raises(KeyboardInterrupt):
        assemble(config, tmp_path / "cut", rewards=rewards, listeners=[cut]).train()
    resumed = reassemble(tmp_path / "cut", rewards=rewards)
    assert resumed.state.step == 2
    resumed.train()
    whole, again = Run(tmp_path / "whole"), Run(tmp_path / "cut")
    assert whole.manifest["quantization_kept"] == again.manifest["quantization_kept"] != []
    assert [record["kl"] for record in whole.metrics()] == [record["kl"] for record in again.metrics()]
    assert whole.metrics()[-1]["kl"] > 0.0
    weights = "adapter_model.safetensors"
    assert (whole.model_dir / weights).read_bytes() == (again.model_dir / weights).read_bytes()
    assert not (again.model_dir / "reference").exists()
