"""The estimate of a step's time: what it grows with, and by how much."""

from __future__ import annotations

from typing import Any

import pytest

from heron.config import Config, EvaluationConfig, ModelConfig, ObjectiveConfig, RolloutConfig, TrainConfig
from heron.memory.devices import find_device
from heron.memory.published import LLAMA_8B
from heron.memory.seconds import Seconds, step_seconds

H200 = find_device("H200")


def seconds(method: str = "lora", *, model: dict[str, Any] | None = None, train: dict[str, Any] | None = None,
            objective: dict[str, Any] | None = None, **rollout: Any) -> Seconds:
    config = Config(
        model=ModelConfig(method=method, lora_rank=32, **(model or {})),
        rollout=RolloutConfig(**{"num_generations": 8, "max_completion_length": 20_000, **rollout}),
        train=TrainConfig(**{"prompts_per_step": 1, **(train or {})}), objective=ObjectiveConfig(**(objective or {})),
        evaluation=EvaluationConfig(size=0),
    )
    return step_seconds(config, LLAMA_8B, prompt_tokens=480, device=H200)


def test_the_headline_job_takes_what_was_counted_by_hand() -> None:
    """Prevents: a factor of two. 163,840 tokens of Llama-3.1-8B by LoRA with recomputation are 6.9 PF of linear layers, 4.0 of attention
    and 0.3 of the head: 28 s at 0.4 of 989 TFLOP/s. Sampling reads 16 GB and up to 20 GB of keys in each of 20,000 passes."""
    found = seconds(model={"gradient_checkpointing": True, "offload": "off"})
    assert found.training == pytest.approx((6.9 + 4.0 + 0.34) / 0.3956, rel=0.08)
    assert found.sampling == pytest.approx(20_000 * (15e9 + 1e9 + 8 * 10_240 * 131_072) / (0.6 * 4.8e12), rel=0.1)


def test_what_makes_training_longer() -> None:
    """Prevents: a change that saves memory and seems to cost nothing."""
    plain = seconds().training
    longer = {
        "recomputation": seconds(model={"gradient_checkpointing": True, "offload": "off"}),
        "tiles": seconds(model={"tiled_mlp": 4096}), "4 bits": seconds("qlora"), "every weight": seconds("full"),
        "a reference": seconds(objective={"beta": 0.1}), "two passes": seconds(objective={"num_iterations": 2}),
        "an optimizer on the host": seconds(train={"offload_optimizer": True}),
    }
    assert [name for name, found in longer.items() if found.training <= plain] == []
    assert longer["two passes"].training == pytest.approx(2 * plain, rel=0.01)


def test_small_micro_batches_read_the_weights_more_often() -> None:
    """Prevents: a search that finds small micro-batches as good as large ones."""
    small, large = (seconds("qlora", max_completion_length=500, train={"micro_batch_tokens": tokens}) for tokens in (1000, 4000))
    assert small.training > 1.1 * large.training


def test_fewer_at_once_take_longer() -> None:
    """Prevents: a cache of any size being as good as another."""
    whole, cached, one = seconds(), seconds(cache_gib=5.5), seconds(max_concurrent=1)
    assert whole.sampling < cached.sampling < one.sampling
    assert cached.sampling == seconds(max_concurrent=2).sampling


def test_copies_to_the_host_hide_behind_wide_layers_alone() -> None:
    """Prevents: offload that is free for any model: its copies grow with the width, and the work that hides them with its square."""
    narrow = LLAMA_8B | {"hidden_size": 512, "intermediate_size": 1792, "num_attention_heads": 4, "num_key_value_heads": 1}

    def extra(model: dict[str, Any]) -> float:
        made = [Config(model=ModelConfig(method="lora", gradient_checkpointing=True, offload=offload)) for offload in ("on", "off")]
        on, off = (step_seconds(config, model, prompt_tokens=480, device=H200).training for config in made)
        return on / off

    assert extra(dict(LLAMA_8B)) == 1.0 < extra(narrow)


def test_a_token_meets_few_experts_and_a_batch_reads_many() -> None:
    """Prevents: a mixture of experts timed as if every token went through all of them, or as if their weights needed no reading."""
    experts = {"model_type": "qwen3_moe", "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "head_dim": 128}
    model = dict(LLAMA_8B) | {"hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4} | experts
    times = [step_seconds(Config(rollout=RolloutConfig(max_concurrent=rows)), model, prompt_tokens=100, device=H200) for rows in (1, 64)]
    all_of_them = step_seconds(Config(), model | {"num_experts_per_tok": 128}, prompt_tokens=100, device=H200)
    assert times[0].training == times[1].training < 0.3 * all_of_them.training
    assert times[1].sampling * 64 > 5 * times[0].sampling


def test_recomputing_the_weights_of_4_bits_slows_sampling() -> None:
    """Prevents: 4 bits sold as faster: unpacking them in every pass moves more bytes than 16 bits do."""
    assert seconds("qlora").sampling > seconds("lora").sampling
