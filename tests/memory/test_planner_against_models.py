"""The plan against real random models: weights, adapters and the tensors that autograd keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from tinymodels import load_tiny, save_tiny

from heron.engine.native.engine import CHUNK
from heron.engine.native.pages import PAGE
from heron.kernels import attention, packed
from heron.kernels.attention import packed_plan
from heron.kernels.host.build import built
from heron.kernels.logprobs_at_once import LEAST_ROWS
from heron.kernels.logprobs_tiles import CPU_TILE_BYTES, CUDA_TILE_BYTES, MAX_WORDS
from heron.kernels.packed import GRID_STEP
from heron.memory import job, planner, read_shape, sampled, trained
from heron.memory.activations import Layer
from heron.models.lean import keep_no_copies
from heron.models.recording import WORTH_TOKENS, WORTH_TOKENS_PER_LAYER

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
    ("Cohere", {}),
    ("Cohere2", {"attention_bias": True}),
    ("SmolLM3", {}),
    ("Olmo2", {}),
    ("Granite", {"tie_word_embeddings": True}),
    ("Glm4", {"head_dim": 32}),
    ("Glm4", {"head_dim": 32, "attention_bias": True}),
    ("Qwen3Moe", {"num_experts": 8, "moe_intermediate_size": 48, "num_experts_per_tok": 2, "head_dim": 32}),
    ("GptOss", {"num_local_experts": 4, "head_dim": 32, "num_experts_per_tok": 2}),
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
    shape = read_shape(model.config.to_dict() if "Moe" in family else model.config.to_diff_dict())
    assert shape.is_exact
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert shape.adapter_parameters(4, ()) == trained


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3", "Mistral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("targets", [None, ("q_proj", "v_proj"), ()])
def test_saved_activations_are_those_of_autograd(family: str, dtype: torch.dtype, targets: tuple[str, ...] | None) -> None:
    """Prevents: a plan that forgets a tensor, or counts float32 copies that adapters on a 16-bit base do not keep."""
    shape = read_shape(build(family, {}).config.to_dict())
    adapted = None if targets is None else shape.targets(targets)
    layer = Layer(
        shape=shape, element=dtype.itemsize, rank=None if targets is None else 4, targets=tuple(adapted or ()), shares_prompt=False
    )
    two, three = (saved_bytes(family, layers, dtype, adapted) for layers in (2, 3))
    assert layer.saved == three - two


@pytest.mark.skipif(built().code is None, reason="needs a C compiler")
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_recording_saves_what_was_planned(kind: str, dtype: torch.dtype, method: str, tmp_path: Path) -> None:
    """Prevents: a plan of modules for a CPU that runs a recording, which keeps a third less."""
    sizes = {"hidden_size": 64, "intermediate_size": 224, "dtype": dtype}
    kept = []
    for layers in (2, 3):
        folder = save_tiny(kind, tmp_path / str(layers), num_hidden_layers=layers, **sizes)
        policy = load_tiny(folder, method=method, lora_rank=4) if method == "lora" else load_tiny(folder)
        replay = policy.recorder.replay()
        assert replay is not None
        kept.append(bytes_kept(policy.model, lambda *inputs, replay=replay: replay(*inputs)))
    shape = read_shape(policy.text_config.to_dict())
    rank, targets = (4, tuple(shape.linears)) if method == "lora" else (None, ())
    layer = Layer(shape=shape, element=dtype.itemsize, rank=rank, targets=targets, is_recorded=True, shares_prompt=False)
    assert layer.saved == kept[1] - kept[0]


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
        keep_no_copies(model)
    decoder = base.get_decoder()
    return bytes_kept(
        model, lambda ids, positions, plan: decoder(input_ids=ids, position_ids=positions, use_cache=False, plan=plan), tokens
    )


def bytes_kept(model: Any, forward: Callable[..., Any], tokens: int = 2 * GRID_STEP) -> float:
    """Bytes per token that autograd keeps in `forward(token_ids, positions, plan)`, the model's weights aside."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    numbers = torch.arange(tokens)[None]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward(numbers, numbers, packed_plan([range(tokens)], device=torch.device("cpu")))
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights) / tokens


def test_the_planned_tile_is_the_kernels_own() -> None:
    """Prevents: a default that drifts from the kernel, whose numbers the planner cannot import without torch."""
    assert (planner.CPU_TILE_BYTES, planner.CUDA_TILE_BYTES) == (CPU_TILE_BYTES, CUDA_TILE_BYTES)
    assert (trained.FORESEEN_ROWS, trained.MAX_WORDS) == (LEAST_ROWS, MAX_WORDS)


def test_the_planner_knows_the_other_numbers_of_engine_and_recorder() -> None:
    """Prevents: a page or a threshold that drifts from the one that is used."""
    assert (sampled.PAGE, sampled.CHUNK) == (PAGE, CHUNK)
    assert (job.WORTH_TOKENS, job.WORTH_TOKENS_PER_LAYER) == (WORTH_TOKENS, WORTH_TOKENS_PER_LAYER)
    assert job.SPAN_PAIRS == packed.SPAN_PAIRS


def test_the_planner_loads_no_torch() -> None:
    """Prevents: a plan that takes seconds, or that needs what it is to plan for."""
    import subprocess
    import sys

    code = "import sys, heron.memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
