"""The plan against real random models: weights, adapters and the tensors that autograd keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from heron.kernels import attention
from heron.kernels.attention import packed_plan
from heron.kernels.logprobs_at_once import LEAST_ROWS
from heron.kernels.logprobs_tiles import CPU_TILE_BYTES, CUDA_TILE_BYTES
from heron.kernels.packed import GRID_STEP
from heron.memory import planner, read_shape
from heron.memory.activations import saved_per_layer

SIZES: dict[str, Any] = {
    "vocab_size": 160,
    "hidden_size": 64,
    "intermediate_size": 224,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
FAMILIES = [
    ("Llama", {}),
    ("Llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("Mistral", {}),
    ("Qwen2", {}),
    ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    ("Qwen3", {"attention_bias": True}),
    ("Gemma", {"head_dim": 32}),
    ("Gemma2", {"head_dim": 32}),
    ("Gemma3Text", {"head_dim": 32}),
    ("Phi3", {}),
]
MODEL_NAMES = {"Gemma3Text": "Gemma3ForCausalLM"}


def build(family: str, options: dict[str, Any], device: str = "meta") -> Any:
    config = getattr(transformers, f"{family}Config")(**SIZES | options)
    with torch.device(device):
        return getattr(transformers, MODEL_NAMES.get(family, f"{family}ForCausalLM"))(config)


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_weights_and_adapters_are_counted_exactly(family: str, options: dict[str, Any]) -> None:
    """Prevents: a forgotten bias, norm or tied head; what config.json leaves out counts with the family's default."""
    model = build(family, options)
    shape = read_shape(model.config.to_diff_dict())
    assert shape.is_exact
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert shape.adapter_parameters(4, ()) == trained


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3", "Mistral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("targets", [None, ("q_proj", "v_proj"), ()])
def test_saved_activations_are_those_of_autograd(family: str, dtype: torch.dtype, targets: tuple[str, ...] | None) -> None:
    """Prevents: a plan that forgets a tensor, such as the float32 copies that adapters make on a 16-bit base."""
    shape = read_shape(build(family, {}).config.to_dict())
    adapted = None if targets is None else shape.targets(targets)
    planned = saved_per_layer(shape, dtype.itemsize, rank=None if targets is None else 4, targets=adapted or ())
    two, three = (saved_bytes(family, layers, dtype, adapted) for layers in (2, 3))
    assert planned == three - two


def saved_bytes(family: str, layers: int, dtype: torch.dtype, targets: Any, tokens: int = 2 * GRID_STEP) -> float:
    """Bytes per token that autograd keeps in a forward pass, weights aside; of a row that needs no padding."""
    attention.register()
    model = build(family, {"num_hidden_layers": layers, "layer_types": None}, device="cpu").to(dtype)
    model.set_attn_implementation(attention.NAME)
    base = model
    if targets is not None:
        model = get_peft_model(model, LoraConfig(r=4, target_modules=list(targets), task_type="CAUSAL_LM"))
        for weight in model.parameters():
            weight.data = weight.data.float() if weight.requires_grad else weight.data
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    plan = packed_plan([range(tokens)], device=torch.device("cpu"))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        base.get_decoder()(input_ids=torch.arange(tokens)[None], position_ids=torch.arange(tokens)[None], use_cache=False, plan=plan)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights) / tokens


def test_the_planned_tile_is_the_kernels_own() -> None:
    """Prevents: a default that drifts from the kernel, whose numbers the planner cannot import without torch."""
    assert (planner.CPU_TILE_BYTES, planner.CUDA_TILE_BYTES, planner.FORESEEN_ROWS) == (CPU_TILE_BYTES, CUDA_TILE_BYTES, LEAST_ROWS)


def test_the_planner_loads_no_torch() -> None:
    """Prevents: a plan that takes seconds, or that needs what it is to plan for."""
    import subprocess
    import sys

    code = "import sys, heron.memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
