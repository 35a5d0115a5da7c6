"""The memory plan: weights counted like real models count them, and phases that take turns."""

from __future__ import annotations

import pytest

from heron.config import Config, EvaluationConfig, ModelConfig, ObjectiveConfig, RolloutConfig, TrainConfig
from heron.errors import ConfigError, ModelError
from heron.memory import plan, read_shape

QWEN3_600M = {
    "model_type": "qwen3",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}
LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def size(config: Config, name: str, phase: str, **options: object) -> int:
    made = plan(config, QWEN3_600M, prompt_tokens=100, **options)  # type: ignore[arg-type]
    return next(row.bytes for row in made.rows if row.name == name and row.phase == phase)


@pytest.mark.parametrize(("model", "published"), [(QWEN3_600M, 596_049_920), (LLAMA_8B, 8_030_261_248)])
def test_published_models_have_their_published_number_of_weights(model: dict, published: int) -> None:
    """Prevents: a formula that is right for tiny models alone (untied heads, GQA, a head_dim that is not hidden/heads)."""
    assert read_shape(model).parameters == published


def test_an_adapter_of_llama_has_the_well_known_size() -> None:
    """Prevents: forgetting a linear layer; rank 32 on all of Llama-3.1-8B is 83.9 million weights."""
    assert read_shape(LLAMA_8B).adapter_parameters(32, ()) == 83_886_080


def test_phases_take_turns() -> None:
    """Prevents: adding the cache to the activations, which are never there together."""
    made = plan(Config(), QWEN3_600M, prompt_tokens=100)
    always = sum(row.bytes for row in made.rows if row.phase == "always")
    assert made.peak == max(made.sampling_peak, made.evaluation_peak, made.training_peak)
    assert made.sampling_peak + made.training_peak + made.evaluation_peak - 2 * always == sum(row.bytes for row in made.rows)


def test_the_cache_has_a_cell_per_token_layer_and_key_head() -> None:
    """Prevents: a cache counted with query heads, for one sequence, or with the prompt repeated for each sibling."""
    config = Config(rollout=RolloutConfig(num_generations=4, max_completion_length=60), train=TrainConfig(prompts_per_step=3))
    pages = 3 * 4 + 12 * 3  # 100 tokens a prompt, shared by four; 60 of an answer and a page to fork to
    assert size(config, "key-value cache", "sampling") == 2 * 28 * 8 * 128 * 2 * pages * 32


def test_the_cache_is_bounded_by_max_concurrent() -> None:
    """Prevents: a plan that ignores how many completions run at once."""
    config = Config(rollout=RolloutConfig(max_completion_length=60, max_concurrent=5))
    assert size(config, "key-value cache", "sampling") == 2 * 28 * 8 * 128 * 2 * (4 + 5 * 3) * 32


def test_the_cache_is_bounded_by_its_budget() -> None:
    """Prevents: a plan that does not fit because the cache was counted as if it had no limit."""
    config = Config(rollout=RolloutConfig(cache_gib=0.25))
    assert size(config, "key-value cache", "sampling") == 2**28
    assert size(Config(rollout=RolloutConfig(cache_gib=100)), "key-value cache", "sampling") < 100 * 2**30


def test_keys_are_wide_on_a_cpu() -> None:
    """Prevents: a plan for bfloat16 on a CPU without the float32 keys that the engine keeps there."""
    on_cpu, elsewhere = (Config(model=ModelConfig(device=device, dtype="bfloat16")) for device in ("cpu", "cuda"))
    assert size(on_cpu, "key-value cache", "sampling") * 2 == size(elsewhere, "key-value cache", "sampling") * 3


def test_evaluation_may_need_more_than_a_step() -> None:
    """Prevents: a run that dies in its first evaluation, which samples more completions at once than any step."""
    config = Config(rollout=RolloutConfig(num_generations=2), train=TrainConfig(prompts_per_step=1), evaluation=EvaluationConfig(size=64))
    made = plan(config, QWEN3_600M, prompt_tokens=100)
    assert made.peak == max(made.evaluation_peak, made.training_peak) and made.evaluation_peak > made.sampling_peak


def test_no_evaluation_takes_no_memory() -> None:
    """Prevents: rows for a phase that does not happen."""
    made = plan(Config(evaluation=EvaluationConfig(size=0)), QWEN3_600M, prompt_tokens=100)
    assert not [row for row in made.rows if row.phase == "evaluation"]


def test_full_fine_tuning_keeps_a_reference_only_for_a_kl() -> None:
    """Prevents: a copy that is planned but never made, or made but not planned."""
    names = [row.name for row in plan(Config(), QWEN3_600M, prompt_tokens=100).rows]
    with_kl = Config(objective=ObjectiveConfig(beta=0.01))
    assert "reference copy" not in names
    assert size(with_kl, "reference copy", "always") == 596_049_920 * 2
    lora = Config(model=ModelConfig(method="lora"), objective=ObjectiveConfig(beta=0.01))
    assert "reference copy" not in [row.name for row in plan(lora, QWEN3_600M, prompt_tokens=100).rows]


def test_a_float32_run_has_16_bytes_a_weight_and_an_adapter_16_bytes_an_adapter_weight() -> None:
    """Prevents: gradients or moments in the wrong width."""
    full = plan(Config(model=ModelConfig(dtype="float32")), QWEN3_600M, prompt_tokens=100)
    assert sum(row.bytes for row in full.rows if row.name in ("weights", "gradients", "optimizer state")) == 16 * 596_049_920
    lora = plan(Config(model=ModelConfig(method="lora", lora_rank=8)), QWEN3_600M, prompt_tokens=100)
    assert sum(row.bytes for row in lora.rows if row.name in ("adapter", "gradients", "optimizer state")) == 16 * lora.trainable_parameters


def test_checkpointing_keeps_one_hidden_state_per_layer_and_remakes_one_layer_whole() -> None:
    """Prevents: a plan in which gradient_checkpointing saves nothing, or everything."""
    rollout = RolloutConfig(max_completion_length=4096)
    saved, checkpointed = Config(rollout=rollout), Config(rollout=rollout, model=ModelConfig(gradient_checkpointing=True))
    assert size(checkpointed, "activations", "training") < size(saved, "activations", "training") / 12
    one_layer = size(saved, "activations", "training") / 29
    assert size(checkpointed, "training workspace", "training") > one_layer
    assert size(checkpointed, "activations", "training") > 28 * 8192 * 1024 * 2


def test_a_tile_of_logits_is_planned_and_follows_its_budget() -> None:
    """Prevents: forgetting the logits, which are the largest tensors of a small model."""
    config = Config(model=ModelConfig(method="lora"), train=TrainConfig(micro_batch_tokens=700))
    beside = 2 * 4 * 1024 * 2**12.5  # [c, D] and [v, D]
    assert size(config, "training workspace", "training", tile_bytes=2**27) == round(2**25 * (4 + 2) + beside)
    cells = round(700 * 8 * 512 / (100 + 8 * 512)) * 151936
    everything = (4 + 2) * cells + 2 * 4 * 1024 * cells**0.5
    assert size(config, "training workspace", "training", tile_bytes=2**40) == round(everything)


def test_a_micro_batch_is_never_shorter_than_one_sequence_nor_longer_than_the_step() -> None:
    """Prevents: planning for 16 tokens where a sequence of 612 has to go through in one piece."""
    one_sequence = Config(train=TrainConfig(micro_batch_tokens=16))
    huge = Config(train=TrainConfig(micro_batch_tokens=10**9, prompts_per_step=1), rollout=RolloutConfig(num_generations=2))
    notes = {row.name: row.note for row in plan(one_sequence, QWEN3_600M, prompt_tokens=100).rows}
    assert notes["activations"].startswith("612 tokens")
    notes = {row.name: row.note for row in plan(huge, QWEN3_600M, prompt_tokens=100).rows}
    assert notes["activations"].startswith("1,124 tokens")


def test_llama_8b_saves_what_was_measured_on_it() -> None:
    """Prevents: dropping a tensor from the formula. The bytes were measured with torch's attention on plain rows, without the copies that
    packed rows may take in float32; the rest of the difference is a few numbers per token."""
    from heron.memory.activations import saved_per_layer

    shape = read_shape(LLAMA_8B)
    for element, measured in ((2, 200_864), (4, 368_800)):
        copies = 8 * shape.query_width + 8 if element == 4 else 0
        assert saved_per_layer(shape, element, rank=None) - copies == pytest.approx(measured, abs=64)


def test_bytes_per_weight_replace_the_dtype() -> None:
    """Prevents: a 4-bit model planned as a 16-bit one."""
    assert size(Config(model=ModelConfig(method="lora")), "weights", "always", bytes_per_weight=0.5) == 596_049_920 // 2


def test_the_table_is_plain_text_and_ends_with_the_peaks() -> None:
    """Prevents: a viewer that has to know about bytes."""
    table = plan(Config(), QWEN3_600M, prompt_tokens=100).table()
    assert table[0][:3] == ("weights", "1.11 GiB", "always")
    assert [row[2] for row in table[-3:]] == ["sampling", "evaluation", "training"]
    assert "while sampling" in plan(Config(), QWEN3_600M, prompt_tokens=100).headline


def test_an_unknown_family_is_counted_and_says_so() -> None:
    """Prevents: an estimate that looks like a count."""
    made = plan(Config(), QWEN3_600M | {"model_type": "newest"}, prompt_tokens=100)
    assert not made.is_exact and "as if it were Llama" in made.rows[0].note


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_experts": 8}, "mixture of experts"),
        ({"layer_types": ["linear_attention"]}, "linear_attention"),
        ({"quantization_config": {"bits": 4}}, "bytes_per_weight"),
        ({"dtype": "float64"}, "float64"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(change: dict, message: str) -> None:
    """Prevents: a number that is off by a factor of ten."""
    with pytest.raises(ModelError, match=message):
        plan(Config(), QWEN3_600M | change, prompt_tokens=100)


def test_a_multimodal_config_says_what_to_give() -> None:
    """Prevents: a KeyError."""
    with pytest.raises(ModelError, match="text_config"):
        plan(Config(), {"model_type": "gemma3", "text_config": {}}, prompt_tokens=100)


def test_bad_arguments_are_config_errors() -> None:
    """Prevents: a negative cache, and an adapter on a module that is not there."""
    with pytest.raises(ConfigError, match="prompt_tokens"):
        plan(Config(), QWEN3_600M, prompt_tokens=0)
    with pytest.raises(ConfigError, match='Did you mean "q_proj"'):
        plan(Config(model=ModelConfig(method="lora", lora_target_modules=("qproj",))), QWEN3_600M, prompt_tokens=9)
