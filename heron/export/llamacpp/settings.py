"""What a GGUF file says of a model besides its weights and its words: sizes, heads, norms, positions, windows, scales."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from heron.errors import ModelError
from heron.export.llamacpp.families import Family, context_of, window_of
from heron.export.llamacpp.rope import FREQUENCIES, rope_of

Settings = dict[str, Any]
"""By key. An int becomes 32 bits without sign, a float 32 bits, a tuple an array."""


def settings_of(config: Any, family: Family, *, context: int | None, vocabulary: int) -> tuple[Settings, dict[str, Tensor]]:
    """Everything that the architecture needs, and the tensors that belong to it and not to the model.

    Args:
        config: the language model's transformers config.
        family: of that config.
        context: most tokens that the model is used for; None: what the config says.
        vocabulary: rows of the embedding.
    """
    head_size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    turning, tensors = rope_of(config, head_size)
    if FREQUENCIES in tensors and not family.reads_frequencies:
        raise ModelError(f"llama.cpp reads no rope frequencies for {family.arch}, so rope type llama3 cannot be said there. "
                         "Export with --format hf.")
    key, name = family.epsilon
    own = {
        "vocab_size": vocabulary, "context_length": context_of(config, family, context), "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads, "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head_size, "attention.value_length": head_size, key: float(getattr(config, name)), **turning,
    }
    own = _window(config, family) | own
    own |= {key: value for key, name in family.scales.items() if (value := getattr(config, name)) is not None}
    return {f"{family.arch}.{key}": value for key, value in own.items()}, tensors


def _window(config: Any, family: Family) -> Settings:
    window = window_of(config, family)
    if family.arch == "phi3":  # llama.cpp wants the key, 0 for none, and the length of the context before it was stretched
        original = getattr(config, "original_max_position_embeddings", None) or config.max_position_embeddings
        return {"attention.sliding_window": 0, "rope.scaling.original_context_length": int(original)}
    return {} if window is None else {"attention.sliding_window": window}


def put_settings(writer: Any, settings: Settings) -> None:
    """Add every setting under the type that its Python value stands for."""
    put = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, tuple: writer.add_array}
    for key, value in settings.items():
        put[type(value)](key, value)
