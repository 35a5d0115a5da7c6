"""Bases of 4 or 8 bits, through bitsandbytes (arXiv 2305.14314): which layers are quantised, and how they are loaded.

The one hard idea: sampler and trainer must compute the same. bitsandbytes repacks 4-bit weights for some CPUs as soon as a layer is used in
evaluation mode, which rounds otherwise and lets no gradient through, without a word; and it computes in a type of its own. `_settle` takes
both away: every layer computes in the type of the model's activations, in every mode.

transformers replaces the linear layers while it reads the checkpoint, so one tensor at a time has 16 bits. Head and embedding are never
quantised (the log-probs multiply the head themselves), nor what is no linear layer, such as experts that lie in one tensor.
What it leaves out: other formats than those of bitsandbytes, refused by name.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from heron.config.model import ModelConfig
from heron.errors import ConfigError, MissingExtra, ModelError, did_you_mean
from heron.models.recording import quiet
from heron.models.sensitivity import SAMPLES, most_sensitive


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A loaded model, before any adapter."""

    model: Any
    """Of transformers."""
    kept: tuple[str, ...] = ()
    """Linear layers that `quantization_keep` left in 16 bits."""


def check_bitsandbytes(config: ModelConfig) -> None:
    """A MissingExtra if `model.method` needs a package that is absent."""
    if config.method == "qlora":
        _require_bitsandbytes("model.method = 'qlora'")


def load_base(
    load: Callable[..., Any], name: str, config: ModelConfig, own: Any, tokenizer: Any, *, kept: Sequence[str] | None = None
) -> Base:
    """The base of a policy.

    Args:
        load: `from_pretrained` of this model with further keyword arguments.
        name: of the checkpoint, for errors.
        config: model section.
        own: the checkpoint's transformers config.
        tokenizer: renders the samples on which `quantization_keep` is measured.
        kept: what was measured before, to load the same again; None measures.
    """
    if (given := getattr(own, "quantization_config", None)) is not None:
        _check_own(given if isinstance(given, dict) else given.to_dict(), name, config)
        return Base(model=_settle(load(), name))
    if config.method != "qlora":
        return Base(model=load())
    _require_bitsandbytes("model.method = 'qlora'")
    head, layers = _linear_layers(own)
    exceptions = _exceptions(layers, config.quantization_exceptions)
    if kept is None:
        kept = _measured(load, config, tokenizer, [layer for layer in layers if layer not in exceptions])
    settings = _settings(config, [head, *exceptions, *kept])
    return Base(model=_settle(load(quantization_config=settings), name), kept=tuple(kept))


def import_quietly(name: str) -> None:
    """Import bitsandbytes, or what imports it, without its warning that no faster kernel for repacked weights was found."""
    with quiet("bitsandbytes.backends.cpu.ops"):
        importlib.import_module(name)


def is_quantized(model: Any) -> bool:
    """Some of its weights have fewer than 16 bits."""
    return getattr(model.config, "quantization_config", None) is not None


def num_weights(weight: nn.Parameter) -> int:
    """Weights in a parameter, which may hold two in a byte."""
    state = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else int(torch.Size(state.shape).numel())


def _require_bitsandbytes(what: str) -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra("bitsandbytes", "qlora", what)
    import_quietly("bitsandbytes")


def _check_own(given: dict[str, Any], name: str, config: ModelConfig) -> None:
    """A checkpoint that is quantised already keeps its own settings; others are not silently dropped."""
    method = str(getattr(given.get("quant_method"), "value", given.get("quant_method")))
    if method != "bitsandbytes":
        raise ModelError(f"{name} is quantised by {method}, which is not supported: only bitsandbytes is. Name the checkpoint of 16 bits, "
                         "with --model.method=qlora.")
    kind = "int8" if given.get("load_in_8bit") else str(given.get("bnb_4bit_quant_type", "fp4"))
    if not config.has_adapter:
        raise ConfigError(f"{name} is quantised already ({kind}), and such weights cannot be trained: model.method is 'full'. "
                          "Use --model.method=lora, which trains an adapter on them.")
    _require_bitsandbytes(f"{name}, which is quantised by it,")
    contradicting = {
        "quantization": config.quantization not in ("nf4", kind),
        "double_quantization": not config.double_quantization and bool(given.get("bnb_4bit_use_double_quant")),
        "quantization_exceptions": bool(config.quantization_exceptions), "quantization_keep": config.quantization_keep > 0,
    }
    if wrong := [f"model.{setting} = {getattr(config, setting)!r}" for setting, is_wrong in contradicting.items() if is_wrong]:
        raise ConfigError(f"{name} is quantised already ({kind}) and keeps its own settings, but {' and '.join(wrong)} is given. Leave it "
                          "out, or name the checkpoint of 16 bits.")


def _linear_layers(own: Any) -> tuple[str, list[str]]:
    """Names of the head, and of the linear layers besides it, from a model without data."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(own)
    head = model.get_output_embeddings()
    names = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    return next(name for name, module in names.items() if module is head), [name for name, module in names.items() if module is not head]


def _exceptions(layers: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Layers whose names end with one of those wanted; each must name some."""
    for end in wanted:
        if not any(_ends(layer, end) for layer in layers):
            ends = sorted({layer.rpartition(".")[2] for layer in layers})
            raise ConfigError(f"model.quantization_exceptions names {end!r}, but no linear layer's name ends so."
                              f"{did_you_mean(end, ends)} There are {', '.join(ends)}.")
    return [layer for layer in layers if any(_ends(layer, end) for end in wanted)]


def _ends(layer: str, end: str) -> bool:
    return f".{layer}".endswith(f".{end}")


def _measured(load: Callable[..., Any], config: ModelConfig, tokenizer: Any, layers: Sequence[str]) -> tuple[str, ...]:
    """Layers to keep in 16 bits. The model that they are measured on lies in the host's memory, and is gone before the next one is read."""
    if config.quantization_keep == 0:
        return ()
    samples = [tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False) for text in SAMPLES]
    token_ids = [torch.tensor([tokenizer(sample, add_special_tokens=False)["input_ids"]]) for sample in samples]  # [1, L] each
    return most_sensitive(
        load(device_map={"": "cpu"}), token_ids, layers, share=config.quantization_keep, double=config.double_quantization
    )


def _settings(config: ModelConfig, skipped: Sequence[str]) -> Any:
    from transformers import BitsAndBytesConfig

    if config.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(skipped))
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=config.quantization, bnb_4bit_use_double_quant=config.double_quantization,
        llm_int8_skip_modules=list(skipped),
    )


def _settle(model: Any, name: str) -> Any:
    """Sampler and trainer compute alike, in the type of the activations."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    from heron.models.int8 import Int8Linear

    dtype = model.get_output_embeddings().weight.dtype
    if not dtype.is_floating_point:
        raise ModelError(f"The head of {name} is quantised, which is not supported. Quantise the checkpoint of 16 bits without its head, "
                         "or name that one, with --model.method=qlora.")
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False  # the repacking of evaluation mode
            module.compute_dtype, module.compute_type_is_set = dtype, True
        elif isinstance(module, Linear8bitLt):
            Int8Linear.adopt(module)
    if model.device.type == "cpu":
        _let_go_of_the_file(model)
    return model


def _let_go_of_the_file(model: Any) -> None:
    """What was not quantised lies in the mapped checkpoint still, and would keep all of it in memory, 16 bits of every weight included."""
    for weight in model.parameters():
        if weight.dtype.is_floating_point:
            weight.data = weight.data.clone()
