"""Low-rank adapters (arXiv 2106.09685) on a frozen base, through PEFT: a new one, one to go on with, and the one that a run began with.

The one hard idea: the start of a run may itself be an adapter, and a KL is measured from there. So it is kept as a second, frozen adapter
on the same base; `as_at_start` switches to it, or switches the only one off if the start was the bare base. Nothing is ever merged.

Adapter weights are float32 whatever the base is: bfloat16 cannot hold their small updates. What it leaves out: adapters on the head, which
is multiplied in chunks, and several trained adapters at once.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from heron.config.model import ModelConfig
from heron.errors import ConfigError, ModelError
from heron.models.lean import keep_no_copies
from heron.models.quantized import import_quietly

TRAINED, REFERENCE = "default", "reference"
"""Names of the adapters in PEFT."""
SETTINGS = {"lora_rank": "r", "lora_alpha": "lora_alpha", "use_rslora": "use_rslora", "use_dora": "use_dora"}
"""Settings that an adapter brings along, and that must be the config's, with PEFT's names for them."""


def with_adapter(model: Any, config: ModelConfig, adapter: Path | None = None, *, reference: bool = True) -> Any:
    """The model with the adapter that is trained.

    Args:
        model: the frozen base.
        config: model section.
        adapter: folder of a trained adapter to go on with; None starts with that of `config.adapter`, or with a new one.
        reference: keep the adapter of `config.adapter` beside it, where there is one.
    """
    import_quietly("peft")
    folder = adapter or _start(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks a model for what newer releases of transformers renamed
        wrapped = _new(model, config) if folder is None else _read(model, folder)
    if reference and (start := _start(config)) is not None:
        wrapped.load_adapter(str(start), adapter_name=REFERENCE, is_trainable=False)
    if hasattr(wrapped.get_base_model().get_output_embeddings(), "lora_A"):
        raise ConfigError(f"model.lora_target_modules {list(config.lora_target_modules)} adapts the head, which is multiplied in chunks "
                          "and would not use the adapter. Leave the head out, or train it with --model.method=full.")
    for name, weight in wrapped.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.float()
    if config.use_dora and folder is None:
        _measure_lengths(wrapped)
    keep_no_copies(wrapped)
    return wrapped


def check_adapter(config: ModelConfig) -> None:
    """`model.adapter` is an adapter's folder, made with the settings of this config; an error before anything is loaded if not."""
    if (folder := _start(config)) is None:
        return
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"model.adapter is {config.adapter!r}, but there is no adapter: {folder / 'adapter_config.json'} is missing. Name "
                         "the folder of a trained adapter in PEFT's layout, such as a run's model/.")
    kept = _read_config(folder)
    made = {setting: kept.get(field, False) for setting, field in SETTINGS.items()}
    if other := {name: value for name, value in made.items() if value != getattr(config, name)}:
        wanted = " ".join(f"--model.{name}={str(value).lower()}" for name, value in other.items())
        raise ConfigError(f"model.adapter {config.adapter} was made with other settings than this config has. Give its own: {wanted}")
    targets = kept["target_modules"]
    if config.lora_target_modules and set(config.lora_target_modules) != set(targets):
        raise ConfigError(f"model.lora_target_modules is {sorted(config.lora_target_modules)}, but model.adapter {config.adapter} adapts "
                          f"{sorted(targets)}. Leave it out: an adapter keeps its own.")


def _read_config(folder: Path) -> dict[str, Any]:
    """An adapter's config; a ModelError if it is not a plain LoRA's, which trains what Heron trains and nothing else."""
    try:
        kept = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'adapter_config.json'} cannot be read: {error}") from error
    if not isinstance(kept, dict) or kept.get("peft_type") != "LORA" or not kept.get("r") or not kept.get("target_modules"):
        raise ModelError(f"{folder / 'adapter_config.json'} does not describe a LoRA adapter, with peft_type, r and target_modules. Name "
                         "another folder.")
    if others := [name for name, plain in (("bias", "none"), ("lora_bias", False), ("modules_to_save", None)) if kept.get(name) not in
                  (plain, None)]:
        raise ModelError(f"The adapter in {folder} trains more than low-rank matrices ({', '.join(others)}), which is not supported: the "
                         "base would not stay as it is. Name another one.")
    return kept


def adapter_tokenizer(config: ModelConfig, adapter: Path | None) -> Path | None:
    """The folder of the adapter that is trained, if it came with a tokenizer."""
    folder = adapter or _start(config)
    return folder if folder is not None and (folder / "tokenizer_config.json").is_file() else None


@contextmanager
def as_at_start(model: Any) -> Iterator[None]:
    """The start of the run, for a while: its adapter, or none. What is trained is the same afterwards."""
    if REFERENCE not in model.peft_config:
        with model.disable_adapter():
            yield
        return
    model.base_model.set_adapter(REFERENCE, inference_mode=True)
    try:
        yield
    finally:
        model.base_model.set_adapter(TRAINED)


def is_of_reference(name: str) -> bool:
    """A parameter of the start that is kept beside the trained adapter."""
    return f".{REFERENCE}" in name and "lora_" in name


def _start(config: ModelConfig) -> Path | None:
    return None if config.adapter is None else Path(config.adapter).expanduser()


def _new(model: Any, config: ModelConfig) -> Any:
    """A new adapter: its A drawn, its B zero."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=0.0, task_type="CAUSAL_LM", use_rslora=config.use_rslora,
        use_dora=config.use_dora, target_modules=list(config.lora_target_modules) or "all-linear",
    )
    try:
        return get_peft_model(model, lora, autocast_adapter_dtype=True)
    except ValueError as error:
        raise ConfigError(f"model.lora_target_modules {list(config.lora_target_modules)} does not fit this model: {error}") from error


def _read(model: Any, folder: Path) -> Any:
    """The adapter in this folder, to be trained on."""
    from peft import PeftModel

    _read_config(folder)
    try:
        wrapped = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        raise ModelError(f"The adapter in {folder} cannot be put on this model: {error}\nWas it made for another one?") from error
    _check_whole(wrapped, folder)
    return wrapped


def _check_whole(wrapped: Any, folder: Path) -> None:
    """PEFT only warns of weights that are missing, which would stay random, and of those that it has no place for."""
    from peft.utils import get_peft_model_state_dict, load_peft_weights

    wanted, given = set(get_peft_model_state_dict(wrapped)), set(load_peft_weights(str(folder), device="cpu"))
    if wanted != given:
        raise ModelError(f"The adapter in {folder} does not fit this model: it misses {len(wanted - given)} weights and has "
                         f"{len(given - wanted)} others, such as {min(wanted ^ given)}. Was it made for another one, or cut short?")


@torch.no_grad()
def _measure_lengths(wrapped: Any) -> None:
    """DoRA's lengths are those of the base's rows in float32, as its forward pass measures them: a new adapter then changes nothing."""
    from peft.utils.integrations import dequantize_module_weight

    for module in wrapped.modules():
        for lengths in getattr(module, "lora_magnitude_vector", {}).values():
            weight = dequantize_module_weight(module.get_base_layer()).float()
            lengths.weight.data = torch.linalg.norm(weight, dim=1)
