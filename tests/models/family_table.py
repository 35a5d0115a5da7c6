"""The families that `docs/models.md` lists, each as a tiny random model with the options of its real ones; and the page itself.

`PYTHONPATH=tests python tests/models/family_table.py` writes the page, from what the checks of `family_checks` say there and then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from family_checks import check_method, is_recorded
from tinymodels import save_model

from heron.errors import ModelError

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
REWRITE = "PYTHONPATH=tests python tests/models/family_table.py"
METHODS = ("full", "lora", "qlora")


INTRODUCTION = """\
# Models

A model works if its tokens meet in full or sliding-window attention, whatever its name: its own modules are run, and only their attention
is Heron's. When a model is loaded, its activations are compared under both; a model that would become another one is refused by name,
before any time is spent.

Each row below is a small random model with the family's real options. A method says *yes* if, in the tests that wrote this page,

1. greedy answers of the native engine (ragged prompts, more of them than slots) are those of transformers' `generate`,
2. the fused log-probs of packed rows that share their prompt are those of full logits,
3. the gradient of one step is that of a naive step: padded rows, eager attention, full logits, float64,
4. all this with the model that was *saved*, read by transformers (and PEFT) without Heron. Under `qlora` the base is read in 4 bits (nf4,
   scales quantised too) on both sides.

"On a CPU" says how many tokens at once are computed: `recorded` is by compiled kernels, in float32 and bfloat16; what cannot be recorded
runs module by module, more slowly, with the same result. The tests ran on a CPU; on a GPU these families have not been run yet.

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A row of the table."""

    name: str
    """As people call it."""
    architecture: str
    """The family's name in transformers' classes."""
    checkpoints: str
    """Examples on the hub."""
    special: str
    """What is special about it, and tested."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the tiny model."""


EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
FAMILIES = (
    Family(
        name="Qwen3", architecture="Qwen3", checkpoints="Qwen/Qwen3-4B, Qwen/Qwen3-4B-Base, Qwen/Qwen3-0.6B",
        special="norms of queries and keys; tied", settings={"tie_word_embeddings": True},
    ),
    Family(
        name="Qwen3 with YaRN", architecture="Qwen3", checkpoints="deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",
        special="rope type yarn, whose key `attn_factor` transformers ignores", settings={"rope_scaling": {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "attn_factor": 0.8782488562869419,
        }},
    ),
    Family(
        name="Qwen2.5", architecture="Qwen2", checkpoints="Qwen/Qwen2.5-3B-Instruct, Qwen/Qwen2.5-7B",
        special="bias of queries, keys and values; tied", settings={"tie_word_embeddings": True},
    ),
    Family(
        name="Llama 3.1", architecture="Llama", checkpoints="meta-llama/Llama-3.1-8B-Instruct", special="rope type llama3",
        settings={"rope_scaling": LLAMA3 | {"factor": 8.0}},
    ),
    Family(
        name="Llama 3.2", architecture="Llama", checkpoints="meta-llama/Llama-3.2-1B, meta-llama/Llama-3.2-3B-Instruct",
        special="rope type llama3; tied", settings={"rope_scaling": LLAMA3 | {"factor": 32.0}, "tie_word_embeddings": True},
    ),
    Family(
        name="Gemma 3", architecture="Gemma3", checkpoints="google/gemma-3-1b-it",
        special="windows in all layers but every sixth (here the last), which turns by another angle; one key head; scaled embedding; tied",
        settings={"sliding_window": 5, "sliding_window_pattern": 3, "num_hidden_layers": 3, "num_key_value_heads": 1,
                  "query_pre_attn_scalar": 16, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "tie_word_embeddings": True},
    ),
    Family(
        name="Gemma 2", architecture="Gemma2", checkpoints="google/gemma-2-2b-it, google/gemma-2-9b",
        special="scores and logits capped; windows in every second layer; scaled embedding; tied",
        settings={"sliding_window": 5, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 4.0, "query_pre_attn_scalar": 16,
                  "tie_word_embeddings": True},
    ),
    Family(
        name="Phi-4", architecture="Phi3", checkpoints="microsoft/phi-4, microsoft/Phi-4-reasoning",
        special="queries, keys and values in one layer, gate and up in another",
    ),
    Family(
        name="Phi-4-mini", architecture="Phi3", checkpoints="microsoft/Phi-4-mini-instruct",
        special="rotates a part of each head; tied; used up to the context before its rope type longrope sets in",
        settings={"partial_rotary_factor": 0.5, "tie_word_embeddings": True, "original_max_position_embeddings": 64, "rope_scaling": {
            "rope_type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 4.0], "original_max_position_embeddings": 64,
        }},
    ),
    Family(
        name="Mistral v0.3", architecture="Mistral", checkpoints="mistralai/Mistral-7B-Instruct-v0.3", special="no window",
        settings={"sliding_window": None},
    ),
    Family(
        name="Mistral v0.1", architecture="Mistral", checkpoints="mistralai/Mistral-7B-v0.1", special="a window in every layer",
        settings={"sliding_window": 5},
    ),
    Family(
        name="Qwen3-MoE", architecture="Qwen3Moe", checkpoints="Qwen/Qwen3-30B-A3B", special="experts, the router's weights normalised",
        settings=EXPERTS | {"num_experts": 4, "norm_topk_prob": True},
    ),
    Family(
        name="Cohere 2", architecture="Cohere2", checkpoints="CohereLabs/c4ai-command-r7b-12-2024",
        special="attention and MLP side by side; windows, and layers without positions; scaled logits; tied",
        settings={"sliding_window": 5, "sliding_window_pattern": 2, "logit_scale": 0.4, "tie_word_embeddings": True},
    ),
    Family(
        name="SmolLM3", architecture="SmolLM3", checkpoints="HuggingFaceTB/SmolLM3-3B", special="layers without positions; tied",
        settings={"no_rope_layers": [1, 0], "tie_word_embeddings": True},
    ),
    Family(
        name="OLMo 2", architecture="Olmo2", checkpoints="allenai/OLMo-2-0425-1B, allenai/OLMo-2-1124-7B-Instruct",
        special="norms behind attention and MLP; norms of whole queries and keys",
    ),
    Family(
        name="gpt-oss", architecture="GptOss", checkpoints="openai/gpt-oss-20b (dequantised to bfloat16)",
        special="attention sinks; windows in every second layer; experts with biases, clamped; rope type yarn",
        settings={"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 5, "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
            "original_max_position_embeddings": 16,
        }},
    ),
    Family(
        name="Granite 3", architecture="Granite", checkpoints="ibm-granite/granite-3.3-2b-instruct",
        special="embedding, residuals, scores and logits scaled; tied",
        settings={"logits_scaling": 2.0, "residual_multiplier": 0.5, "embedding_multiplier": 3.0, "attention_multiplier": 0.3,
                  "tie_word_embeddings": True},
    ),
    Family(
        name="GLM-4", architecture="Glm4", checkpoints="zai-org/GLM-4-9B-0414",
        special="rotates a part of each head, interleaved; norms on both sides",
        settings={"partial_rotary_factor": 0.5, "attention_bias": True},
    ),
    Family(
        name="StarCoder2", architecture="Starcoder2", checkpoints="bigcode/starcoder2-3b",
        special="layer norms and biases; a window in every layer; tied", settings={"sliding_window": 5, "tie_word_embeddings": True},
    ),
    Family(
        name="GPT-NeoX", architecture="GPTNeoX", checkpoints="EleutherAI/pythia-1b",
        special="attention and MLP side by side; queries, keys and values in one layer; rotates a part of each head",
    ),
    Family(
        name="DeepSeek V3", architecture="DeepseekV3", checkpoints="moonshotai/Moonlight-16B-A3B-Instruct",
        special="latent attention, whose values are narrower than its keys; experts in groups",
        settings=EXPERTS | {
            "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8, "v_head_dim": 8, "first_k_dense_replace": 1, "num_key_value_heads": 4,
        },
    ),
)


def save(family: Family, folder: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """A random model of the family, its norms and biases drawn too: ones and zeros would hide that they are left out."""
    return save_model(family.architecture, folder, dtype=dtype, stirred=True, **family.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of a family's checks."""

    family: Family
    cells: dict[str, str]
    """By column."""
    failures: dict[str, str]
    """By column, where a check failed."""


def row_of(family: Family) -> Row:
    """All checks of a family."""
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder, narrow = save(family, scratch / "float32"), save(family, scratch / "bfloat16", dtype=torch.bfloat16)

        def passes(column: str, check: Callable[[], Any]) -> bool:
            try:
                return check() is not False
            except (AssertionError, ModelError, RuntimeError) as error:
                failures[column] = str(error)
                return False

        cells = {
            method: "yes" if passes(method, lambda method=method: check_method(folder, method, scratch / method)) else "no"  # type: ignore[misc]
            for method in METHODS
        }
        cells["on a CPU"] = _recorded(passes("float32", lambda: is_recorded(folder)), passes("bfloat16", lambda: is_recorded(narrow)))
    return Row(family=family, cells=cells, failures=failures)


def _recorded(in_float32: bool, in_bfloat16: bool) -> str:
    if in_float32 and in_bfloat16:
        return "recorded"
    return "recorded in bfloat16" if in_bfloat16 else "recorded in float32" if in_float32 else "module by module"


def rendered(rows: Sequence[Row]) -> str:
    """The page."""
    columns = list(rows[0].cells)
    lines = [["family", "for example", *columns, "what is special, and tested"]]
    lines.append(["---"] * len(lines[0]))
    lines += [[row.family.name, row.family.checkpoints, *row.cells.values(), row.family.special] for row in rows]
    return INTRODUCTION + "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(rendered([row_of(family) for family in FAMILIES]))
