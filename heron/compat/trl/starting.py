"""What a `GRPOTrainer` begins with: its `model` argument as settings, and, where it is held in memory, as a folder.

The one hard idea: a model's name is used as it is wherever that is enough. A folder is made only for what a name cannot say: a module in
memory, a tokenizer that was handed over, a template that must be another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from heron.compat.trl import inputs
from heron.compat.trl.adapting import lora_settings, quantization_settings
from heron.compat.trl.config import GRPOConfig
from heron.errors import ConfigError
from heron.models.locating import commit_of
from heron.models.standing_in import Original, stand_in

KEPT = "trained"
"""In the folder of a run's inputs: what a prepared model had been trained to be."""


@runtime_checkable
class Prepared(Protocol):
    """A model that is not loaded yet and says itself how, such as that of `heron.compat.unsloth`."""

    def heron_settings(self) -> dict[str, Any]:
        """Of the section `model`, its name among them."""

    def write(self, folder: Path) -> None:
        """Into its part `KEPT` what it was trained to be so far, if it was: the next training goes on with that."""

    def release(self) -> None:
        """Let go of weights of its own: those that are trained are about to be loaded."""

    def adopt(self, trainer: Any) -> None:
        """What trains it from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The arguments of a trainer that say what is trained."""

    model: Any
    """A name, a module, a module with an adapter, or one that is prepared."""
    tokenizer: Any
    """`processing_class`, or None."""
    peft: Any
    """`peft_config`, or None."""
    quantization: Any
    """`quantization_config`, or None."""
    args: GRPOConfig
    """The options."""
    plain: bool
    """The prompts are texts, to be continued as they are."""

    @property
    def is_module(self) -> bool:
        """It is in memory."""
        return not isinstance(self.model, str | Path | Prepared)

    @property
    def name(self) -> str:
        """Folder or hub id; of a module that from which it was loaded, if from any."""
        if isinstance(self.model, Prepared):
            return str(self.model.heron_settings()["name"])
        return str(self.model.config._name_or_path) if self.is_module else str(self.model)

    @property
    def needs_folder(self) -> bool:
        """The name alone does not say it."""
        return self.is_module or self.plain or self.tokenizer is not None or bool(self.args.chat_template_kwargs)

    def settings(self, folder: Path) -> dict[str, Any]:
        """Of the section `model`, where what was written is in `folder`."""
        if isinstance(self.model, Prepared):
            if self.peft is not None or self.quantization is not None:
                raise ConfigError("The model was prepared already: leave out peft_config and quantization_config.")
            made = self.model.heron_settings()
            if (kept := folder / KEPT).is_dir():  # also where another session goes on with the run
                is_adapter = (kept / "adapter_config.json").is_file()
                made |= {"adapter": str(kept), "lora_target_modules": []} if is_adapter else {"name": str(kept)}
        else:
            made = {"name": self.name, **({} if self.is_module else self._dtype()), **self._adapter(folder)}
        return made | ({"name": str(folder / "model"), "revision": None} if self.needs_folder else {})

    def write(self, folder: Path) -> None:
        """The model's folder, and its adapter's, where a name is not enough."""
        if isinstance(self.model, Prepared):
            self.model.write(folder)
        if not self.needs_folder:
            return
        revision = (self.args.model_init_kwargs or {}).get("revision")
        if isinstance(self.model, Prepared):
            revision = self.model.heron_settings().get("revision")
        if self.is_module:
            inputs.write_model(self.model, folder / "model")
        else:
            inputs.borrow_model(self.name, revision, folder / "model")
        if self.name:
            commit = commit_of(self.name, revision)
            stand_in(folder / "model", Original(name=self.name, same_weights=not self.is_module, revision=commit))
        inputs.write_tokenizer(
            self._own_tokenizer(revision), folder / "model", plain=self.plain, template_values=self.args.chat_template_kwargs or {},
        )

    def release(self) -> None:
        """A model that is prepared holds no weights while others are loaded."""
        if isinstance(self.model, Prepared):
            self.model.release()

    def _own_tokenizer(self, revision: str | None) -> Any:
        if self.tokenizer is not None:
            return getattr(self.tokenizer, "tokenizer", self.tokenizer)  # a processor has one
        if not self.name:
            raise ConfigError("The model was not loaded from a folder or the hub, so its tokenizer is not known. Give processing_class.")
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.name, revision=revision)

    def _adapter(self, folder: Path) -> dict[str, Any]:
        """Settings of the adapter that is trained, if one is."""
        quantization = self.quantization or (self.args.model_init_kwargs or {}).get("quantization_config")
        if self.is_module and hasattr(self.model, "peft_config"):
            if self.peft is not None:
                raise ConfigError("The model has an adapter already, and peft_config asks for another one. Give only one of the two.")
            given = self.model.peft_config["default"]
            return lora_settings(given, self._model_type()) | {"adapter": str(folder / "adapter"), "lora_target_modules": []}
        if self.peft is None:
            if quantization is not None:
                raise ConfigError("quantization_config is of use with a peft_config: weights of 4 or 8 bits are not trained themselves.")
            return {}
        adapted = lora_settings(self.peft, self._model_type())
        return adapted if quantization is None or self.is_module else adapted | quantization_settings(quantization)

    def _dtype(self) -> dict[str, Any]:
        """TRL loads a named model in float32 unless told otherwise."""
        if any(name in (self.args.model_init_kwargs or {}) for name in ("dtype", "torch_dtype")):
            return {}
        return {"dtype": "bfloat16" if self.args.bf16 and self.peft is not None else "float32"}

    def _model_type(self) -> str:
        if self.is_module:
            return str(self.model.config.model_type)
        from transformers import AutoConfig

        return str(AutoConfig.from_pretrained(self.name).model_type)


def share_tensors(module: Any, policy: Any) -> None:
    """Let a module that was given hold the very tensors that are trained: it is trained along, and there is one copy."""
    import torch

    is_bare = policy.is_lora and not hasattr(module, "peft_config")
    trained: Mapping[str, Any] = dict((policy.model.get_base_model() if is_bare else policy.model).named_parameters())
    bare = {name.replace(".base_layer", ""): weight for name, weight in trained.items()}
    with torch.no_grad():
        for name, weight in module.named_parameters():
            found = trained.get(name, bare.get(name))
            if found is not None and found.shape == weight.shape:
                weight.data = found.data
    module.to(policy.device)
