"""From a folder or a hub id to a policy: tokenizer, weights, adapter, attention.

The checkpoint's own dtype is kept unless another one is asked for (never silently float32); adapter weights are always float32,
because bfloat16 cannot hold their small updates. What cannot be loaded is refused by name, before any time is spent.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from heron.config.model import EMBEDDED, ModelConfig
from heron.data.templates import TEMPLATES, chat_template
from heron.errors import ConfigError, ModelError, TemplateError, did_you_mean
from heron.kernels import attention
from heron.models.agreement import adopt_attention
from heron.models.policy import Policy, no_bars
from heron.types import Tags


def load_policy(
    config: ModelConfig, tags: Tags, *, source: str | Path | None = None, adapter: Path | None = None, without_adapter: bool = False
) -> Policy:
    """The policy that the config asks for.

    Args:
        config: model section.
        tags: the format's tags, kept with the policy.
        source: folder to load instead of `config.name` (the warmed-up embedded model, for one).
        adapter: folder of a trained adapter to continue with, in PEFT's layout.
        without_adapter: load the bare base even if the method is `lora`.
    """
    name = locate(str(source or config.name))
    device = find_device(config.device)
    attention.register()
    with no_bars():
        kept = adapter is not None and (adapter / "tokenizer_config.json").is_file()
        tokenizer = load_tokenizer(str(adapter) if kept else name, config, tags)
        model = _load_model(name, config, device)
        if config.has_adapter and not without_adapter:
            model = _with_adapter(model, config, adapter)
    return Policy(model, tokenizer, tags=tags, source=name)


def load_tokenizer(name: str, config: ModelConfig, tags: Tags) -> Any:
    """The tokenizer, with a chat template and a padding token, or an error that says what to set."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=config.revision)
    except Exception as error:  # boundary: transformers raises many kinds for a bad folder or an unreachable hub
        raise ModelError(f"No tokenizer could be loaded from {name!r}: {error}{_no_folder(name)}") from error
    if config.chat_template is not None:
        tokenizer.chat_template = chat_template(config.chat_template, tags)
    if tokenizer.chat_template is None:
        raise TemplateError(f"{name} has no chat template: it looks like a base model. Choose one of Heron's with "
                            f"--model.chat_template=chatml (there are {', '.join(TEMPLATES)}); it is saved with the model.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_model(name: str, config: ModelConfig, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            name, revision=config.revision, dtype=config.dtype if config.dtype == "auto" else getattr(torch, config.dtype),
        )
    except Exception as error:  # boundary: transformers raises many kinds for a bad folder or an unreachable hub
        raise ModelError(f"No causal language model could be loaded from {name!r}: {error}{_no_folder(name)}") from error
    model.to(device)
    _use_heron_attention(model, name)
    if config.gradient_checkpointing:
        _checkpoint_activations(model)
        for module in model.modules():  # recomputation needs training mode, which must not switch dropout on: the sampler has none
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    return model


def _checkpoint_activations(model: Any) -> None:
    """Recompute activations in the backward pass. Newer releases of transformers renamed the switch and warn of the old name."""
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable({"use_reentrant": False})
    else:
        model.gradient_checkpointing_enable({"use_reentrant": False})


def _use_heron_attention(model: Any, name: str) -> None:
    """Switch to the registered attention function, and refuse what it would compute wrongly."""
    text_config = model.config.get_text_config()
    if getattr(text_config, "attention_dropout", 0.0):
        raise ModelError(f"{name} has attention_dropout {text_config.attention_dropout}; set it to 0 in config.json.")
    adopt_attention(model, name)


def _with_adapter(model: Any, config: ModelConfig, adapter: Path | None) -> Any:
    """A PEFT model whose adapter weights are float32, whatever the base is."""
    from peft import LoraConfig, PeftModel, get_peft_model

    wrapped: Any
    if adapter is not None:
        wrapped = PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    else:
        lora = LoraConfig(
            r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=0.0, task_type="CAUSAL_LM",
            target_modules=list(config.lora_target_modules) or "all-linear",
        )
        try:
            wrapped = get_peft_model(model, lora, autocast_adapter_dtype=True)
        except ValueError as error:
            raise ConfigError(f"model.lora_target_modules {list(config.lora_target_modules)} does not fit this model: {error}") from error
    if hasattr(wrapped.get_base_model().get_output_embeddings(), "lora_A"):
        raise ConfigError(f"model.lora_target_modules {list(config.lora_target_modules)} adapts the head, which is multiplied in chunks "
                          "and would not use the adapter. Leave the head out, or train it with --model.method=full.")
    for _, weight in wrapped.named_parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return wrapped


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


def locate(name: str) -> str:
    """A folder's absolute path, so that a run finds its start from anywhere; else a hub id.

    What can only be a folder, or is nearly the name of one with a model, is no request to the hub, which would take a minute to fail.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path.resolve())
    near = _near_model(name)
    is_hub_id = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None and not name.startswith(".")
    if not is_hub_id or (near and "/" not in name):
        raise ModelError(f"There is no model folder {name!r}.{near} Give a folder in Hugging Face format, or a hub id such as "
                         "Qwen/Qwen3-0.6B, with its owner.")
    return name


def _no_folder(name: str) -> str:
    """What to add to the hub's refusal: it may not have been a hub id that was meant."""
    return "" if Path(name).is_dir() else f"\nThere is no folder {name!r} here either.{_near_model(name)}"


def _near_model(name: str) -> str:
    """`' Did you mean "tiny"?'` for the nearest folder with a model where `name` would be, or the embedded model; or an empty string."""
    path = Path(name).expanduser()
    beside = sorted(config.parent.name for config in path.parent.glob("*/config.json"))
    named = [EMBEDDED] if "/" not in name and name != EMBEDDED else []
    return did_you_mean(path.name, [*named, *beside])
