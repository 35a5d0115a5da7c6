"""The memory plan: weights counted like real models count them, and phases that take turns."""

from __future__ import annotations

from typing import Any

import pytest

from heron.config import Config, EvaluationConfig, ModelConfig, ObjectiveConfig, RolloutConfig, TrainConfig
from heron.errors import ConfigError, ModelError
from heron.memory import Plan, plan, read_shape

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
QWEN3_30B_A3B = QWEN3_600M | {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48,
    "num_attention_heads": 32, "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8, "tie_word_embeddings": False,
}
LORA = ModelConfig(method="lora")


def planned(config: Config, model: dict[str, Any] = QWEN3_600M, **options: Any) -> Plan:
    return plan(config, model, prompt_tokens=100, **options)


def size(config: Config, name: str, phase: str, *, place: str | None = None, **options: Any) -> int:
    made = planned(config, **options)
    return sum(row.bytes for row in made.rows if row.name == name and row.phase == phase and row.place == (place or made.device))


@pytest.mark.parametrize(
    ("model", "published"), [(QWEN3_600M, 596_049_920), (LLAMA_8B, 8_030_261_248), (QWEN3_30B_A3B, 30_532_122_624)]
)
def test_published_models_have_their_published_number_of_weights(model: dict, published: int) -> None:
    """Prevents: a formula that is right for tiny models alone (untied heads, GQA, a head_dim that is not hidden/heads, experts)."""
    assert read_shape(model).parameters == published


def test_an_adapter_of_llama_has_the_well_known_size() -> None:
    """Prevents: forgetting a linear layer; rank 32 on all of Llama-3.1-8B is 83.9 million weights."""
    assert read_shape(LLAMA_8B).adapter_parameters(32, ()) == 83_886_080


def test_phases_take_turns() -> None:
    """Prevents: adding the cache to the activations, which are never there together."""
    made = planned(Config())
    always = sum(row.bytes for row in made.rows if row.phase == "always")
    for phase in ("sample", "train", "evaluation"):
        own = sum(row.bytes for row in made.rows if row.phase == phase and row.place == "gpu")
        assert made.peak_of(phase, "gpu") == always + own
    assert made.peak == max(made.peak_of(phase, "gpu") for phase in made.phases)


def test_what_comes_with_the_first_step_is_not_there_while_the_model_is_loaded() -> None:
    """Prevents: a plan that says a model cannot be loaded where it can: the optimizer's state is made later."""
    made = planned(Config(model=ModelConfig(dtype="float32")))
    assert made.peak_of("load", "gpu") < made.peak_of("sample", "gpu") / 2


def test_on_a_cpu_everything_lies_in_the_hosts_memory() -> None:
    """Prevents: a plan of a GPU that is not there."""
    made = planned(Config(model=ModelConfig(device="cpu")))
    assert {row.place for row in made.rows} == {"host"} and made.peak == made.host_peak > 0


def test_every_row_says_how_it_was_counted() -> None:
    """Prevents: `heron plan --explain` with a gap."""
    configs = [Config(), Config(model=LORA, objective=ObjectiveConfig(beta=0.1)), Config(rollout=RolloutConfig(engine="hf"))]
    assert all(row.formula and row.note for config in configs for row in planned(config).rows)


def test_the_cache_has_a_cell_per_token_layer_and_key_head() -> None:
    """Prevents: a cache counted with query heads, for one sequence, or with the prompt repeated for each sibling."""
    config = Config(rollout=RolloutConfig(num_generations=4, max_completion_length=60), train=TrainConfig(prompts_per_step=3))
    pages = 3 * 4 + 12 * 3  # 100 tokens a prompt, shared by four; 60 of an answer and a page to fork to
    assert size(config, "key-value cache", "sample") == 2 * 28 * 8 * 128 * 2 * pages * 32
    written = 3 * 4 + 12 * 2  # on a CPU those that are written: 4 tokens of the prompt and 59 of the answer lie in two pages
    assert size(config, "key-value cache", "sample", device="host") == 28 * 8 * 128 * (4 + 2) * written * 32


def test_transformers_own_cache_repeats_the_prompt_for_every_sibling() -> None:
    """Prevents: the engine `hf` planned as if it shared anything."""
    rollout = RolloutConfig(engine="hf", num_generations=4, max_completion_length=60)
    config = Config(rollout=rollout, train=TrainConfig(prompts_per_step=3))
    assert size(config, "key-value cache", "sample") == 2 * 29 * 8 * 128 * 2 * 12 * 159


def test_a_vllm_in_this_process_holds_the_weights_twice_and_sleeps_while_the_trainer_trains() -> None:
    """Prevents: a plan that forgets the second copy, or keeps it on the GPU for ever."""
    config, weights = Config(model=LORA, rollout=RolloutConfig(engine="vllm")), 596_049_920 * 2
    assert size(config, "weights of vLLM", "sample") == weights
    assert size(config, "weights of vLLM", "train") == 0
    assert size(config, "weights of vLLM", "train", place="host") == weights


def test_the_cache_is_bounded_by_max_concurrent() -> None:
    """Prevents: a plan that ignores how many completions run at once."""
    config = Config(rollout=RolloutConfig(max_completion_length=60, max_concurrent=5))
    assert size(config, "key-value cache", "sample") == 2 * 28 * 8 * 128 * 2 * (4 + 5 * 3) * 32


def test_the_cache_is_bounded_by_its_budget() -> None:
    """Prevents: a plan that does not fit because the cache was counted as if it had no limit."""
    assert size(Config(rollout=RolloutConfig(cache_gib=0.25)), "key-value cache", "sample") == 2**28
    assert size(Config(rollout=RolloutConfig(cache_gib=100)), "key-value cache", "sample") < 100 * 2**30


def test_evaluation_may_need_more_than_a_step() -> None:
    """Prevents: a run that dies in its first evaluation, which samples more completions at once than any step."""
    config = Config(rollout=RolloutConfig(num_generations=2), train=TrainConfig(prompts_per_step=1), evaluation=EvaluationConfig(size=64))
    made = planned(config)
    assert made.peak >= made.peak_of("evaluation", "gpu") > made.peak_of("sample", "gpu")


def test_no_evaluation_takes_no_memory() -> None:
    """Prevents: rows for a phase that does not happen."""
    assert "evaluation" not in planned(Config(evaluation=EvaluationConfig(size=0))).phases


def test_full_fine_tuning_keeps_a_reference_only_for_a_kl() -> None:
    """Prevents: a copy that is planned but never made, or made but not planned."""
    with_kl = ObjectiveConfig(beta=0.01)
    assert size(Config(), "reference copy", "always") == 0
    assert size(Config(objective=with_kl), "reference copy", "always") == 596_049_920 * 2
    assert size(Config(model=LORA, objective=with_kl), "reference copy", "always") == 0


def test_an_adapter_that_a_run_began_with_is_kept_for_a_kl() -> None:
    """Prevents: a plan without the second adapter, which is as large as the first."""
    started = Config(model=ModelConfig(method="lora", adapter="somewhere"), objective=ObjectiveConfig(beta=0.01))
    assert size(started, "reference adapter", "always") == size(started, "adapter", "always") > 0


@pytest.mark.parametrize(
    ("settings", "bytes_of_linear"),
    [({}, 0.5 + 1 / 64 + 4 / 16384), ({"double_quantization": False}, 0.5 + 4 / 64), ({"quantization": "int8"}, None)],
)
def test_only_linear_layers_are_quantised(settings: dict[str, Any], bytes_of_linear: float | None) -> None:
    """Prevents: an embedding of 4 bits, or scales that nobody counted."""
    D, A, K, F, L = 1024, 2048, 1024, 3072, 28
    linear = L * (D * (A + 2 * K) + A * D + 3 * D * F)
    quantised = linear * bytes_of_linear if bytes_of_linear else linear + 4 * L * (A + 2 * K + D + 2 * F + D)
    config = Config(model=ModelConfig(method="qlora", **settings))
    assert size(config, "weights", "always") == round(quantised + 2 * (596_049_920 - linear))


def test_on_a_cpu_the_file_of_a_quantised_model_is_mapped_while_it_is_read() -> None:
    """Prevents: a plan that leaves out what is resident then; a GPU has its own memory, and the host's pages are the system's."""
    config = Config(model=ModelConfig(method="qlora"))
    assert size(config, "mapped file", "load", device="host") == 2 * 596_049_920
    assert not [row for row in planned(config, device="host").rows if row.name == "mapped file" and row.phase != "load"]


def test_layers_that_keep_16_bits_are_counted_so() -> None:
    """Prevents: exceptions and the measured choice left out of the plan."""
    every, L = Config(model=ModelConfig(method="qlora")), 28
    saved = 2 - (0.5 + 1 / 64 + 4 / 16384)
    for exceptions, layers in ((("down_proj",), L), (("layers.3.mlp.down_proj",), 1)):
        some = Config(model=ModelConfig(method="qlora", quantization_exceptions=exceptions))
        assert size(some, "weights", "always") - size(every, "weights", "always") == pytest.approx(layers * 1024 * 3072 * saved, abs=2)
    third = Config(model=ModelConfig(method="qlora", quantization_keep=0.3))
    linear = L * (1024 * 4096 + 2048 * 1024 + 3 * 1024 * 3072)
    assert size(third, "weights", "always") - size(every, "weights", "always") == pytest.approx(0.3 * linear * saved, abs=2)


def test_a_checkpoint_that_is_quantised_already_says_how() -> None:
    """Prevents: a 4-bit checkpoint planned in 16 bits."""
    own = QWEN3_600M | {"quantization_config": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True}}
    config = Config(model=ModelConfig(method="qlora"))
    assert planned(config, own).peak_of("sample", "gpu") == planned(config).peak_of("sample", "gpu")


@pytest.mark.parametrize(
    ("optimizer", "bytes_of_adapter"),
    [("adamw", 8.0), ("adamw_8bit", 2 + 8 / 256), ("paged_adamw_8bit", 2 + 8 / 256), ("muon", 4.0), ("adamw_kahan", 8.0)],
)
def test_optimizers_have_states_of_their_own_size(optimizer: str, bytes_of_adapter: float) -> None:
    """Prevents: AdamW's eight bytes for all of them."""
    config = Config(model=LORA, train=TrainConfig(optimizer=optimizer))
    made = planned(config)
    assert size(config, "optimizer state", "always") == pytest.approx(made.trainable_parameters * bytes_of_adapter, rel=1e-3)


def test_adafactor_keeps_rows_and_columns() -> None:
    """Prevents: a second moment of every weight."""
    config = Config(model=ModelConfig(dtype="float32"), train=TrainConfig(optimizer="adafactor"))
    assert size(config, "optimizer state", "always") < 596_049_920 * 4 / 100


def test_muon_leaves_tables_to_adamw() -> None:
    """Prevents: four bytes for an embedding, which has eight."""
    config = Config(model=ModelConfig(dtype="float32"), train=TrainConfig(optimizer="muon"))
    table = 151936 * 1024
    assert size(config, "optimizer state", "always") == pytest.approx(8 * table + 4 * (596_049_920 - table), rel=1e-3)


def test_an_offloaded_optimizer_is_on_the_gpu_only_while_it_trains() -> None:
    """Prevents: a plan in which train.offload_optimizer frees nothing, or frees it where it is needed."""
    config = Config(model=ModelConfig(dtype="float32"), train=TrainConfig(offload_optimizer=True))
    state = 8 * 596_049_920
    assert size(config, "optimizer state", "train") == state and size(config, "optimizer state", "sample") == 0
    assert size(config, "optimizer state", "sample", place="host") == state


def test_a_float32_run_has_16_bytes_a_weight_and_an_adapter_16_bytes_an_adapter_weight() -> None:
    """Prevents: gradients or moments in the wrong width. Several micro-batches: all gradients are there in each backward pass."""
    train = TrainConfig(micro_batch_tokens=700)
    for model in (ModelConfig(dtype="float32"), ModelConfig(method="lora", lora_rank=8)):
        made = planned(Config(model=model, train=train))
        named = ("gradients", "optimizer state", "adapter" if model.has_adapter else "weights")
        assert sum(row.bytes for row in made.rows if row.name in named and row.phase != "load") == 16 * made.trainable_parameters


def test_one_micro_batch_has_no_gradients_before_its_backward_pass() -> None:
    """Prevents: gradients added to activations that are gone when they come."""
    step = {"rollout": RolloutConfig(max_completion_length=4096), "model": LORA}
    once = Config(train=TrainConfig(prompts_per_step=1, micro_batch_tokens=40_000), **step)
    often = Config(train=TrainConfig(prompts_per_step=1, micro_batch_tokens=20_000), **step)
    assert size(once, "gradients", "train") < size(often, "gradients", "train") / 10


def test_checkpointing_keeps_one_hidden_state_per_layer_and_remakes_one_layer_whole() -> None:
    """Prevents: a plan in which gradient_checkpointing saves nothing, or everything."""
    rollout = RolloutConfig(max_completion_length=4096)
    saved = Config(rollout=rollout)
    kept = Config(rollout=rollout, model=ModelConfig(gradient_checkpointing=True, offload="off"))
    assert size(kept, "activations", "train") < size(saved, "activations", "train") / 12
    one_layer = size(saved, "activations", "train") / 29
    assert size(kept, "training workspace", "train") + size(kept, "log-prob tile", "train") > one_layer
    assert size(kept, "activations", "train") > 28 * 8192 * 1024 * 2


def test_offloaded_layer_inputs_wait_in_the_hosts_memory() -> None:
    """Prevents: activations counted on the GPU that are not there, or nowhere."""
    config = Config(rollout=RolloutConfig(max_completion_length=4096), model=ModelConfig(gradient_checkpointing=True))
    there, kept = 28 * 8192 * 1024 * 2, Config(rollout=config.rollout, model=ModelConfig(gradient_checkpointing=True, offload="off"))
    assert size(config, "activations", "train", place="host") == there
    assert size(kept, "activations", "train") - size(config, "activations", "train") == there * 25 / 28  # three are on their way


def test_a_tiled_mlp_keeps_its_input_alone() -> None:
    """Prevents: a plan in which model.tiled_mlp changes nothing."""
    rollout = RolloutConfig(max_completion_length=4096)
    whole = Config(rollout=rollout, model=ModelConfig(gradient_checkpointing=True))
    tiled = Config(rollout=rollout, model=ModelConfig(gradient_checkpointing=True, tiled_mlp=512))
    work = "training workspace"
    assert size(whole, work, "train") - size(tiled, work, "train") > 8192 * 3072 * 2 * 3


def test_a_tile_of_logits_is_planned_and_follows_its_budget() -> None:
    """Prevents: forgetting the logits, which are the largest tensors of a small model."""
    config = Config(model=LORA, train=TrainConfig(micro_batch_tokens=700))
    small, large = (size(config, "log-prob tile", "train", tile_bytes=budget) for budget in (2**22, 2**24))
    assert small == 2**20 * 6 + 4 * 1024 * 512  # 512 tokens by 2048 words in float32 and bfloat16, and a sum [512, D]
    assert 2 * small < large < 5 * small


def test_a_micro_batch_is_never_shorter_than_one_sequence_nor_longer_than_the_step() -> None:
    """Prevents: planning for 16 tokens where a sequence of 611 has to go through in one piece."""
    one_sequence = Config(train=TrainConfig(micro_batch_tokens=16))
    huge = Config(train=TrainConfig(micro_batch_tokens=10**9, prompts_per_step=1), rollout=RolloutConfig(num_generations=2))
    for config, tokens in ((one_sequence, "611 tokens"), (huge, "1,122 tokens")):
        assert {row.name: row.note for row in planned(config).rows}["activations"].startswith(tokens)


def test_llama_8b_saves_what_was_measured_on_it() -> None:
    """Prevents: dropping a tensor from the formula. The bytes were measured with torch's attention on plain rows; the rest of the
    difference is a few numbers per token."""
    from heron.memory.activations import Layer

    for element, measured in ((2, 200_864), (4, 368_800)):
        layer = Layer(shape=read_shape(LLAMA_8B), element=element, rank=None)
        assert layer.saved == pytest.approx(measured, abs=64)


def test_bytes_per_weight_replace_the_dtype() -> None:
    """Prevents: a model that is quantised in another way planned as a 16-bit one."""
    assert size(Config(model=LORA), "weights", "always", bytes_per_weight=0.5) == 596_049_920 // 2


def test_the_table_is_plain_text_and_ends_with_the_peaks() -> None:
    """Prevents: a viewer that has to know about bytes."""
    made = planned(Config())
    table = made.table()
    assert table[0][:3] == ("weights", "1.11 GiB", "always")
    assert [row[2] for row in table[-len(made.phases) :]] == ["load", "sample", "train", "evaluation"]
    assert "while sampling" in made.headline


def test_an_unknown_family_is_counted_and_says_so() -> None:
    """Prevents: an estimate that looks like a count."""
    made = planned(Config(), QWEN3_600M | {"model_type": "newest"})
    assert not made.is_exact and "as if it were Llama" in made.rows[0].note


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_experts": 8}, "does not know the experts of qwen3"),
        ({"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": [0]}, "every layer has experts"),
        ({"layer_types": ["linear_attention"]}, "linear_attention"),
        ({"quantization_config": {"bits": 4}}, "bytes_per_weight"),
        ({"dtype": "float64"}, "float64"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(change: dict, message: str) -> None:
    """Prevents: a number that is off by a factor of ten."""
    with pytest.raises(ModelError, match=message):
        planned(Config(), QWEN3_600M | change)


def test_a_multimodal_config_says_what_to_give() -> None:
    """Prevents: a KeyError."""
    with pytest.raises(ModelError, match="text_config"):
        planned(Config(), {"model_type": "gemma3", "text_config": {}})


def test_bad_arguments_are_config_errors() -> None:
    """Prevents: a negative cache, and an adapter on a module that is not there."""
    with pytest.raises(ConfigError, match="prompt_tokens"):
        plan(Config(), QWEN3_600M, prompt_tokens=0)
    with pytest.raises(ConfigError, match='Did you mean "q_proj"'):
        planned(Config(model=ModelConfig(method="lora", lora_target_modules=("qproj",))))
