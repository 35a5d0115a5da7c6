"""How positions turn, in GGUF's words: the base, how much of a head turns, and what stretches it over a longer context.

The stretched kinds are written as llama.cpp computes them: `linear` and `yarn` as numbers, `llama3` and `longrope` as one factor for each
pair of a head (Llama 3's report, section 3.4; arXiv 2309.00071; arXiv 2402.13753). `dynamic` depends on what came before and is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from heron.errors import ModelError

FREQUENCIES, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"

Told = tuple[dict[str, Any], dict[str, Tensor]]
"""Settings by GGUF's key behind the architecture's name, and tensors by name."""


def rope_of(config: Any, head_size: int) -> Told:
    """What a file says of positions."""
    rope = _global(config)
    turned = int(head_size * float(rope.get("partial_rotary_factor") or 1.0))
    base = {"rope.dimension_count": turned, "rope.freq_base": float(rope["rope_theta"])}
    kind = rope.get("rope_type", "default")
    if kind == "default":
        return base, {}
    if kind not in _KINDS:
        raise ModelError(f"llama.cpp cannot turn positions by the rope type {kind!r}; {', '.join(_KINDS)} it can. Export with --format hf.")
    settings, tensors = _KINDS[kind](config, rope, turned)
    return base | settings, tensors


def _global(config: Any) -> Mapping[str, Any]:
    """The parameters of layers with full attention; those of windowed ones must be what llama.cpp takes for granted."""
    rope: Mapping[str, Any] = config.rope_parameters
    local = rope.get("sliding_attention")
    if local is None:
        return rope
    if (local.get("rope_type", "default"), float(local["rope_theta"])) != ("default", 10000.0):
        raise ModelError(f"Layers with a window turn positions by {dict(local)}, but llama.cpp computes them with a base of 10000 alone. "
                         "Export with --format hf.")
    full: Mapping[str, Any] = rope["full_attention"]
    return full


def _linear(config: Any, rope: Mapping[str, Any], turned: int) -> Told:
    return {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}, {}


def _yarn(config: Any, rope: Mapping[str, Any], turned: int) -> Told:
    own = {name: rope[name] for name in ("attention_factor", "mscale", "mscale_all_dim") if rope.get(name) is not None}
    if rope.get("truncate", True) is False:
        own["truncate"] = False
    if own:
        raise ModelError(f"The rope type yarn with {own} cannot be said in a GGUF file of this architecture. Export with --format hf.")
    settings = {"rope.scaling.type": "yarn", "rope.scaling.factor": float(rope["factor"]),
                "rope.scaling.original_context_length": int(rope["original_max_position_embeddings"])}
    betas = {f"rope.scaling.yarn_{name}": float(rope[name]) for name in ("beta_fast", "beta_slow") if rope.get(name) is not None}
    return settings | betas, {}


def _llama3(config: Any, rope: Mapping[str, Any], turned: int) -> Told:
    """Long waves are stretched by the factor, short ones not at all, those between by something between."""
    factor, low, high = float(rope["factor"]), float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    frequencies = 1.0 / float(rope["rope_theta"]) ** (torch.arange(0, turned, 2, dtype=torch.float64) / turned)  # [turned / 2]
    waves = int(rope["original_max_position_embeddings"]) * frequencies / (2 * math.pi)  # in the original context
    share = ((waves - low) / (high - low)).clamp(0, 1)
    return {}, {FREQUENCIES: (1.0 / ((1 - share) / factor + share)).float()}


def _longrope(config: Any, rope: Mapping[str, Any], turned: int) -> Told:
    original = int(rope.get("original_max_position_embeddings") or config.original_max_position_embeddings)
    stretch = config.max_position_embeddings / original
    attention = rope.get("attention_factor")
    if attention is None:
        attention = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
    settings = {"rope.scaling.original_context_length": original, "rope.scaling.attn_factor": float(attention)}
    return settings, {LONG: torch.tensor(rope["long_factor"]), SHORT: torch.tensor(rope["short_factor"])}


_KINDS = {"linear": _linear, "yarn": _yarn, "llama3": _llama3, "longrope": _longrope}
