"""The shape of a decoder, read from its config.json, and how many weights that makes.

The one hard idea: families differ only in a few facts (which projections have a bias, how many norms a layer has, whether
queries and keys are normalised, whether experts stand in for the MLP), so a family is a row of a table and the count is one formula. For
the families of the table the count is exact; for another dense decoder it is the Llama formula, and says so. Experts of other families
and layers without attention are refused, because the formula would be far off for them.
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
    """Queries and keys are normalised."""
    qk_norm_is_wide: bool = False
    """Over all heads at once, and not per head."""
    fused: tuple[str, ...] = ()
    """`qkv`: one projection for queries, keys and values; `gate_up`: one for gate and up."""
    adapts_experts: bool = False
    """An adapter on every linear layer reaches router and experts too, which PEFT knows how to open for this family."""
    is_mixture: bool = False
    """Experts, chosen by a router, in place of the MLP; their width stands in `moe_intermediate_size` or `intermediate_size`."""
    has_biased_experts: bool = False
    """Experts and router have biases, and every query head a sink."""
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
    "phi3": _Family(attention_bias="none", fused=("qkv", "gate_up")),
    "cohere": _Family(norms=1, is_tied=True),
    "cohere2": _Family(norms=1, is_tied=True),
    "smollm3": _Family(is_tied=True),
    "olmo2": _Family(qk_norm=True, qk_norm_is_wide=True),
    "granite": _Family(),
    "glm4": _Family(attention_bias="config qkv", norms=4, fused=("gate_up",), head_dim=128),
    "qwen3_moe": _Family(qk_norm=True, is_mixture=True, adapts_experts=True),
    "gpt_oss": _Family(is_mixture=True, has_biased_experts=True, head_dim=64),
}

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size")
_ATTENTION_LAYERS = ("full_attention", "sliding_attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a decoder."""

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
    """Queries and keys are normalised."""
    qk_norm_is_wide: bool = False
    """Over all heads at once, and not per head."""
    fused: tuple[str, ...] = ()
    """`qkv`: queries, keys and values are one projection; `gate_up`: gate and up are."""
    experts: int = 0
    """Experts of a layer, of the width `intermediate`; 0 for an MLP."""
    experts_per_token: int = 0
    """How many of them compute a token."""
    has_biased_experts: bool = False
    """Experts and router have biases, and every query head a sink."""
    adapts_experts: bool = False
    """An adapter on every linear layer reaches router and experts too."""

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
        split = {"q_proj": (D, A), "k_proj": (D, K), "v_proj": (D, K)}
        attention = ({"qkv_proj": (D, A + 2 * K)} if "qkv" in self.fused else split) | {"o_proj": (A, D)}
        if self.experts:
            return attention
        gates = {"gate_up_proj": (D, 2 * F)} if "gate_up" in self.fused else {"gate_proj": (D, F), "up_proj": (D, F)}
        return attention | gates | {"down_proj": (F, D)}

    @property
    def linear_weights(self) -> int:
        """Weights of the linear layers of one decoder layer."""
        return sum(inputs * outputs for inputs, outputs in self.linears.values())

    @property
    def expert_weights(self) -> int:
        """Weights of the experts of one decoder layer and their router."""
        D, F = self.hidden, self.intermediate
        biases = (2 * F + D + 1) if self.has_biased_experts else 0
        return self.experts * (3 * D * F + D + biases)

    @property
    def layer_weights(self) -> int:
        """Weights of one decoder layer: its linear layers or experts, biases and norms."""
        D, A, K, F = self.hidden, self.query_width, self.key_width, self.intermediate
        biases = {"none": 0, "qkv": A + 2 * K, "all": A + 2 * K + D}[self.attention_bias] + self.mlp_bias * (2 * F + D)
        norms = self.norms * D + self.qk_norm * (A + K if self.qk_norm_is_wide else 2 * self.head_dim)
        sinks = self.heads if self.has_biased_experts else 0
        return self.linear_weights + self.expert_weights + biases + norms + sinks

    @property
    def parameters(self) -> int:
        """All weights, tied ones once: `V D (1 or 2) + L x layer + D`."""
        return self.embedding * (1 if self.is_tied else 2) + self.layers * self.layer_weights + self.hidden

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
        """Weights of a LoRA adapter: `rank x (inputs + outputs)` for every adapted layer (arXiv 2106.09685). Gate and up of an expert are
        one tensor, which PEFT adapts with twice the rank."""
        D, F, E = self.hidden, self.intermediate, self.experts
        experts = E * (2 * (D + 2 * F) + F + D) + D + E if self.adapts_experts and not names else 0
        return self.layers * rank * (experts + sum(inputs + outputs for inputs, outputs in self.targets(names).values()))


def read_shape(model: Mapping[str, Any]) -> Shape:
    """The shape that a config.json describes.

    Args:
        model: the config.json as a mapping; of a multimodal model, its `text_config`.
    """
    family = _FAMILIES.get(model.get("model_type", ""), _Family())
    _refuse(model, family)
    heads, hidden = _size(model, "num_attention_heads"), _size(model, "hidden_size")
    return Shape(
        family=str(model.get("model_type", "unknown")),
        is_exact=model.get("model_type") in _FAMILIES,
        hidden=hidden,
        layers=_size(model, "num_hidden_layers"),
        heads=heads,
        kv_heads=int(model.get("num_key_value_heads") or heads),
        head_dim=int(model.get("head_dim") or family.head_dim or hidden // heads),
        intermediate=int((family.is_mixture and model.get("moe_intermediate_size")) or _size(model, "intermediate_size")),
        vocabulary=_size(model, "vocab_size"),
        is_tied=bool(model.get("tie_word_embeddings", family.is_tied)),
        attention_bias=_attention_bias(model, family),
        mlp_bias=bool(model.get("mlp_bias", False)),
        norms=family.norms,
        qk_norm=family.qk_norm,
        qk_norm_is_wide=family.qk_norm_is_wide,
        fused=family.fused,
        experts=_experts(model) if family.is_mixture else 0,
        experts_per_token=_size(model, "num_experts_per_tok") if family.is_mixture else 0,
        has_biased_experts=family.has_biased_experts,
        adapts_experts=family.adapts_experts,
    )


def _attention_bias(model: Mapping[str, Any], family: _Family) -> str:
    asked, _, kind = family.attention_bias.partition(" ")
    if asked != "config":
        return asked
    return (kind or "all") if model.get("attention_bias", family.has_biased_experts) else "none"


def _experts(model: Mapping[str, Any]) -> int:
    return next(int(model[key]) for key in _EXPERTS if model.get(key))


def _refuse(model: Mapping[str, Any], family: _Family) -> None:
    experts = [key for key in _EXPERTS if model.get(key)]
    if experts and not family.is_mixture:
        raise ModelError(
            f"The planner does not know the experts of {model.get('model_type', 'this model')}: its config.json has "
            f"{experts[0]}={model[experts[0]]}. It knows those of "
            f"{', '.join(name for name, one in _FAMILIES.items() if one.is_mixture)}."
        )
    if model.get("mlp_only_layers") or model.get("decoder_sparse_step", 1) != 1:
        raise ModelError("The planner counts mixtures in which every layer has experts, but this config.json has mlp_only_layers "
                         f"{model.get('mlp_only_layers', [])} and decoder_sparse_step {model.get('decoder_sparse_step', 1)}.")
    other = sorted(set(model.get("layer_types") or ()) - set(_ATTENTION_LAYERS))
    if other:
        raise ModelError(f"The planner counts attention layers, but this config.json has layers of type {', '.join(other)}.")


def _size(model: Mapping[str, Any], key: str) -> int:
    if key not in model:
        hint = " It has a text_config: give that." if "text_config" in model else " Is it the config.json of a decoder?"
        raise ModelError(f"The config.json has no {key}, so memory cannot be planned.{hint}")
    if not isinstance(model[key], int) or model[key] < 1:
        raise ModelError(f"The config.json has {key} = {model[key]!r}, which must be a whole number above 0.")
    return int(model[key])
