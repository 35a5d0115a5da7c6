"""Unsloth's arguments that have nothing to do here, and those that are refused: for what makes models, and for `heron migrate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TAKEN: Mapping[str, tuple[str, ...]] = {
    "from_pretrained": (
        "model_name", "max_seq_length", "dtype", "load_in_4bit", "load_in_8bit", "full_finetuning", "use_gradient_checkpointing",
        "revision",
    ),
    "get_peft_model": ("model", "r", "target_modules", "lora_alpha", "use_gradient_checkpointing", "use_rslora", "use_dora"),
}
"""Arguments of the functions that make models."""
IDLE: Mapping[str, str] = {
    "fast_inference": "Heron's own engine samples, with or without it.",
    "gpu_memory_utilization": "The engine takes what it needs: set rollout.cache_gib in a recipe to limit it.",
    "device_map": "There is one device.", "fix_tokenizer": "The tokenizer is taken as it is.", "use_exact_model_name": "Names are exact.",
    "disable_log_stats": "The engine logs nothing.", "token": "The hub's own login is used.", "max_lora_rank": "Any rank will do.",
    "offload_embedding": "Nothing is offloaded but what model.offload says.", "unsloth_vllm_standby": "There is one copy of the weights.",
    "random_state": "The run is drawn by GRPOConfig(seed=...).", "temporary_location": "Nothing is kept apart.",
    "maximum_memory_usage": "Tensors are written one by one.",
}
"""Arguments with nothing to do."""
REFUSED: Mapping[str, tuple[Any, str]] = {
    "rope_scaling": (None, "Set it in the model's config.json."),
    "trust_remote_code": (False, "A model that brings its own code cannot be trained."),
    "resize_model_vocab": (None, "Resize the model and save it first."),
    "float8_kv_cache": (False, "Keys and values have the type of the activations."),
    "load_in_16bit": (False, "Leave load_in_4bit=False, and choose dtype."),
    "qat_scheme": (None, "Weights of 4 and 8 bits are made by load_in_4bit and load_in_8bit."),
    "load_in_fp8": (False, "Weights of 4 and 8 bits are made by load_in_4bit and load_in_8bit."),
    "loftq_config": ({}, "An adapter begins with zeros."), "init_lora_weights": (True, "An adapter begins with zeros."),
    "modules_to_save": (None, "An adapter trains low-rank matrices alone."), "bias": ("none", "An adapter trains no biases."),
    "layers_to_transform": (None, "Name the modules in target_modules."), "layers_pattern": (None, "Name the modules in target_modules."),
    "lora_dropout": (0.0, "With dropout the ratio would not start at 1: set 0."),
}
"""Arguments that are errors unless they have this value."""
