"""What `memory_plan` plans and measures: random models of 20 to 110 million weights, and the settings of a run.

They are so large that the few MiB of Python's own objects do not matter, and so small that a step takes seconds on one core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A random Qwen3."""

    hidden: int = 512
    """Width."""
    layers: int = 8
    """Depth."""
    intermediate: int = 1536
    """Width of the MLP."""
    vocabulary: int = 16_384
    """Words."""
    heads: int = 8
    """Of 64."""
    kv_heads: int = 4
    """Of them with keys."""
    tied: bool = True
    """The head is the embedding."""
    dtype: str = "float32"
    """Of the checkpoint."""

    def config(self) -> dict[str, Any]:
        """Of transformers."""
        return {
            "vocab_size": self.vocabulary, "hidden_size": self.hidden, "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "head_dim": 64,
            "tie_word_embeddings": self.tied, "max_position_embeddings": 8192, "bos_token_id": None,
        }


WIDE, DEEP = Shape(hidden=768, intermediate=2048), Shape(layers=20, hidden=384, intermediate=1024, heads=6, kv_heads=2)
WORDY = Shape(layers=4, vocabulary=65_536)
HALF = Shape(hidden=1024, layers=8, intermediate=3072, heads=16, kv_heads=8, dtype="bfloat16", vocabulary=32_768)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One configuration."""

    name: str
    """What is special about it."""
    shape: Shape = field(default_factory=Shape)
    """The model."""
    prompt_tokens: int = 128
    """Of every prompt."""
    answer_tokens: int = 128
    """Of every answer."""
    prompts: int = 2
    """In a step."""
    siblings: int = 4
    """Of each."""
    micro_batch_tokens: int = 2048
    """Packed tokens of one pass."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """More settings of the model."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """More settings of the training."""

    is_quick: bool = False
    """Measured by `--quick` too."""

    def settings(self, folder: Path) -> dict[str, Any]:
        """For `load_config`."""
        return {
            "model": {"name": str(folder), "device": "cpu", "lora_rank": 16, **self.model},
            "rollout": {"num_generations": self.siblings, "max_completion_length": self.answer_tokens},
            "train": {"prompts_per_step": self.prompts, "micro_batch_tokens": self.micro_batch_tokens, **self.train},
            "evaluation": {"size": 0},
        }


LORA, QLORA, RECOMPUTE = {"method": "lora"}, {"method": "qlora"}, {"gradient_checkpointing": True}
CASES = (
    Case(name="full"),
    Case(name="full, recomputed", model=RECOMPUTE, is_quick=True),
    Case(name="full, 64 K words", shape=WORDY),
    Case(name="full, untied", shape=Shape(tied=False, layers=4), is_quick=True),
    Case(name="full, 768 wide", shape=WIDE, siblings=8, answer_tokens=64),
    Case(name="full, 20 layers", shape=DEEP, prompt_tokens=512, answer_tokens=64),
    Case(name="full, 8-bit AdamW", model=RECOMPUTE, train={"optimizer": "adamw_8bit"}),
    Case(name="full, Adafactor", model=RECOMPUTE, train={"optimizer": "adafactor"}),
    Case(name="LoRA", model=LORA),
    Case(name="LoRA, recomputed", model=LORA | RECOMPUTE, is_quick=True),
    Case(name="LoRA, 16 siblings", model=LORA, siblings=16, prompts=1, answer_tokens=96),
    Case(name="LoRA, 2048 tokens", model=LORA, prompts=1, siblings=2, prompt_tokens=256, answer_tokens=896),
    Case(name="LoRA, bfloat16", shape=HALF, model=LORA, is_quick=True),
    Case(name="LoRA, bfloat16, recomputed", shape=HALF, model=LORA | RECOMPUTE),
    Case(name="LoRA, bfloat16, recomputed, in tiles", shape=HALF, model=LORA | RECOMPUTE | {"tiled_mlp": 256}),
    Case(name="LoRA, 64 K words", shape=WORDY, model=LORA),
    Case(name="QLoRA, bfloat16", shape=HALF, model=QLORA, prompt_tokens=512, answer_tokens=32),
)


def warm_shape(dtype: str) -> Shape:
    """A model to warm up with, of this type."""
    return Shape(hidden=64, layers=2, intermediate=128, vocabulary=512, heads=2, kv_heads=1, dtype=dtype)
