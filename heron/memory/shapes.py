"""The shape of a dense decoder, read from its config.json, and how many weights that makes.

The one hard idea: families differ only in a few facts (which projections have a bias, how many norms a layer has, whether
queries and keys are normalised), so a family is a row of a table and the count is one formula. For the families of the table
the count is exact; for another dense decoder it is the Llama formula, and says so. Mixtures of experts and layers
without attention are refused, because the formula would be far off for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heron.errors import ConfigError, ModelError, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """What a `model_type` does not write into its config.json."""

    attention_bias: str = "config"
    """Biases of the attention: `all` four, `qkv`, `none`, or as the key `attention_bias` says (`config`)."""
    norms: int = 2
    """Norms per layer over the hidden size."""
    qk_norm: bool = False
    """Queries and keys are normalised per head."""
    is_fused: bool = False
    """One projection for queries, keys and values, and one for gate and up."""
    is_tied: bool = False
    """Embedding and head share their weights where config.json does not say."""
    head_dim: int | None = None
    """Width of a head where config.json does not say; None: the hidden size over the heads."""


_FAMILIES: Mapping[str, _Family] = {
    "llama": _Family(),
    "mistral": _Family(attention_bias="none"),
    "qwen2": _Family(attention_bias="qkv"),
    "qwen3": _Family(qk_norm=True, head_dim=128),
    "gemma": _Family(is_tied=True, head_dim=256),
    "gemma2": _Family(norms=4, is_tied=True, head_dim=256),
    "gemma3_text": _Family(norms=4, qk_norm=True, is_tied=True, head_dim=256),
    "phi3": _Family(attention_bias="none", is_fused=True),
}

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size")
_ATTENTION_LAYERS = ("full_attention", "sliding_attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a dense decoder."""

    family: str
    """`model_type` of the config.json."""
    is_exact: bool
    """True if the family is one whose weights are counted exactly."""
    hidden: int
    """Hidden size D."""
    layers: int
    """Layers L."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads."""
    head_dim: int
    """Width of a head."""
    intermediate: int
    """Width of the MLP."""
    vocabulary: int
    """Rows of the embedding V."""
    is_tied: bool
    """The head is the embedding."""
    attention_bias: str
    """Which attention projections have a bias: `all`, `qkv` or `none`."""
    mlp_bias: bool
    """The three MLP projections have a bias."""
    norms: int
    """Norms per layer over the hidden size."""
    qk_norm: bool
    """Queries and keys are normalised per head."""
    is_fused: bool
    """Queries, keys and values are one projection, gate and up another."""

    @property
    def query_width(self) -> int:
        """Heads times their width."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Key heads times their width."""
        return self.kv_heads * self.head_dim

    @property
    def embedding(self) -> int:
        """Weights of the embedding, and of the head."""
        return self.vocabulary * self.hidden

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """`(inputs, outputs)` of the linear layers of one decoder layer, by module name."""
        D, A, K, F = self.hidden, self.query_width, self.key_width, self.intermediate
        if self.is_fused:
            return {"qkv_proj": (D, A + 2 * K), "o_proj": (A, D), "gate_up_proj": (D, 2 * F), "down_proj": (F, D)}
        attention = {"q_proj": (D, A), "k_proj": (D, K), "v_proj": (D, K), "o_proj": (A, D)}
        return attention | {"gate_proj": (D, F), "up_proj": (D, F), "down_proj": (F, D)}

    @property
    def parameters(self) -> int:
        """All weights, tied ones once.

        `V D (1 or 2) + L (sum of inputs x outputs + biases + norms D + 2 head_dim if q and k are normalised) + D`.
        """
        D, A, K, F = self.hidden, self.query_width, self.key_width, self.intermediate
        matrices = sum(inputs * outputs for inputs, outputs in self.linears.values())
        biases = {"none": 0, "qkv": A + 2 * K, "all": A + 2 * K + D}[self.attention_bias] + self.mlp_bias * (2 * F + D)
        norms = self.norms * D + self.qk_norm * 2 * self.head_dim
        return self.embedding * (1 if self.is_tied else 2) + self.layers * (matrices + biases + norms) + D

    def targets(self, names: Sequence[str]) -> dict[str, tuple[int, int]]:
        """The adapted linear layers of one decoder layer; empty `names` mean all of them."""
        unknown = [name for name in names if name not in self.linears]
        if unknown:
            raise ConfigError(
                f"model.lora_target_modules names {unknown[0]!r}, which is not a linear layer of a {self.family} layer; "
                f"there are {', '.join(self.linears)}.{did_you_mean(unknown[0], self.linears)}"
            )
        return {name: size for name, size in self.linears.items() if not names or name in names}

    def adapter_parameters(self, rank: int, names: Sequence[str]) -> int:
        """Weights of a LoRA adapter: `rank x (inputs + outputs)` for every adapted layer (arXiv 2106.09685)."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.targets(names).values())


def read_shape(model: Mapping[str, Any]) -> Shape:
    """The shape that a config.json describes.

    Args:
        model: the config.json as a mapping; of a multimodal model, its `text_config`.
    """
    _refuse(model)
    family = _FAMILIES.get(model.get("model_type", ""), _Family())
    heads, hidden = _size(model, "num_attention_heads"), _size(model, "hidden_size")
    return Shape(
        family=str(model.get("model_type", "unknown")),
        is_exact=model.get("model_type") in _FAMILIES,
        hidden=hidden,
        layers=_size(model, "num_hidden_layers"),
        heads=heads,
        kv_heads=int(model.get("num_key_value_heads") or heads),
        head_dim=int(model.get("head_dim") or family.head_dim or hidden // heads),
        intermediate=_size(model, "intermediate_size"),
        vocabulary=_size(model, "vocab_size"),
        is_tied=bool(model.get("tie_word_embeddings", family.is_tied)),
        attention_bias=_attention_bias(model, family),
        mlp_bias=bool(model.get("mlp_bias", False)),
        norms=family.norms,
        qk_norm=family.qk_norm,
        is_fused=family.is_fused,
    )


def _attention_bias(model: Mapping[str, Any], family: _Family) -> str:
    if family.attention_bias != "config":
        return family.attention_bias
    return "all" if model.get("attention_bias", False) else "none"


def _refuse(model: Mapping[str, Any]) -> None:
    experts = [key for key in _EXPERTS if model.get(key)]
    if experts:
        raise ModelError(
            f"The planner counts dense models, but this config.json has {experts[0]}={model[experts[0]]}: a mixture of experts."
        )
    other = sorted(set(model.get("layer_types") or ()) - set(_ATTENTION_LAYERS))
    if other:
        raise ModelError(f"The planner counts attention layers, but this config.json has layers of type {', '.join(other)}.")


def _size(model: Mapping[str, Any], key: str) -> int:
    if key not in model:
        hint = " It has a text_config: give that." if "text_config" in model else " Is it the config.json of a decoder?"
        raise ModelError(f"The config.json has no {key}, so memory cannot be planned.{hint}")
    return int(model[key])
