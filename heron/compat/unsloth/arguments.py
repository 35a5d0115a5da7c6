"""Unsloth's arguments that have nothing to do here, and those that are refused: of what makes and saves models."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from heron.errors import ConfigError, did_you_mean

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
IDLE_IN_SAVING: Mapping[str, str] = {
    **{name: IDLE[name] for name in ("token", "temporary_location", "maximum_memory_usage")},
    "is_main_process": "There is one process.", "max_shard_size": "Files have their usual size.",
    "first_conversion": "The file is made of the weights themselves.",
}
"""The same of the functions that save."""
UPLOAD = "Nothing is uploaded from here: look at what was saved, and upload the folder with `hf upload NAME DIR`."
REFUSED_IN_SAVING: Mapping[str, tuple[Any, str]] = {
    **{name: (off, UPLOAD) for name, off in (
        ("push_to_hub", False), ("private", None), ("repo_id", None), ("commit_message", None), ("tags", None), ("datasets", None),
    )},
    "safe_serialization": (True, "Weights are written as safetensors."),
    "state_dict": (None, "What was trained is written."), "save_function": (None, "Weights are written as safetensors."),
    "variant": (None, "Files have their usual names."), "save_peft_format": (True, "An adapter is written in PEFT's layout."),
}


def look_at(
    function: str, others: Mapping[str, Any], *, idle: Mapping[str, str], refused: Mapping[str, tuple[Any, str]], taken: Iterable[str],
) -> None:
    """Refuse what cannot be honoured and what is unknown; say what has nothing to do."""
    for name, value in others.items():
        if name in refused:
            off, advice = refused[name]
            if value not in (off, None):
                raise ConfigError(f"{function}({name}={value!r}) cannot be honoured. {advice}")
        elif name not in idle:
            raise ConfigError(f"{function} has no argument {name!r}.{did_you_mean(name, (*idle, *refused, *taken))}")
    if said := [f"  {name}={value!r}: {idle[name]}" for name, value in others.items() if name in idle and value is not None]:
        lines = "\n".join(said)
        warnings.warn(f"These arguments of {function} have nothing to do here:\n{lines}", stacklevel=3)
