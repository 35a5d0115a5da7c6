"""The config.json of public models by their hub id, so that a run can be planned before anything is fetched, and without a network.

The values are those of the models' own repositories. Only what the planner reads is kept; `SHAPES` holds each shape once, since a base
model and what was made of it have the same. Left out: how long a context they were trained on, and everything that only running them needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Facts = Mapping[str, Any]
"""Keys of a config.json."""


def decoder(kind: str, hidden: int, intermediate: int, layers: int, heads: tuple[int, int], vocabulary: int, **more: Any) -> dict[str, Any]:
    """The keys that every decoder has; `heads` are those of queries and those of keys and values."""
    return {
        "model_type": kind, "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": heads[0], "num_key_value_heads": heads[1], "vocab_size": vocabulary, "dtype": "bfloat16",
        "tie_word_embeddings": False, **more,
    }


SHAPES: Mapping[str, Facts] = {
    "Qwen3-0.6B": decoder("qwen3", 1024, 3072, 28, (16, 8), 151936, tie_word_embeddings=True, head_dim=128),
    "Qwen3-1.7B": decoder("qwen3", 2048, 6144, 28, (16, 8), 151936, tie_word_embeddings=True, head_dim=128),
    "Qwen3-4B": decoder("qwen3", 2560, 9728, 36, (32, 8), 151936, tie_word_embeddings=True, head_dim=128),
    "Qwen3-8B": decoder("qwen3", 4096, 12288, 36, (32, 8), 151936, head_dim=128),
    "Qwen2.5-1.5B": decoder("qwen2", 1536, 8960, 28, (12, 2), 151936, tie_word_embeddings=True),
    "Qwen2.5-3B": decoder("qwen2", 2048, 11008, 36, (16, 2), 151936, tie_word_embeddings=True),
    "Llama-3.2-3B": decoder("llama", 3072, 8192, 28, (24, 8), 128256, tie_word_embeddings=True, head_dim=128),
    "Llama-3.1-8B": decoder("llama", 4096, 14336, 32, (32, 8), 128256),
    "gemma-3-1b": decoder("gemma3_text", 1152, 6912, 26, (4, 1), 262144, tie_word_embeddings=True, head_dim=256),
    "phi-4": decoder("phi3", 5120, 17920, 40, (40, 10), 100352),
    "Mistral-7B-v0.3": decoder("mistral", 4096, 14336, 32, (32, 8), 32768),
}
"""By a name for people."""

_IDS: Mapping[str, str] = {
    "Qwen/Qwen3-0.6B": "Qwen3-0.6B", "Qwen/Qwen3-0.6B-Base": "Qwen3-0.6B",
    "Qwen/Qwen3-1.7B": "Qwen3-1.7B", "Qwen/Qwen3-1.7B-Base": "Qwen3-1.7B",
    "Qwen/Qwen3-4B": "Qwen3-4B", "Qwen/Qwen3-4B-Base": "Qwen3-4B",
    "Qwen/Qwen3-8B": "Qwen3-8B", "Qwen/Qwen3-8B-Base": "Qwen3-8B", "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B": "Qwen3-8B",
    "Qwen/Qwen2.5-1.5B": "Qwen2.5-1.5B", "Qwen/Qwen2.5-1.5B-Instruct": "Qwen2.5-1.5B",
    "Qwen/Qwen2.5-3B": "Qwen2.5-3B", "Qwen/Qwen2.5-3B-Instruct": "Qwen2.5-3B",
    "meta-llama/Llama-3.2-3B": "Llama-3.2-3B", "meta-llama/Llama-3.2-3B-Instruct": "Llama-3.2-3B",
    "meta-llama/Llama-3.1-8B": "Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct": "Llama-3.1-8B",
    "google/gemma-3-1b-pt": "gemma-3-1b", "google/gemma-3-1b-it": "gemma-3-1b",
    "microsoft/phi-4": "phi-4",
    "mistralai/Mistral-7B-v0.3": "Mistral-7B-v0.3", "mistralai/Mistral-7B-Instruct-v0.3": "Mistral-7B-v0.3",
}


def known_config(name: str) -> dict[str, Any] | None:
    """The config.json of a hub id, as far as a plan needs it; None for one that is not in the table."""
    shape = _IDS.get(name)
    return None if shape is None else dict(SHAPES[shape])
