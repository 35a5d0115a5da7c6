"""The model that `FastLanguageModel` returns: asked before it is trained, trained by `GRPOTrainer`, asked again, saved.

The one hard idea: there is one copy of the weights. Before the training the model loads its own; `GRPOTrainer` loads what it trains, and
from then on this object speaks with those (`adopt`), and another trainer goes on with them (`write`). Without a `lora_request` an adapted
model answers as its base does, as in Unsloth; with one, the adapter's weights are put into the place of the trained ones for as long as it
answers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heron.compat.trl.config import TAGS
from heron.compat.trl.starting import KEPT
from heron.compat.unsloth.arguments import IDLE_IN_SAVING, REFUSED_IN_SAVING, look_at
from heron.compat.unsloth.sampling import SamplingParams
from heron.compat.unsloth.saved import FIELDS, adapter_config, copy_adapter, is_adapter, other_than, shape
from heron.config.model import ModelConfig
from heron.errors import ConfigError, ModelError, RunError
from heron.export import export
from heron.inference import Generation, LoadedModel
from heron.models import Policy, load_policy
from heron.models.adapters import TRAINED
from heron.models.policy import no_bars
from heron.types import Tags

MERGED = {"merged_16bit": {"format": "hf"}, "lora": {"format": "adapter"}}
"""What `save_method` means."""
QUANTIZED = {"fast_quantized": "q8_0", "quantized": "q4_k_m"}
"""Unsloth's own names of quantisations; `not_quantized` is what the weights are, in `OF_WEIGHTS`."""
OF_WEIGHTS = {"torch.bfloat16": "bf16", "torch.float16": "f16", "torch.float32": "f32"}

_look_at = functools.partial(look_at, idle=IDLE_IN_SAVING, refused=REFUSED_IN_SAVING)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraRequest:
    """An adapter to answer with, as `load_lora` returns it."""

    folder: Path
    """In PEFT's layout."""


class FastModelForRL:
    """A model with Unsloth's methods. Made by `FastLanguageModel.from_pretrained`."""

    def __init__(self, settings: Mapping[str, Any], *, max_seq_length: int | None, tokenizer: str | None = None) -> None:
        """`tokenizer` is the folder of another one than the model's own."""
        from transformers import AutoTokenizer

        self._settings = dict(settings)
        self.max_seq_length = max_seq_length
        revision = None if tokenizer else self._settings.get("revision")
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer or self._settings["name"], revision=revision)
        self._policy: Policy | None = None
        self._run_dir: Path | None = None

    # For GRPOTrainer

    def heron_settings(self) -> dict[str, Any]:
        """Of the section `model`."""
        if self._settings.get("method") == "qlora" and "lora_rank" not in self._settings:
            raise ConfigError("Weights of 4 or 8 bits are not trained themselves. Call FastLanguageModel.get_peft_model first, or load "
                              "with load_in_4bit=False.")
        return dict(self._settings)

    def write(self, folder: Path) -> None:
        """What it was trained to be: a second trainer goes on with it, as with a module. Without a tokenizer, which is the trainer's."""
        kept = folder / KEPT
        if self._policy is None or self._run_dir is None:
            if "adapter" in self._settings:
                copy_adapter(Path(self._settings["adapter"]), kept)
                self._settings["adapter"] = str(kept)
            return
        with no_bars():
            self._policy.model.save_pretrained(kept, **({"selected_adapters": [TRAINED]} if self._policy.is_lora else {}))
            if not self._policy.is_lora:
                self.tokenizer.save_pretrained(kept)  # the folder is the model's now, and not only what is put upon it
        self._settings |= {"adapter": str(kept), "lora_target_modules": []} if self._policy.is_lora else {"name": str(kept)}

    def release(self) -> None:
        """Let go of weights of its own: a trainer is about to load what it trains."""
        self._policy = None

    def adopt(self, trainer: Any) -> None:
        """Speak with what this trainer trains."""
        from heron.training.prompts import longest_prompt

        self._policy, self._run_dir = trainer.policy, Path(trainer.run.path)
        if self.max_seq_length is not None:
            self._limit(trainer.policy)
            longest_prompt(trainer.prompts, trainer.policy, trainer.collector.environment, trainer.config.rollout.max_completion_length)

    def give_adapter(self, settings: Mapping[str, Any]) -> None:
        """A new adapter is trained, unless there is one already."""
        if "adapter" in self._settings:
            if other := other_than(self._settings, settings):
                raise ConfigError(f"The model has an adapter already, and get_peft_model asks for another one: {', '.join(other)}. Give "
                                  "what it has, or load the base to begin anew.")
            return
        self._settings |= {"method": self._settings.get("method", "lora"), **settings}

    # Asking

    def fast_generate(
        self, prompts: Any, sampling_params: SamplingParams | None = None, lora_request: LoraRequest | None = None, use_tqdm: bool = False,
    ) -> list[Generation]:
        """Answers to texts, continued as they are, or to conversations: `model.fast_generate([text])[0].outputs[0].text`."""
        params = SamplingParams() if sampling_params is None else sampling_params
        if isinstance(params, list | tuple):
            raise ConfigError("sampling_params is a list. Give one SamplingParams for all prompts, and call fast_generate once for each.")
        if not isinstance(params, SamplingParams):
            raise ConfigError(f"sampling_params must be heron.compat.unsloth.SamplingParams, but it is {params!r:.80}. Change that import "
                              "too.")
        policy = self._loaded(lora_request)
        with self._speaking(policy, lora_request):
            model = LoadedModel(policy=policy, engine=_engine(policy))
            answers = model.fast_generate(prompts, _drawn(params), n=params.n, seed=params.seed or 0)
        return [
            replace(answer, outputs=tuple(replace(output, text=params.cut(output.text)) for output in answer.outputs)) for answer in answers
        ]

    def load_lora(self, path: str | Path) -> LoraRequest:
        """An adapter in PEFT's layout, to answer with."""
        folder = Path(path)
        if not is_adapter(folder):
            raise ModelError(f"{folder} holds no adapter: adapter_config.json is missing. model.save_lora(...) writes one.")
        return LoraRequest(folder=folder)

    # Saving

    def save_lora(self, path: str | Path) -> None:
        """The trained adapter, in PEFT's layout."""
        policy = self._trained()
        if not policy.is_lora:
            raise ConfigError("Every weight was trained, so there is no adapter. Use save_pretrained_merged.")
        policy.save(Path(path))

    def save_pretrained(self, path: str | Path, **others: Any) -> None:
        """What was trained: the adapter, or every weight; and the tokenizer."""
        _look_at("model.save_pretrained", others, taken=())
        self._trained().save(Path(path))

    def save_pretrained_merged(self, path: str | Path, tokenizer: Any = None, save_method: str = "merged_16bit", **others: Any) -> None:
        """A model folder, the adapter merged, read again and compared with the trained model."""
        _look_at("model.save_pretrained_merged", others, taken=("tokenizer", "save_method"))
        check_save_method(save_method)
        export(self._finished_run(), Path(path), **MERGED[save_method])

    def save_pretrained_gguf(
        self, path: str | Path, tokenizer: Any = None, quantization_method: str | Sequence[str] = "q8_0", **others: Any
    ) -> None:
        """A GGUF file for llama.cpp and a Modelfile for Ollama; several methods are written into folders of their names."""
        _look_at("model.save_pretrained_gguf", others, taken=("tokenizer", "quantization_method"))
        run, given = self._finished_run(), quantization_method
        methods = list(dict.fromkeys(map(self._quantization, [given] if isinstance(given, str) else given)))
        for method in methods:
            folder = Path(path) if len(methods) == 1 else Path(path) / method
            export(run, folder, format="gguf", quantization=method)

    def _quantization(self, method: str) -> str:
        """As the file has it, by Unsloth's name or by its own."""
        return OF_WEIGHTS[str(self._trained().dtype)] if method == "not_quantized" else QUANTIZED.get(method, method)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("push_to_hub"):
            raise ConfigError(f"model.{name} is refused: nothing is uploaded from here. Save the model, look at it, and upload the folder "
                              "with `hf upload NAME DIR`.")
        if name == "generate":
            raise ConfigError("model.generate is transformers' own. Use model.fast_generate([text], SamplingParams(...)); or save the "
                              "model and load it with transformers.")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}: it is no torch module. It answers with fast_generate, and "
                             "is saved by save_lora, save_pretrained_merged or save_pretrained_gguf; what these write loads elsewhere.")

    def _loaded(self, request: LoraRequest | None = None) -> Policy:
        """The weights that answer: those that are trained, or the base's own, with a place for the adapter that is asked for."""
        needs_place = request is not None and self._policy is not None and not self._policy.is_lora and self._run_dir is None
        if self._policy is None or needs_place:
            self._policy = None
            self._policy = self._load(request)
            self._limit(self._policy)
        self._policy.tokenizer.chat_template = self.tokenizer.chat_template
        return self._policy

    def _load(self, request: LoraRequest | None) -> Policy:
        """The base, and on it the adapter of the request."""
        settings = {name: value for name, value in self._settings.items() if name != "adapter"}
        if request is None:
            config = ModelConfig(**{"method": "full", **settings})
            return load_policy(config, Tags(**TAGS), without_adapter=True)
        config = ModelConfig(**{"method": "lora", **settings, **shape(request.folder), "lora_target_modules": []})
        return load_policy(config, Tags(**TAGS), adapter=request.folder, reference=False)

    def _limit(self, policy: Policy) -> None:
        """No longer than was asked for."""
        if self.max_seq_length is not None:
            policy.context_length = min(policy.context_length or self.max_seq_length, self.max_seq_length)

    def _trained(self) -> Policy:
        if self._run_dir is None or self._policy is None:
            raise RunError("The model was not trained yet, so there is nothing to save. Give it to heron.compat.trl.GRPOTrainer and call "
                           "train().")
        return self._loaded()

    def _finished_run(self) -> Path:
        """The run whose model is exported."""
        self._trained()
        assert self._run_dir is not None, "a trained model has a run"
        if not (self._run_dir / "model").is_dir():
            raise RunError(f"The run {self._run_dir} has no trained model yet. Call trainer.train() first.")
        return self._run_dir

    def _speaking(self, policy: Policy, request: LoraRequest | None) -> Any:
        """The weights that a request asks for, for as long as it is answered."""
        if request is not None:
            return _with_adapter(policy, request) if policy.is_lora else self._beside(policy, request)
        return policy.model.disable_adapter() if policy.is_lora else nullcontext()

    def _beside(self, policy: Policy, request: LoraRequest) -> Any:
        raise ConfigError(f"Every weight was trained, so there is no base for the adapter {request.folder}. Load it as a model of its own: "
                          f"FastLanguageModel.from_pretrained({str(request.folder)!r}), or heron.load({str(request.folder)!r}).")


@contextmanager
def _with_adapter(policy: Policy, request: LoraRequest) -> Iterator[None]:
    """The weights of a saved adapter in the place of the trained ones, for a while."""
    import torch
    from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

    made = adapter_config(request.folder)
    own = policy.model.peft_config[TRAINED]
    other = [name for name in FIELDS.values() if made.get(name, False) != getattr(own, name)]
    given = load_peft_weights(str(request.folder), device=str(policy.device))
    before = {name: weight.clone() for name, weight in get_peft_model_state_dict(policy.model, adapter_name=TRAINED).items()}
    if other or given.keys() != before.keys():
        raise ModelError(f"The adapter {request.folder} is shaped otherwise than the model's ({', '.join(other) or 'modules'}). Load it as "
                         f"a model of its own: heron.load({str(request.folder)!r}).")
    with torch.no_grad():
        set_peft_model_state_dict(policy.model, given, adapter_name=TRAINED)
        try:
            yield
        finally:
            set_peft_model_state_dict(policy.model, before, adapter_name=TRAINED)


def _engine(policy: Policy) -> Any:
    from heron.engine import make_engine

    policy.model.eval()
    return make_engine("native", policy, max_concurrent=256)


def _drawn(params: SamplingParams) -> Any:
    """As Heron's engine takes them."""
    from heron.engine import SamplingParams as Drawn

    return Drawn(
        max_tokens=params.max_tokens, temperature=params.temperature, top_p=params.top_p, top_k=max(params.top_k, 0), min_p=params.min_p,
        repetition_penalty=params.repetition_penalty, stop=params.stops, stop_token_ids=tuple(params.stop_token_ids or ()),
        ignore_end=params.ignore_eos,
    )


def check_save_method(given: Any) -> None:
    """Raises ConfigError for a `save_method` that is not there."""
    if given not in MERGED:
        raise ConfigError(f"save_method is {given!r}. There are {', '.join(MERGED)}; a model of 4 bits is written by "
                          "save_pretrained_gguf.")
