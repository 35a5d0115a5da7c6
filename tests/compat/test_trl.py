"""TRL's options, translated: nothing is dropped in silence, and what comes out is a valid config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heron.compat import Kind, Note, from_grpo_config
from heron.config import load_config
from heron.errors import ConfigError

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "trl_1_16_grpo_config.json").read_text())


def note(options: dict[str, Any], name: str) -> Note:
    return next(note for note in from_grpo_config(options)[1] if note.field == name)


def test_the_guides_example_carries_over() -> None:
    """Prevents: losing the options that everybody copies."""
    options = {"epsilon": 0.2, "epsilon_high": 0.28, "delta": 1.5, "loss_type": "dr_grpo", "mask_truncated_completions": True}
    overrides, notes = from_grpo_config(options)
    assert overrides == {"objective": options}
    assert {made.kind for made in notes if made.given is not None} == {Kind.SAME}
    assert load_config("gsm8k", overrides).objective.delta == 1.5


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo", "luspo", "sapo", "vespo"])
def test_losses_of_the_same_name_are_the_same(loss_type: str) -> None:
    """Prevents: a loss that is translated into another."""
    assert note({"loss_type": loss_type}, "loss_type").kind is Kind.SAME


def test_bnpo_says_that_it_differs() -> None:
    """Prevents: promising a loss that in TRL depends on how the batch is cut."""
    made = note({"loss_type": "bnpo", "gradient_accumulation_steps": 4}, "loss_type")
    assert made.kind is Kind.DIFFERS and made.settings == {"objective.loss_type": "bnpo"}
    assert "token_weights" in made.text
    assert note({"loss_type": "bnpo", "gradient_accumulation_steps": 1}, "loss_type").kind is Kind.SAME


def test_cispo_with_a_cap_below_one_is_an_alarm() -> None:
    """Prevents: carrying over TRL's default cap of 0.2, which scales every gradient by 0.2."""
    assert note({"loss_type": "cispo"}, "loss_type").kind is Kind.UNSUPPORTED
    assert note({"loss_type": "cispo", "epsilon_high": 5.0}, "loss_type").kind is Kind.SAME


def test_a_loss_that_is_not_there_is_not_replaced() -> None:
    """Prevents: training with another loss than the one asked for, without a word."""
    overrides, notes = from_grpo_config({"loss_type": "gspo_token"})
    assert overrides == {} and notes[0].kind is Kind.UNSUPPORTED


def test_gdpo_ignores_the_scale_as_trl_does() -> None:
    """Prevents: a config that is refused for a setting without effect."""
    overrides, _ = from_grpo_config({"multi_objective_aggregation": "normalize_then_sum", "scale_rewards": "none"})
    assert overrides == {"objective": {"advantage_estimator": "normalize_then_sum"}}
    assert load_config("gsm8k", overrides).objective.scale_rewards == "group"


def test_several_optimizer_steps_on_one_batch_of_rollouts() -> None:
    """Prevents: a batch of the wrong size, and steps that are counted once instead of twice."""
    options = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "steps_per_generation": 4, "max_steps": 100}
    overrides, _ = from_grpo_config(options)
    assert overrides == {
        "train": {"prompts_per_step": 4, "max_steps": 50}, "rollout": {"num_generations": 8}, "objective": {"num_minibatches": 2},
    }


def test_a_batch_of_completions_becomes_prompts() -> None:
    """Prevents: a step that is num_generations times too large."""
    options = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4, "num_generations": 4}
    overrides, _ = from_grpo_config(options)
    assert overrides == {"train": {"prompts_per_step": 8}, "rollout": {"num_generations": 4}}


def test_a_batch_uses_trls_defaults_for_what_is_not_given() -> None:
    """Prevents: a division by Heron's numbers; 4 x 8 completions are 4 groups of TRL's 8."""
    overrides, _ = from_grpo_config({"gradient_accumulation_steps": 4})
    assert overrides == {"train": {"prompts_per_step": 4}, "rollout": {"num_generations": 8}}


def test_a_batch_that_splits_a_group_is_refused() -> None:
    """Prevents: rounding a batch size."""
    with pytest.raises(ConfigError, match="12 completions"):
        from_grpo_config({"per_device_train_batch_size": 12, "num_generations": 8})


def test_steps_count_rollout_batches_not_optimizer_steps() -> None:
    """Prevents: training num_iterations times as long."""
    overrides, notes = from_grpo_config({"max_steps": 100, "num_iterations": 4})
    assert overrides["train"]["max_steps"] == 25 and notes[0].kind is Kind.DIFFERS


def test_epochs_are_refused_unless_steps_are_given() -> None:
    """Prevents: a run of a length that nobody asked for."""
    assert note({"num_train_epochs": 1}, "num_train_epochs").kind is Kind.UNSUPPORTED
    assert note({"num_train_epochs": 1, "max_steps": 5}, "num_train_epochs").kind is Kind.SAME


def test_a_kl_keeps_trls_correction() -> None:
    """Prevents: calling two gradients the same; TRL multiplies its KL by the ratio unless told not to."""
    assert note({"beta": 0.04}, "beta").settings == {"objective.beta": 0.04, "objective.use_bias_correction_kl": True}
    plain = {"beta": 0.04, "use_bias_correction_kl": False}
    assert load_config("gsm8k", from_grpo_config(plain)[0]).objective.use_bias_correction_kl is False
    assert note({"beta": 0.0}, "beta").settings == {"objective.beta": 0.0}


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"shuffle_dataset": False}, {"data.shuffle": False}),
        ({"importance_sampling_level": "sequence"}, {"objective.importance_sampling_level": "sequence"}),
        ({"top_entropy_quantile": 0.2}, {"objective.top_entropy_quantile": 0.2}),
        ({"scale_rewards": False}, {"objective.scale_rewards": "none"}),
        ({"scale_rewards": "batch"}, {"objective.scale_rewards": "batch"}),
        ({"reward_weights": [1.0, 0.5]}, {"rewards.weights": [1.0, 0.5]}),
        ({"use_cpu": True}, {"model.device": "cpu"}),
        ({"warmup_ratio": 0.1, "max_steps": 50}, {"train.warmup_steps": 5}),
        ({"warmup_steps": 5, "lr_scheduler_type": "constant"}, {"train.warmup_steps": 0}),
        ({"lr_scheduler_type": "constant_with_warmup"}, {"train.lr_scheduler_type": "constant"}),
        ({"model_init_kwargs": {"torch_dtype": "bfloat16"}}, {"model.dtype": "bfloat16"}),
        ({"eval_strategy": "steps", "eval_steps": 20}, {"evaluation.steps": 20}),
        ({"save_strategy": "no"}, {"train.save_steps": 0}),
        ({"optim": "adamw_bnb_8bit"}, {"train.optimizer": "adamw_8bit"}),
    ],
)
def test_what_has_another_name_or_form_is_translated(options: dict[str, Any], settings: dict[str, Any]) -> None:
    """Prevents: a wrong name on either side."""
    assert note(options, next(iter(options))).settings == settings


@pytest.mark.parametrize(
    "options",
    [
        {"top_p": 0.9},
        {"top_k": 50},
        {"min_p": 0.1},
        {"optim": "lomo"},
        {"max_prompt_length": 256},
        {"bf16": True},
        {"warmup_ratio": 0.1},
        {"lr_scheduler_type": "polynomial"},
        {"gradient_accumulation_steps": 4, "steps_per_generation": 6},
        {"max_grad_norm": 0.0},
        {"save_total_limit": None},
        {"model_init_kwargs": {"trust_remote_code": True}},
        {"steps_per_generation": 1, "generation_batch_size": 8},
    ],
)
def test_what_is_not_there_is_named(options: dict[str, Any]) -> None:
    """Prevents: an option that is accepted and ignored."""
    made = note(options, list(options)[-1])
    assert made.kind is Kind.UNSUPPORTED and not made.settings


def test_what_changes_nothing_that_is_learnt_is_no_alarm() -> None:
    """Prevents: crying wolf over a log level, so that nobody reads the notes that matter."""
    assert note({"use_vllm": True}, "use_vllm").kind is Kind.DIFFERS
    assert note({"logging_steps": 1}, "logging_steps").kind is Kind.DIFFERS
    assert note({"fp16": True}, "fp16").kind is Kind.DIFFERS and note({"tf32": False}, "tf32").kind is Kind.SAME
    kwargs = {"attn_implementation": "flash_attention_2", "device_map": None, "revision": "main", "trust_remote_code": False}
    made = note({"model_init_kwargs": kwargs}, "model_init_kwargs")
    assert made.kind is Kind.DIFFERS and made.settings == {"model.revision": "main"} and "device_map" not in made.text
    assert note({"vllm_gpu_memory_utilization": 0.9}, "vllm_gpu_memory_utilization").kind is Kind.SAME


def test_every_option_of_trl_is_known() -> None:
    """Prevents: an option without a note. The list was recorded from the fields of TRL 1.16's GRPOConfig."""
    _, notes = from_grpo_config(RECORDED)
    assert [made.field for made in notes] == list(RECORDED)
    assert all(made.text for made in notes)


def test_trls_defaults_make_a_valid_config_and_few_alarms() -> None:
    """Prevents: overrides that no config accepts, and wrong off-values in the table."""
    overrides, notes = from_grpo_config(RECORDED)
    config = load_config("gsm8k", overrides)
    assert (config.train.learning_rate, config.train.adam_beta2, config.train.seed) == (1e-6, 0.999, 42)
    assert (config.train.prompts_per_step, config.rollout.num_generations) == (1, 8)
    alarms = {made.field for made in notes if made.kind is Kind.UNSUPPORTED}
    assert alarms == {"bf16", "max_steps", "num_train_epochs", "save_total_limit"}


def test_what_is_not_given_keeps_the_recipe_and_says_so() -> None:
    """Prevents: TRL's defaults overruling a recipe, or a difference that nobody hears of."""
    overrides, notes = from_grpo_config({})
    assert overrides == {}
    assert "1e-06" in next(made.text for made in notes if made.field == "learning_rate")


def test_an_unknown_name_is_an_error_with_a_suggestion() -> None:
    """Prevents: a typo that changes nothing."""
    with pytest.raises(ConfigError, match='Did you mean "epsilon_high"'):
        from_grpo_config({"epsilon_hihg": 0.28})
