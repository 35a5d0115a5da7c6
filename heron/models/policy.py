"""The policy: model, tokenizer, and the version of its weights.

The one hard idea: everything that turns messages into tokens and tokens into log-probs goes through here, so the sampler and
the trainer cannot disagree about either. Tokens come out of the template once and are never re-tokenised from text.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heron.data.templates import prefilled_tag
from heron.data.texts import texts_in
from heron.errors import TemplateError
from heron.kernels.attention import AttentionPlan
from heron.kernels.host.attend import TYPES
from heron.kernels.host.build import built
from heron.kernels.host.linear import Linear, takes
from heron.kernels.logprobs import selected_logprobs
from heron.models.adapters import TRAINED, as_at_start, is_of_reference
from heron.models.quantized import is_quantized, num_weights
from heron.models.recording import Recorder
from heron.models.tokenizers import end_ids
from heron.types import Message, Tags

_REPLY_MARK = "\u2063heron-reply-{number}\u2063"


class Policy:
    """The model being trained, as the engine and the trainer see it."""

    version: int
    """Optimizer steps that these weights have seen."""

    def __init__(
        self, model: Any, tokenizer: Any, *, tags: Tags, source: str, version: int = 0, quantization_kept: Sequence[str] = (),
        revision: str | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.tags = tags
        self.source = source
        self.version = version
        self.reference: Policy | None = None
        self.revision = revision
        """Commit of the hub id that the weights came from; None for a folder."""
        self.tools: tuple[Mapping[str, Any], ...] = ()
        """JSON schemas of tools that the template writes into every prompt."""
        self.quantization_kept = tuple(quantization_kept)
        """Linear layers that were measured to need 16 bits on a base of 4."""
        self.is_lora = hasattr(model, "peft_config")
        self._causal = model.get_base_model() if self.is_lora else model
        self.is_quantized = is_quantized(self._causal)
        self._decoder: Any = self._causal.get_decoder()
        self._head: nn.Module = self._causal.get_output_embeddings()
        self.end_ids = end_ids(tokenizer, self._causal)
        text_config = self._causal.config.get_text_config()
        self.vocabulary_size = int(self._head.weight.shape[0])  # type: ignore[union-attr, arg-type]
        self.context_length = _context_length(text_config)
        self._softcap = getattr(text_config, "final_logit_softcapping", None)
        self._scale = _logit_scale(text_config)
        self.recorder = Recorder(self)
        """Of the decoder; see `hidden`."""
        self._few_rows: Linear | None = None  # of the head

    @property
    def device(self) -> torch.device:
        return self._head.weight.device  # type: ignore[union-attr, return-value]

    @property
    def trains_head(self) -> bool:
        """The output embedding is trained."""
        return bool(self._head.weight.requires_grad)  # type: ignore[union-attr]

    @property
    def text_config(self) -> Any:
        """The language model's transformers config."""
        return self._causal.config.get_text_config()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the activations."""
        return self._head.weight.dtype  # type: ignore[union-attr, return-value]

    # Text and tokens

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Prompt tokens of a conversation that the model is to continue."""
        return self.encode(self.render_text(messages))

    def render_text(self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = (), opened: bool = True) -> str:
        """The prompt as the template writes it, special tokens visible; it ends with the opening of an answer, if `opened`. `tools` are
        told of instead of its own."""
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tools=list(tools or self.tools) or None, tokenize=False, add_generation_prompt=opened,
            )
        except Exception as error:  # boundary: a template is third-party code and raises anything
            raise TemplateError(f"The chat template of {self.source} cannot render {list(messages)!r:.400}: {error}") from error
        return str(text)

    def render_reply(self, messages: Sequence[Message], reply: Sequence[Message], *, ended: bool) -> tuple[int, ...]:
        """Tokens that follow a sampled answer when an environment replies: the rest of that turn, the reply, a new opening.

        `ended` says that the answer's last token was an end token, which must not be written twice.
        """
        mark = _absent_from([*messages, *reply])
        text = self.render_text([*messages, {"role": "assistant", "content": mark}, *reply])
        if text.count(mark) != 1:
            raise TemplateError(f"The chat template of {self.source} drops or repeats earlier answers; it cannot be used "
                                "for several turns.")
        rest = self.encode(text.split(mark)[1])
        return rest[1:] if ended and rest and rest[0] in self.end_ids else rest

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of a text whose special tokens are already written out."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of sampled tokens, end and padding tokens left out. Other special tokens are shown: rewards must see what was said."""
        silent = self.end_ids | {self.tokenizer.pad_token_id}
        return str(self.tokenizer.decode([token for token in token_ids if token not in silent], skip_special_tokens=False))

    def prefilled(self, prompt_text: str) -> str:
        """The opening tag that the rendered prompt already ends with, or an empty string."""
        return prefilled_tag(prompt_text, self.tags)

    # Tensors

    def hidden(self, token_ids: Tensor, positions: Tensor, plan: AttentionPlan) -> Tensor:
        """Last hidden states `[B, T, D]` of `token_ids [B, T]` at `positions [B, T]`, attending as the plan says.

        Many packed tokens on a CPU go through a recording of the modules with compiled kernels; not in training mode, in which modules
        drop out or compute twice.
        """
        is_much = len(token_ids) == 1 and self.recorder.is_worth(token_ids.numel())
        replay = self.recorder.replay() if is_much and self.is_hosted and not self.model.training else None
        return (replay or self.forward)(token_ids, positions, plan)

    def forward(self, token_ids: Tensor, positions: Tensor, plan: AttentionPlan) -> Tensor:
        """The same, always by the modules themselves."""
        output = self._decoder(input_ids=token_ids, position_ids=positions, use_cache=False, plan=plan)
        return output.last_hidden_state

    @property
    def is_hosted(self) -> bool:
        """There are compiled kernels for it: on a CPU, in a type that they know."""
        return self.device.type == "cpu" and self.dtype in TYPES and built().code is not None

    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits `[N, V]` of hidden states `[N, D]`, before any temperature."""
        z = self._product(hidden).float()
        if self._scale != 1:
            z = z * self._scale
        return z if self._softcap is None else self._softcap * torch.tanh(z / self._softcap)

    def _product(self, hidden: Tensor) -> Tensor:
        weight, bias = self._head.weight, self._head.bias
        if torch.is_grad_enabled() or not takes(weight, bias):  # type: ignore[arg-type]
            return nn.functional.linear(hidden, weight, bias)  # type: ignore[arg-type]
        if self._few_rows is None or self._few_rows.weight is not weight:
            self._few_rows = Linear(weight, bias)  # type: ignore[arg-type]
        return self._few_rows(hidden)

    def logprobs(
        self, hidden: Tensor, targets: Tensor, *, temperature: float, entropy: bool = False, expected_gradient: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probs of `targets [N]` after `hidden [N, D]`, and the entropies `[N]` if asked for; never holds `[N, V]`.

        `expected_gradient [N]` is what the loss will send back to them, where that is known: it makes a trained head cheaper.
        """
        return selected_logprobs(
            hidden, self._head.weight, targets, bias=self._head.bias, scale=self._scale,  # type: ignore[arg-type]
            softcap=self._softcap, temperature=temperature, entropy=entropy, expected_gradient=expected_gradient,
        )

    @torch.no_grad()
    def reference_logprobs(
        self, token_ids: Tensor, positions: Tensor, plan: AttentionPlan, where: Tensor, targets: Tensor, *, temperature: float
    ) -> Tensor:
        """Log-probs `[N]` of `targets [N]` under the reference: the start of the run. `where [N]` are the predicting positions."""
        if self.is_lora:
            with as_at_start(self.model):
                hidden = self.hidden(token_ids, positions, plan)
            return self.logprobs(hidden[0, where], targets, temperature=temperature)[0]
        assert self.reference is not None, "full fine-tuning with beta > 0 needs a frozen copy of the start"
        hidden = self.reference.hidden(token_ids, positions, plan)
        return self.reference.logprobs(hidden[0, where], targets, temperature=temperature)[0]

    def set_reference(self, model: Any) -> None:
        """Freeze `model`, the start of the run, and measure the KL from it. A LoRA policy needs none: it goes back to the
        adapter that it began with, or switches its own off."""
        self.reference = Policy(model.requires_grad_(False), self.tokenizer, tags=self.tags, source=self.source)

    # Weights

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Named parameters that are trained."""
        return [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]

    def linear_shapes(self) -> list[tuple[int, int]]:
        """`(inputs, outputs)` of every linear layer, the head included, each once."""
        layers = (module for module in self.model.modules() if isinstance(module, nn.Linear))
        return list(dict.fromkeys((layer.in_features, layer.out_features) for layer in layers))

    def num_parameters(self, *, trainable: bool = False) -> int:
        """Count of weights, tied ones once, quantised ones as those that they stand for; a reference is not counted."""
        named = self.trainable() if trainable else self.model.named_parameters()
        return sum(num_weights(weight) for name, weight in named if not is_of_reference(name))

    @contextlib.contextmanager
    def sampling(self) -> Iterator[None]:
        """No gradients, no dropout, no recomputation, while the engine samples from these weights."""
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.model.train(was_training)

    def saved_weights(self) -> dict[str, Tensor]:
        """The tensors that `save` writes, as they are in memory: all of the model, or the trained adapter."""
        weights = self.model.state_dict()
        return {name: weight for name, weight in weights.items() if _is_trained_adapter(name)} if self.is_lora else dict(weights)

    def save(self, folder: Path, *, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write weights (or the adapter, in PEFT's layout) and tokenizer in Hugging Face format. A reference is not written.

        `weights` are written instead of the present ones: a copy of `saved_weights`.
        """
        chosen: dict[str, Any] = {"selected_adapters": [TRAINED]} if self.is_lora else {}
        if weights is not None:
            chosen["state_dict"] = dict(weights)
        with no_bars():
            self.model.save_pretrained(folder, safe_serialization=True, **chosen)
            self.tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def no_bars() -> Iterator[None]:
    """Without transformers' progress bars, which would tear a live view; they are as before on leaving."""
    from transformers.utils import logging

    were_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_on:
            logging.enable_progress_bar()


def _is_trained_adapter(name: str) -> bool:
    return "lora_" in name and f".{TRAINED}" in name


def _context_length(config: Any) -> int | None:
    """Most tokens of a row; None where the config does not say.

    Where a family turns its positions otherwise as soon as anything in a batch is longer than it was trained on (`longrope`, `dynamic`), a
    row would depend on its neighbours, and keys in the cache on what came later: such a model is used up to that length.
    """
    longest = int(getattr(config, "max_position_embeddings", 0) or 0) or None
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
    for kind in kinds:
        if kind.get("rope_type", kind.get("type")) in ("longrope", "dynamic"):
            original = kind.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
            return int(original) if original else longest
    return longest


def _logit_scale(config: Any) -> float:
    """What the family multiplies its logits with; 1 where it names nothing."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if (scale := getattr(config, name, None)) is not None:
            return float(scale)
    scaling = getattr(config, "logits_scaling", None)
    return 1.0 if scaling is None else 1.0 / float(scaling)


def _absent_from(messages: Sequence[Message]) -> str:
    """A mark that none of the messages holds: what a tool prints may be anything."""
    marks = (_REPLY_MARK.format(number=number) for number in itertools.count())
    texts = list(texts_in(messages))
    return next(mark for mark in marks if not any(mark in text for text in texts))
