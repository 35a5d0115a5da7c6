"""From a folder or a hub id to a policy: tokenizer, weights, adapter, attention.

The checkpoint's own dtype is kept unless another one is asked for (never silently float32), and tensors are read straight to where they
stay. What cannot be loaded is refused by name, before any time is spent. What it leaves out: which layers have 4 bits (`quantized`), and
what is trained on top (`adapters`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from heron.config.model import ModelConfig
from heron.errors import ConfigError, HeronError, ModelError
from heron.kernels import attention
from heron.kernels.offload import Offload, checkpointed
from heron.kernels.tiled import tile
from heron.models.adapters import adapter_tokenizer, check_adapter, with_adapter
from heron.models.agreement import adopt_attention
from heron.models.locating import commit_of, locate, no_folder
from heron.models.policy import Policy, no_bars
from heron.models.quantized import Base, load_base
from heron.models.tokenizers import end_ids, load_tokenizer, tell_ends
from heron.types import Tags


def load_policy(
    config: ModelConfig, tags: Tags, *, source: str | Path | None = None, adapter: Path | None = None, without_adapter: bool = False,
    reference: bool = True, kept: Sequence[str] | None = None,
) -> Policy:
    """The policy that the config asks for.

    Args:
        config: model section.
        tags: the format's tags, kept with the policy.
        source: folder to load instead of `config.name` (the warmed-up embedded model, for one).
        adapter: folder of a trained adapter to continue with, in PEFT's layout. None begins with `config.adapter`, or with a new one.
        without_adapter: load the bare base even if an adapter is trained.
        reference: keep the adapter of `config.adapter` to measure a KL from; of no use where nothing is trained.
        kept: linear layers that stay in 16 bits, as `Policy.quantization_kept` told it; None measures what `quantization_keep` asks for.
    """
    name = locate(str(source or config.name))
    device = find_device(config.device)
    if not without_adapter and (adapter is None or reference):
        check_adapter(config)
    attention.register()
    with no_bars():
        beside = None if without_adapter else adapter_tokenizer(config, adapter)
        tokenizer = load_tokenizer(str(beside or name), config, tags)
        base = _load_model(name, config, device, tokenizer, kept)
        tell_ends(base.model, end_ids(tokenizer, base.model))
        trains_adapter = config.has_adapter and not without_adapter
        model = with_adapter(base.model, config, adapter, reference=reference) if trains_adapter else base.model
        if config.gradient_checkpointing:
            _checkpoint_activations(base.model, config, device)
        if config.recomputes:
            _drop_nothing(base.model)
    return Policy(
        model, tokenizer, tags=tags, source=name, quantization_kept=base.kept, revision=commit_of(name, config.revision),
    )


def _load_model(name: str, config: ModelConfig, device: torch.device, tokenizer: Any, kept: Sequence[str] | None) -> Base:
    from transformers import AutoConfig, AutoModelForCausalLM

    dtype = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)

    def load(**keywords: Any) -> Any:
        return AutoModelForCausalLM.from_pretrained(
            name, **{"revision": config.revision, "dtype": dtype, "device_map": {"": device}} | keywords
        )

    try:
        own = AutoConfig.from_pretrained(name, revision=config.revision)
        base = load_base(load, name, config, own, tokenizer, kept=kept)
    except HeronError:
        raise
    except Exception as error:  # boundary: transformers raises many kinds for a bad folder or an unreachable hub
        raise ModelError(f"No causal language model could be loaded from {name!r}: {error}{no_folder(name)}") from error
    model = base.model
    _use_heron_attention(model, name)
    if config.tiled_mlp:
        tile(model, config.tiled_mlp)
    return base


def _checkpoint_activations(model: Any, config: ModelConfig, device: torch.device) -> None:
    """Recompute every layer in the backward pass, its input waiting where `model.offload` says.

    Called after an adapter is put on: PEFT would hook the embedding of a model that it finds checkpointed, and hooks cannot be recorded.
    """
    on_gpu = device.type == "cuda"
    if config.offload == "on" and not on_gpu and device.type != "cpu":
        raise ConfigError(f"model.offload is 'on', which copies between a CUDA GPU and the host, but the device is {device}. Leave it out.")
    function = Offload(device) if on_gpu and config.offload != "off" else checkpointed
    try:
        model._set_gradient_checkpointing(enable=True, gradient_checkpointing_func=function)
    except ValueError as error:
        raise ModelError(f"{type(model).__name__} has no layers that can be recomputed: {error} Leave model.gradient_checkpointing out, "
                         "and lower train.micro_batch_tokens.") from error


def _drop_nothing(model: Any) -> None:
    """No dropout. Recomputation needs training mode, which must not switch it on: the sampler has none."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def _use_heron_attention(model: Any, name: str) -> None:
    """Switch to the registered attention function, and refuse what it would compute wrongly."""
    text_config = model.config.get_text_config()
    if getattr(text_config, "attention_dropout", 0.0):
        raise ModelError(f"{name} has attention_dropout {text_config.attention_dropout}; set it to 0 in config.json.")
    adopt_attention(model, name)


def find_device(name: str) -> torch.device:
    """The device that `model.device` means; a ConfigError if it is not there."""
    there = _devices()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name in there:
        return torch.device(name)
    raise ConfigError(f"model.device is {name!r}, but the devices here are {', '.join(there)}. "
                      '"auto" takes CUDA where there is one, else the CPU.')


def _devices() -> list[str]:
    """Names of the devices that this build of torch can use on this machine, `cuda` and `cuda:0` both."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    return ["cpu", accelerator.type, *(f"{accelerator.type}:{number}" for number in range(torch.accelerator.device_count()))]
