"""`FastLanguageModel`: names and arguments of Unsloth, none of which is ignored in silence.

What Unsloth speeds up by patching is fast here by itself, so those arguments have nothing to switch: they are taken as they are written in
every notebook, and one with an unusual value is said in a warning. What cannot be honoured is a ConfigError.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heron.compat.unsloth.arguments import IDLE, REFUSED, TAKEN, look_at
from heron.compat.unsloth.model import FastModelForRL
from heron.compat.unsloth.saved import has_tokenizer, is_adapter, settings_of
from heron.errors import ConfigError


class FastLanguageModel:
    """Makes models; all of its functions are static, as there."""

    @staticmethod
    def from_pretrained(
        model_name: str, max_seq_length: int | None = None, dtype: Any = None, load_in_4bit: bool = True, load_in_8bit: bool = False,
        full_finetuning: bool = False, use_gradient_checkpointing: Any = "unsloth", revision: str | None = None, **others: Any,
    ) -> tuple[FastModelForRL, Any]:
        """A model, which is loaded when it is first asked or trained, and its tokenizer.

        Args:
            model_name: a folder, a hub id, `embedded` for the small built-in model, or the folder of an adapter, which is then trained on.
            max_seq_length: most tokens of a prompt and its answer; None: the model's own context.
            dtype: `torch.bfloat16`, `torch.float32`, their names, or None for the checkpoint's own.
            load_in_4bit: the base has 4 bits and an adapter is trained on it. True by default, as in Unsloth.
            load_in_8bit: the same with 8 bits.
            full_finetuning: train every weight, without `get_peft_model`.
            use_gradient_checkpointing: recompute activations; "unsloth" is True.
            revision: branch, tag or commit of a hub id.
            others: Unsloth's other arguments, most of which have nothing to do here.
        """
        look_at("FastLanguageModel.from_pretrained", others, idle=IDLE, refused=REFUSED, taken=TAKEN["from_pretrained"])
        bits = {"method": "qlora", "quantization": "int8" if load_in_8bit else "nf4"} if load_in_8bit or load_in_4bit else {}
        if full_finetuning:
            bits = {}
        saved = {"method": "lora", **settings_of(Path(model_name))} if is_adapter(Path(model_name)) else {}
        settings = {
            "name": _folder(model_name), **saved, **bits, "dtype": _dtype(dtype),
            "gradient_checkpointing": bool(use_gradient_checkpointing),
            **({} if revision is None else {"revision": revision}),
        }
        model = FastModelForRL(settings, max_seq_length=max_seq_length, tokenizer=model_name if has_tokenizer(saved) else None)
        return model, model.tokenizer

    @staticmethod
    def get_peft_model(
        model: FastModelForRL, r: int = 16,
        target_modules: Sequence[str] | str = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        lora_alpha: int = 16, use_gradient_checkpointing: Any = "unsloth", use_rslora: bool = False, use_dora: bool = False, **others: Any,
    ) -> FastModelForRL:
        """The same model, with a new adapter that is trained; or with the one that it was loaded with, if that is such a one."""
        look_at("FastLanguageModel.get_peft_model", others, idle=IDLE, refused=REFUSED, taken=TAKEN["get_peft_model"])
        if isinstance(target_modules, str) and target_modules != "all-linear":
            raise ConfigError(f"target_modules is {target_modules!r}. Give a list of names such as ['q_proj'], or 'all-linear'.")
        model.give_adapter({
            "lora_rank": r, "lora_alpha": lora_alpha, "use_rslora": use_rslora, "use_dora": use_dora,
            "lora_target_modules": [] if target_modules == "all-linear" else list(target_modules),
            "gradient_checkpointing": bool(use_gradient_checkpointing),
        })
        return model

    @staticmethod
    def for_inference(model: FastModelForRL) -> FastModelForRL:
        """The model: it needs no switching."""
        return model

    @staticmethod
    def for_training(model: FastModelForRL, use_gradient_checkpointing: Any = True) -> FastModelForRL:
        """The model: it needs no switching."""
        return model


FastModel = FastLanguageModel


def PatchFastRL(algorithm: str = "GRPO", FastLanguageModel: Any = None) -> None:
    """Nothing: nothing is patched here. Says so once."""
    warnings.warn("PatchFastRL has nothing to do: Heron patches nothing. The line can go.", stacklevel=2)


def is_bfloat16_supported() -> bool:
    """Whether this machine's GPU computes in bfloat16; False without one."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def _dtype(given: Any) -> str:
    name = "auto" if given is None else str(given).removeprefix("torch.")
    if name == "float16":
        raise ConfigError("dtype float16 needs loss scaling, which is not done. Give torch.bfloat16, torch.float32 or None.")
    return name


def _folder(name: str) -> str:
    """Of the embedded model, which is made the first time that it is asked for; any other name as it is."""
    from heron.config import load_config
    from heron.config.model import EMBEDDED
    from heron.training.warmup import warm_start

    return str(warm_start(load_config("arithmetic"))) if name == EMBEDDED else name
