"""The tokenizer of a model, with the chat template that conversations are written in, and what ends an answer.

The one hard idea: a template is of use only if the model can end its answers with what the template ends turns with. So a template that is
chosen by name must find its end token in the vocabulary, and makes it the tokenizer's end token; both are saved with the model.

Nothing else is changed. Heron masks and ends by place and never pads with the padding token, so it does not matter whether there is one, or
whether it is the end token. What it leaves out: tokens that the tokenizer has and the model has not (refused where a prompt holds one: some
models come with such tokens and never use them), and entries of the embedding that no token stands for: they are drawn as transformers and
vLLM draw them, decode to nothing, and are trained on like all others.
"""

from __future__ import annotations

from typing import Any

from heron.config.model import ModelConfig
from heron.data.templates import TEMPLATES, chat_template, turn_end
from heron.errors import ModelError, TemplateError
from heron.models.locating import no_folder
from heron.types import Tags


def load_tokenizer(name: str, config: ModelConfig, tags: Tags) -> Any:
    """The tokenizer, with a chat template, or an error that says what to set."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=config.revision)
    except Exception as error:  # boundary: transformers raises many kinds for a bad folder or an unreachable hub
        raise ModelError(f"No tokenizer could be loaded from {name!r}: {error}{no_folder(name)}") from error
    if config.chat_template is not None:
        _write_as(tokenizer, config.chat_template, tags, name)
    if tokenizer.chat_template is None:
        raise TemplateError(f"{name} has no chat template: it looks like a base model. Choose one of Heron's with "
                            f"{_choice(tokenizer)}; it is saved with the model.")
    return tokenizer


def end_ids(tokenizer: Any, model: Any) -> frozenset[int]:
    """Every token that ends an answer: the tokenizer's and all of the generation config's."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    ids = frozenset(token for token in [*listed, tokenizer.eos_token_id] if token is not None)
    if not ids:
        raise ModelError("Neither the tokenizer nor the generation config names an end token, so no answer could ever end. "
                         "Set eos_token in tokenizer_config.json.")
    size = model.get_input_embeddings().weight.shape[0]
    if min(ids) >= size:
        raise ModelError(f"The end tokens {sorted(ids)} lie outside the model's vocabulary of {size} entries, so no answer could ever end. "
                         "The tokenizer belongs to another model, or has tokens that were added without resizing the embedding.")
    return ids


def tell_ends(model: Any, ids: frozenset[int]) -> None:
    """Let the model's own generation config name all end tokens: it is saved with the weights, and others generate by it."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    if ids - set(configured if isinstance(configured, list) else [configured]):
        model.generation_config.eos_token_id = sorted(ids)


def _write_as(tokenizer: Any, template: str, tags: Tags, name: str) -> None:
    """Use a named template, whose end token becomes the tokenizer's."""
    tokenizer.chat_template = chat_template(template, tags)
    if not _fits(tokenizer, template):
        raise TemplateError(f"The chat template {template!r} ends answers with {turn_end(template) or 'an end token'}, which the tokenizer "
                            f"of {name} does not have, so no answer would ever end. Choose {_choice(tokenizer)}.")
    tokenizer.eos_token = turn_end(template) or tokenizer.eos_token


def _fits(tokenizer: Any, template: str) -> bool:
    """The tokenizer has what the template ends answers with."""
    end = turn_end(template)
    return tokenizer.eos_token is not None if end is None else end in tokenizer.get_vocab()


def _choice(tokenizer: Any) -> str:
    fitting = [name for name in TEMPLATES if _fits(tokenizer, name)]
    if not fitting:
        return "another model: its tokenizer has no end token for any of them"
    return f"--model.chat_template={fitting[0]} (of Heron's, {', '.join(fitting)} fit this tokenizer)"
