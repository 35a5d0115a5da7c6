"""Public models by their config.json, and the memory figures that were published for training them with GRPO.

The config.json values are those of the models' own repositories. The figures are those of Unsloth's guide to reinforcement learning (its
table for Llama 3.1 8B, 8 answers of 20,480 tokens) and of its table of least VRAM, in the GB that they are written in. Left out: what
Heron needs for the same (`guide`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heron.memory.known import SHAPES, decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was published for one part of the headline job, in GB."""

    standard: float
    """With TRL and Flash Attention 2."""
    unsloth: float
    """With Unsloth."""


HEADLINE: Mapping[str, Published] = {
    "training": Published(standard=414, unsloth=42),
    "logits": Published(standard=78.3, unsloth=9.8),
    "engine": Published(standard=16, unsloth=0),
    "cache": Published(standard=2.5, unsloth=2.5),
    "total": Published(standard=510.8, unsloth=54.33),
}
"""Llama 3.1 8B, 8 answers of 20,480 tokens."""
STANDARD_LINE, UNSLOTH_LINE = (9.697, 2.530 * 2**20), (7.370, 222.2 * 2**10)
"""GiB, and bytes a token: the straight lines through Unsloth's published table of longest contexts (QLoRA, rank 32, one row). At 163,840
tokens they give 414.5 and 42.1, which is where the two training figures come from."""
LAYER_BYTES = 200_864
"""What autograd keeps of one layer of Llama 3.1 8B a token, in 16 bits: tensors counted on a CPU, with transformers' own modules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A public model, and the least VRAM that was published for its size."""

    name: str
    """On the hub."""
    parameters: int
    """As its checkpoint holds them."""
    qlora: float
    """GB for QLoRA."""
    lora: float | None
    """GB for LoRA on 16 bits; None where none was published."""
    model: Mapping[str, Any]
    """Its config.json."""


SIZES: tuple[Size, ...] = (
    Size(name="Qwen2.5-1.5B", parameters=1_543_714_304, qlora=5, lora=None, model=SHAPES["Qwen2.5-1.5B"]),
    Size(name="Llama-3.2-3B", parameters=3_212_749_824, qlora=3.5, lora=8, model=SHAPES["Llama-3.2-3B"]),
    Size(name="Qwen2.5-7B", parameters=7_615_616_512, qlora=5, lora=19, model=decoder("qwen2", 3584, 18944, 28, (28, 4), 152064)),
    Size(name="Llama-3.1-8B", parameters=8_030_261_248, qlora=6, lora=22, model=SHAPES["Llama-3.1-8B"]),
    Size(name="gemma-2-9b", parameters=9_241_705_984, qlora=6.5, lora=24,
         model=decoder("gemma2", 3584, 14336, 42, (16, 8), 256000, tie_word_embeddings=True, head_dim=256)),
    Size(name="phi-4", parameters=14_659_507_200, qlora=8.5, lora=33, model=SHAPES["phi-4"]),
    Size(name="gemma-2-27b", parameters=27_227_128_320, qlora=22, lora=64,
         model=decoder("gemma2", 4608, 36864, 46, (32, 16), 256000, tie_word_embeddings=True, head_dim=128)),
    Size(name="Qwen2.5-32B", parameters=32_763_876_352, qlora=26, lora=76, model=decoder("qwen2", 5120, 27648, 64, (40, 8), 152064)),
    Size(name="Llama-3.1-70B", parameters=70_553_706_496, qlora=41, lora=164, model=decoder("llama", 8192, 28672, 80, (64, 8), 128256)),
)
"""From small to large."""
LLAMA_8B = SHAPES["Llama-3.1-8B"]
