"""The families of models that llama.cpp computes as they were trained, and what has to be said of each.

The one hard idea: llama.cpp knows an architecture by name and takes much of it for granted, such as which layers have a window. What a
file cannot say must therefore be what llama.cpp assumes, and a model that differs there is refused by name, before anything is loaded
twice or written. What a file can say is in `settings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heron.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How llama.cpp sees the models of one `model_type` of transformers."""

    arch: str
    """Name of the architecture in GGUF."""
    interleaved: bool = False
    """llama.cpp rotates neighbours in a head, not halves: rows of queries and keys are put in that order."""
    norm_shift: float = 0.0
    """The family multiplies by this plus a norm's weight, llama.cpp by what is written."""
    window_every: int | None = None
    """Every layer but each such one has the window; None: llama.cpp applies no window to this architecture."""
    reads_frequencies: bool = False
    """llama.cpp takes one factor for each pair of a head from the file, as rope type llama3 needs it."""
    activation: str = "silu"
    """Between the layers of an MLP."""
    scales: Mapping[str, str] = field(default_factory=dict)
    """GGUF's keys of further numbers, and what transformers calls them."""
    epsilon: tuple[str, str] = ("attention.layer_norm_rms_epsilon", "rms_norm_eps")
    """GGUF's key of the epsilon of the norms, and transformers' name."""
    assumed: Callable[[Any], Mapping[str, tuple[Any, Any]]] = lambda config: {}
    """What llama.cpp takes for granted: by name, the model's value and the only one that llama.cpp computes."""


def _gemma(layers_of_largest: int) -> Callable[[Any], Mapping[str, tuple[Any, Any]]]:
    """Scores are divided by the root of a head's size, but in the largest model by that of another number, which llama.cpp knows."""

    def assumed(config: Any) -> Mapping[str, tuple[Any, Any]]:
        largest = config.num_hidden_layers == layers_of_largest
        divisor = config.hidden_size // config.num_attention_heads if largest else config.head_dim
        return {"query_pre_attn_scalar": (config.query_pre_attn_scalar, divisor)}

    return assumed


def _gemma2(config: Any) -> Mapping[str, tuple[Any, Any]]:
    return {**_gemma(46)(config), "window": ("sliding" in _layer_kinds(config), True)}


def _gemma3(config: Any) -> Mapping[str, tuple[Any, Any]]:
    caps = {name: (getattr(config, name, None), None) for name in ("attn_logit_softcapping", "final_logit_softcapping")}
    return {**_gemma(62)(config), **caps}


def _smollm3(config: Any) -> Mapping[str, tuple[Any, Any]]:
    every_fourth = [int((layer + 1) % 4 != 0) for layer in range(config.num_hidden_layers)]
    return {"no_rope_layers": (list(config.no_rope_layers), every_fourth)}


def _qwen3_moe(config: Any) -> Mapping[str, tuple[Any, Any]]:
    return {"norm_topk_prob": (config.norm_topk_prob, True), "decoder_sparse_step": (config.decoder_sparse_step, 1),
            "mlp_only_layers": (list(config.mlp_only_layers or ()), [])}


_EXPERTS = {"expert_count": "num_experts", "expert_used_count": "num_experts_per_tok",
            "expert_feed_forward_length": "moe_intermediate_size"}
_GRANITE = {"embedding_scale": "embedding_multiplier", "residual_scale": "residual_multiplier", "logit_scale": "logits_scaling",
            "attention.scale": "attention_multiplier"}
_CAPS = {"attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping"}

FAMILIES: Mapping[str, Family] = {
    "llama": Family(arch="llama", interleaved=True, reads_frequencies=True),
    "mistral": Family(arch="llama", interleaved=True, reads_frequencies=True),
    "qwen2": Family(arch="qwen2"),
    "qwen3": Family(arch="qwen3"),
    "qwen3_moe": Family(arch="qwen3moe", scales=_EXPERTS, assumed=_qwen3_moe),
    "gemma2": Family(arch="gemma2", norm_shift=1.0, window_every=2, activation="gelu_pytorch_tanh", scales=_CAPS, assumed=_gemma2),
    "gemma3_text": Family(arch="gemma3", norm_shift=1.0, window_every=6, activation="gelu_pytorch_tanh", assumed=_gemma3),
    "phi3": Family(arch="phi3"),
    "smollm3": Family(arch="smollm3", interleaved=True, assumed=_smollm3),
    "olmo2": Family(arch="olmo2"),
    "granite": Family(arch="granite", interleaved=True, reads_frequencies=True, scales=_GRANITE),
    "cohere2": Family(
        arch="cohere2", window_every=4, scales={"logit_scale": "logit_scale"}, epsilon=("attention.layer_norm_epsilon", "layer_norm_eps"),
    ),
    "glm4": Family(arch="glm4"),
    "starcoder2": Family(
        arch="starcoder2", activation="gelu_pytorch_tanh", epsilon=("attention.layer_norm_epsilon", "norm_epsilon"),
    ),
}
"""By transformers' `model_type`."""


def family_of(config: Any) -> Family:
    """The family of a text config; ModelError for one that llama.cpp does not compute, or not as it was trained."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ModelError(f"Models of type {config.model_type!r} cannot be written as GGUF; {', '.join(FAMILIES)} can. "
                         "Export with --format hf, and convert that folder with a tool that knows this architecture.")
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    for name, (given, known) in {**family.assumed(config), "activation": (activation, family.activation)}.items():
        if given != known:
            raise ModelError(f"This model's {name} is {given!r}, but llama.cpp computes {family.arch} with {known!r} alone, so the file "
                             "would be another model. Export with --format hf.")
    return family


def window_of(config: Any, family: Family) -> int | None:
    """The window that llama.cpp is told; None for a model without, or where the context must end at the window (see `context_of`)."""
    kinds = _layer_kinds(config)
    if "sliding" not in kinds or family.window_every is None:
        return None
    known = ["full" if (layer + 1) % family.window_every == 0 else "sliding" for layer in range(len(kinds))]
    if kinds != known:
        raise ModelError(f"llama.cpp computes {family.arch} with full attention in every layer whose number {family.window_every} divides "
                         f"and windows in the others; this model's layers are {', '.join(kinds)}. Export with --format hf.")
    return int(config.sliding_window)


def context_of(config: Any, family: Family, longest: int | None) -> int:
    """Most tokens for which llama.cpp computes this model: its own context, or a window that llama.cpp does not apply."""
    whole = longest or int(config.max_position_embeddings)
    unknown_window = "sliding" in _layer_kinds(config) and family.window_every is None
    return min(whole, int(config.sliding_window)) if unknown_window else whole


def _layer_kinds(config: Any) -> list[str]:
    """`full` or `sliding` for each layer."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        kinds = ["sliding" if window and getattr(config, "use_sliding_window", True) else "full"] * config.num_hidden_layers
    return ["sliding" if kind.startswith("sliding") and window else "full" for kind in kinds]
