"""The options of `GRPOConfig` (TRL 1.16, and well-known ones of before) that need no rule of their own: plain tables.

`DIRECT` options have a setting here. `ABSENT` ones have none; each says with which values that makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DIRECT: Mapping[str, str] = {
    "num_generations": "rollout.num_generations",
    "max_completion_length": "rollout.max_completion_length",
    "temperature": "rollout.temperature",
    "epsilon": "objective.epsilon",
    "epsilon_high": "objective.epsilon_high",
    "delta": "objective.delta",
    **{name: f"objective.{name}" for name in (
        "mask_truncated_completions", "num_iterations", "importance_sampling_level", "top_entropy_quantile", "entropy_coef",
        "use_adaptive_entropy", "entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target",
        "off_policy_mask_threshold", "sapo_temperature_pos", "sapo_temperature_neg",
        "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg",
    )},
    "learning_rate": "train.learning_rate",
    "weight_decay": "train.weight_decay",
    "adam_beta1": "train.adam_beta1",
    "adam_beta2": "train.adam_beta2",
    "seed": "train.seed",
    "shuffle_dataset": "data.shuffle",
}

DEFAULTS: Mapping[str, Any] = {
    "learning_rate": 1e-6,
    "lr_scheduler_type": "linear",
    "adam_beta2": 0.999,
    "gradient_checkpointing": True,
    "seed": 42,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "num_generations": 8,
    "bf16": True,
}
"""TRL's own values of options that matter where they are not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """An option without a setting."""

    off: tuple[Any, ...]
    """Values that make no difference."""
    text: str
    """What to know where it has another value."""
    is_harmless: bool = False
    """True if it never changes what is learnt."""
    switch: str | None = None
    """The option without which this one has no effect."""


def _absent(text: str, off: Mapping[str, Any], *, is_harmless: bool = False, switch: str | None = None) -> Iterator[tuple[str, Absent]]:
    """One entry per option; a tuple of values means that each of them is off."""
    for name, value in off.items():
        values = value if isinstance(value, tuple) else (value,)
        yield name, Absent(off=values, text=text, is_harmless=is_harmless, switch=switch)


ABSENT: Mapping[str, Absent] = dict([
    *_absent("The optimizer has eps 1e-8, and no arguments of its own. Leave it out: optim, learning_rate, weight_decay, adam_beta1 and "
             "adam_beta2 can be set.", {
        "optim_args": None, "optim_target_modules": None, "adam_epsilon": 1e-8,
    }),
    *_absent("Schedules have no arguments. Leave it out: lr_scheduler_type, warmup_steps and learning_rate can be set.", {
        "lr_scheduler_kwargs": (None, {}),
    }),
    *_absent("The loss of GRPO has no labels to smooth, in TRL neither. Leave it out.", {"label_smoothing_factor": (0.0, 0)}),
    *_absent("With noise on the embeddings the trained log-probs are not those of the sampler. Leave it out; a higher temperature or "
             "entropy_coef makes answers more varied.", {"neftune_noise_alpha": None}),
    *_absent("A model that brings its own code cannot be trained. Leave it out, and choose one of a family that transformers has.", {
        "trust_remote_code": False,
    }),
    *_absent("No loss of a router is added. Leave it out, or set it to 0.", {"router_aux_loss_coef": (None, 0.0, 0)}),
    *_absent("Set its values at the top of the model's chat template.", {"chat_template_kwargs": (None, {})}),
    *_absent("One process trains on one device: nothing is divided among several. Leave it out; gradient_checkpointing=True, and a "
             "peft_config with a quantization_config of 4 bits, make a large model fit.", {
        "deepspeed": None, "fsdp": (None, "", []), "fsdp_config": (None, {}), "parallelism_config": None,
    }),
    *_absent("Nothing runs through accelerate. Leave it out; gradient_accumulation_steps and seed are options of their own.", {
        "accelerator_config": (None, {}),
    }),
    *_absent("Products are computed in the weights' own type, without autocast (an adapter is float32 on any base). Leave it out; "
             "model_init_kwargs={'dtype': 'float32'} computes all of them in float32.", {
        "bf16": False, "cast_lm_head_to_fp32": False,
    }),
    *_absent("Nothing is autocast: weights of float32 are computed with as float32, those of bfloat16 as bfloat16.", {
        "fp16": False, "bf16_full_eval": False, "fp16_full_eval": False,
    }, is_harmless=True),
    *_absent("Products of float32 are as torch is set: torch.set_float32_matmul_precision('high') before the training allows TF32.", {
        "tf32": (None, False),
    }, is_harmless=True),
    *_absent("Dropout is never active: a checkpoint with dropout in its attention is refused.", {
        "disable_dropout": (True, False),
    }, is_harmless=True),
    *_absent("A filtered sampler draws from another distribution than that of the loss. Leave it out; a lower temperature makes answers "
             "less random.", {"top_k": (0, None, -1), "min_p": (None, 0.0)}),
    *_absent("A penalised sampler draws from another distribution than that of the loss. Leave it out; a reward can punish repetition: "
             "get_repetition_penalty_reward of heron.compat.trl.rewards.", {"repetition_penalty": (1.0, 1)}),
    *_absent("Answers are drawn from the model's own distribution, which is that of the loss. Leave it out: temperature and "
             "max_completion_length say how to draw.", {"generation_kwargs": (None, {}), "vllm_sampling_params": None}),
    *_absent("A constrained sampler draws from another distribution than that of the loss. Leave it out, and let a reward function look at "
             "the form of an answer.", {"vllm_structured_outputs_regex": None, "vllm_guided_decoding_regex": None}),
    *_absent("The reference is the start of the run, and stays it. Leave it out; beta says how far answers may move from it.", {
        "sync_ref_model": False,
    }),
    *_absent("The reference is the start of the run, and stays it. Leave it out; beta says how far answers may move from it.", {
        "ref_model_mixup_alpha": 0.6, "ref_model_sync_steps": 512,
    }, switch="sync_ref_model"),
    *_absent("Set environment.max_turns, which counts answers: one more than rounds of calls.", {"max_tool_calling_iterations": None}),
    *_absent("The trained model samples by itself: no second engine, no second copy of the weights.", {
        "use_vllm": False, "use_transformers_paged": False, "use_transformers_continuous_batching": False,
        "transformers_continuous_batching_config": (None, {}), "cache_implementation": None, "fast_inference": False,
    }, is_harmless=True),
    *_absent("The trained model samples by itself.", {
        "vllm_mode": "colocate", "vllm_model_impl": "vllm", "vllm_enable_sleep_mode": False, "vllm_server_base_url": None,
        "vllm_server_host": "0.0.0.0", "vllm_server_port": 8000, "vllm_server_timeout": 240.0, "vllm_group_port": 51216,
        "vllm_gpu_memory_utilization": 0.3, "vllm_max_model_length": None, "vllm_tensor_parallel_size": 1,
    }, is_harmless=True, switch="use_vllm"),
    *_absent("Sampler and trainer are one model, so there is no mismatch to correct; it is measured at every step.", {
        "vllm_importance_sampling_correction": False, "vllm_importance_sampling_mode": "sequence_mask",
        "vllm_importance_sampling_clip_max": 3.0, "vllm_importance_sampling_clip_min": None,
        "vllm_importance_sampling_cap": None,
    }, is_harmless=True, switch="use_vllm"),
    *_absent("Log-probs are always computed in chunks, and a step is divided into parts that fit into the memory.", {
        "use_liger_kernel": False, "use_liger_loss": False, "liger_kernel_config": None, "auto_find_batch_size": False,
        "torch_empty_cache_steps": None, "unsloth_num_chunks": -1, "unsloth_grpo_mini_batch": None,
        "unsloth_logit_chunk_multiplier": None,
    }, is_harmless=True),
    *_absent("Nothing is compiled.", {
        "torch_compile": False, "torch_compile_backend": None, "torch_compile_mode": None,
    }, is_harmless=True),
    *_absent("Recomputation is always without reentrance.", {
        "gradient_checkpointing_kwargs": (None, {}, {"use_reentrant": False}),
        "activation_checkpointing_kwargs": (None, {}, {"use_reentrant": False}),
    }, is_harmless=True),
    *_absent("Sequences are packed: nothing is padded or sorted by length.", {
        "pad_to_multiple_of": ("auto", None), "train_sampling_strategy": "random", "length_column_name": "length",
        "group_by_length": False,
    }, is_harmless=True),
    *_absent("A prompt is never cut: one that exceeds the model's context is refused before training. Leave it out; max_completion_length "
             "limits an answer.", {
        "max_prompt_length": None, "max_seq_length": None,
    }),
    *_absent("Every column reaches the reward functions that name it. Leave it out; dataset.remove_columns([...]) takes others away.", {
        "remove_unused_columns": (False, None), "label_names": None,
    }),
    *_absent("Batches are drawn by step: there is no data loader, and no row is dropped.", {
        "dataloader_drop_last": False, "dataloader_num_workers": 0, "dataloader_pin_memory": (True, False),
        "dataloader_persistent_workers": False, "dataloader_prefetch_factor": None, "dataloader_multiprocessing_context": None,
        "dataloader_in_order": True, "ignore_data_skip": False,
    }, is_harmless=True),
    *_absent("Token weights are counted over the whole step.", {
        "average_tokens_across_devices": (True, False),
    }, is_harmless=True),
    *_absent("One process trains on one device, so there is nothing to divide among several.", {
        "ddp_find_unused_parameters": (None, False), "ddp_bucket_cap_mb": None, "ddp_broadcast_buffers": (None, False),
        "ddp_static_graph": (None, False), "ddp_backend": None, "ddp_timeout": 1800, "ds3_gather_for_generation": True,
        "save_on_each_node": False, "log_on_each_node": (True, False),
    }, is_harmless=True),
    *_absent("One process trains on one device. Leave it out, and start the script with python.", {"local_rank": (-1, 0)}),
    *_absent("Every step, every rollout and all metrics are written to the run directory, without a service.", {
        "logging_strategy": (), "logging_steps": (), "logging_first_step": (), "logging_nan_inf_filter": (),
        "log_level": "passive", "log_level_replica": "warning", "disable_tqdm": None,
        "run_name": None, "project": "huggingface", "trackio_space_id": None, "trackio_bucket_id": None,
        "trackio_static_space_id": None, "include_num_input_tokens_seen": (), "log_completions": (), "log_multimodal": True,
        "num_completions_to_print": None, "log_unique_prompts": (), "wandb_log_unique_prompts": None,
        "log_completions_hub_repo": None, "debug": ("", []), "skip_memory_metrics": (True, False), "logging_dir": None,
    }, is_harmless=True),
    *_absent("Name the run's folder with --run-dir.", {"output_dir": None}, is_harmless=True),
    *_absent("Nothing is overwritten: each run is recorded in a new folder.", {"overwrite_output_dir": False}, is_harmless=True),
    *_absent("Held-out prompts are measured all at once, by the rewards of their answers.", {
        "eval_delay": (0, 0.0), "per_device_eval_batch_size": (), "prediction_loss_only": False, "eval_on_start": (),
        "eval_do_concat_batches": True, "eval_use_gather_object": False, "eval_accumulation_steps": None,
        "include_for_metrics": [], "batch_eval_metrics": False, "do_train": (True, False), "do_eval": (True, False),
        "do_predict": False,
    }, is_harmless=True),
    *_absent("Checkpoints are complete, and a run ends with its last weights. Leave it out; save_steps and save_total_limit say which "
             "checkpoints are kept.", {
        "save_only_model": False, "enable_jit_checkpoint": False, "load_best_model_at_end": False,
        "metric_for_best_model": None, "greater_is_better": None, "restore_callback_states_from_checkpoint": False,
    }),
    *_absent("Leave it out, and go on with an interrupted run by trainer.train(resume_from_checkpoint=True), or by `heron resume RUN` "
             "with one of a recipe.", {"resume_from_checkpoint": None}),
    *_absent("Leave it out: runs with one seed on one CPU are equal anyway.", {"full_determinism": False}),
    *_absent("Nothing is uploaded: export the model with `heron export RUN`.", {
        "push_to_hub": False, "hub_token": None, "hub_private_repo": None, "hub_model_id": None, "hub_strategy": "every_save",
        "hub_always_push": False, "hub_revision": None,
    }, is_harmless=True),
    *_absent("The cache of the forward pass is the sampler's own business.", {"use_cache": (True, False)}, is_harmless=True),
])
"""Options without a setting, by name."""
