"""PEFT's `LoraConfig` and transformers' `BitsAndBytesConfig` as settings of the section `model`.

Nothing is dropped: a field that shapes the adapter and has no setting here is an error that names it, unless it has PEFT's own default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from heron.errors import ConfigError

TAKEN = ("r", "lora_alpha", "target_modules", "use_rslora", "use_dora")
"""Fields of `LoraConfig` that are settings here."""
HARMLESS = ("peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "task_type", "inference_mode",
            "runtime_config", "fan_in_fan_out", "ensure_weight_tying")
"""Those that change nothing that is learnt."""


def lora_settings(config: Any, model_type: str) -> dict[str, Any]:
    """Settings of a `LoraConfig`; `model_type` is the base's, for modules that PEFT chooses by family."""
    if getattr(config, "peft_type", None) != "LORA":
        raise ConfigError(f"peft_config must be a peft.LoraConfig, but it is {config!r:.200}. There are no other adapters here.")
    check_lora(config)
    return {
        "method": "lora", "lora_rank": config.r, "lora_alpha": _whole("lora_alpha", config.lora_alpha),
        "lora_target_modules": _targets(config.target_modules, model_type), "use_rslora": config.use_rslora, "use_dora": config.use_dora,
    }


def quantization_settings(config: Any) -> dict[str, Any]:
    """Settings of a `BitsAndBytesConfig`, or of a mapping with its fields."""
    given = dict(config) if isinstance(config, Mapping) else config.to_dict()
    if given.get("load_in_8bit"):
        return {"method": "qlora", "quantization": "int8"}
    kind = given.get("bnb_4bit_quant_type", "fp4")
    if not given.get("load_in_4bit") or kind != "nf4":
        raise ConfigError(f"quantization_config asks for {kind!r} (load_in_4bit={given.get('load_in_4bit')}). There are "
                          "load_in_4bit=True with bnb_4bit_quant_type='nf4', and load_in_8bit=True.")
    return {"method": "qlora", "quantization": "nf4", "double_quantization": bool(given.get("bnb_4bit_use_double_quant", False))}


def check_lora(config: Any) -> None:
    """Raises ConfigError for a `LoraConfig` that cannot be honoured on any model: a field that is neither taken nor at its default."""
    if config.lora_dropout:
        raise ConfigError(f"LoraConfig(lora_dropout={config.lora_dropout}) cannot be honoured: with dropout the trainer's log-probs differ "
                          "from the sampler's, so the ratio would not start at 1. Set lora_dropout=0.")
    plain = type(config)()
    for each in dataclasses.fields(config):
        value, default = getattr(config, each.name), getattr(plain, each.name)
        if each.name not in (*TAKEN, *HARMLESS, "lora_dropout") and value != default:
            raise ConfigError(f"LoraConfig({each.name}={value!r}) cannot be honoured: adapters here have r, lora_alpha, target_modules, "
                              "use_rslora and use_dora. Leave it out.")
    _whole("lora_alpha", config.lora_alpha)
    if isinstance(config.target_modules, str) and config.target_modules != "all-linear":
        raise ConfigError(f"LoraConfig(target_modules={config.target_modules!r}) is a pattern. Give 'all-linear', or a list of names such "
                          "as ['q_proj'].")


def _targets(given: Any, model_type: str) -> list[str]:
    """Names of modules; none for all linear layers but the head."""
    if given == "all-linear":
        return []
    if given is not None:
        return sorted(given)
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as CHOSEN

    if model_type not in CHOSEN:
        raise ConfigError(f"LoraConfig has no target_modules, and PEFT names none for models of the type {model_type!r}. Give them, or "
                          "'all-linear'.")
    return sorted(CHOSEN[model_type])


def _whole(name: str, value: float) -> int:
    if value != int(value):
        raise ConfigError(f"LoraConfig({name}={value}) must be a whole number here.")
    return int(value)
