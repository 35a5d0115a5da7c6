"""MLPs over some tokens at a time: the gradient of all at once, and no memory between."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from naive import difference, heron_gradient
from tinymodels import load_tiny, ragged_groups, stir_adapter
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from heron.config.objective import ObjectiveConfig
from heron.errors import ModelError
from heron.kernels.offload import checkpointed
from heron.kernels.tiled import Tiled, tile

TILE = 7
TOLERANCE = 1e-6


class GatedMLP(nn.Module):
    """As most families have it."""

    def __init__(self, width: int = 8, between: int = 24) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate_proj, self.up_proj = nn.Linear(width, between), nn.Linear(width, between)
        self.down_proj = nn.Linear(between, width)
        self.calls: list[int] = []

    def forward(self, hidden: Tensor) -> Tensor:
        self.calls.append(hidden[..., 0].numel())
        return self.down_proj(nn.functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden))


class Layer(nn.Module):
    """A decoder layer without attention."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.mlp = GatedMLP(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.mlp(self.norm(hidden))


def pair(size: int = TILE) -> tuple[Layer, Layer]:
    """Plain, and tiled."""
    plain = Layer()
    tiled = copy.deepcopy(plain)
    assert tile(tiled, size) == 1
    return plain, tiled


def gradients(layer: Layer, hidden: Tensor) -> list[Tensor]:
    hidden = hidden.clone().requires_grad_()
    out = layer(hidden)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), [hidden, *layer.parameters()])]


@pytest.mark.parametrize("tokens", [1, TILE - 1, TILE, TILE + 1, 3 * TILE, 30])
def test_values_and_gradients_are_those_of_all_tokens_at_once(tokens: int) -> None:
    """Prevents: a last tile that is dropped or padded, a gradient that counts one tile alone, side effects on `.grad`."""
    plain, tiled = pair()
    hidden = torch.randn(1, tokens, 8)
    for ours, theirs in zip(gradients(tiled, hidden), gradients(plain, hidden), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert all(weight.grad is None for weight in tiled.parameters())
    assert max(tiled.mlp.calls) <= TILE


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("kind", ["qwen3", "gemma2"])
def test_the_gradient_of_a_step_is_the_same(tiny_folder: Callable[[str], Path], kind: str, method: str, checkpoints: bool) -> None:
    """Prevents: weights or adapters without their gradient, under checkpointing too, and where a norm follows the MLP."""
    found = []
    for size in (0, TILE):
        torch.manual_seed(0)
        policy = load_tiny(tiny_folder(kind), method=method, lora_rank=4, gradient_checkpointing=checkpoints, tiled_mlp=size)
        stir_adapter(policy)
        policy.model.train()
        found.append(heron_gradient(policy, ragged_groups(3), ObjectiveConfig(), budget=60)[0])
    assert difference(found[1], found[0]) < TOLERANCE


def test_names_and_copies_are_as_before(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a checkpoint or an adapter with other names, and a copy that computes with the weights of the model it was made from."""
    plain, tiled = (load_tiny(tiny_folder("qwen3"), tiled_mlp=size) for size in (0, TILE))
    assert list(plain.model.state_dict()) == list(tiled.model.state_dict())
    layer = pair()[1]
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        layer.mlp.down_proj.weight.zero_()
    assert not torch.equal(twin(torch.ones(20, 8)), layer(torch.ones(20, 8)))


def test_nothing_between_input_and_output_is_kept() -> None:
    """Prevents: tiles whose intermediates stay until the backward pass."""
    plain, tiled = pair()
    hidden = torch.randn(64, 8, requires_grad=True)
    kept = [_saved(layer.mlp, hidden) for layer in (plain, tiled)]
    assert kept[1] == hidden.nbytes < kept[0] / 5


@pytest.mark.parametrize(("kind", "norms"), [("qwen3", 9), ("llama", 5), ("gemma3", 13), ("cohere", 3)])
def test_norms_are_tiled_too(tiny_folder: Callable[[str], Path], kind: str, norms: int) -> None:
    """Prevents: float32 copies of every token in every norm, once MLPs keep nothing."""
    policy = load_tiny(tiny_folder(kind), tiled_mlp=TILE)
    found = [module for name, module in policy.model.named_modules() if "norm" in name]
    assert sum(isinstance(module.__dict__.get("forward"), Tiled) for module in found) == norms


@pytest.mark.parametrize("shape", [(1, 40, 16), (1, 40, 4, 16), (2, 20, 16), (40, 16)])
def test_a_norm_of_16_bits_keeps_its_input_alone(shape: tuple[int, ...]) -> None:
    """Prevents: heads of a token that are cut apart, and what a norm computes in between kept."""
    norm = Qwen3RMSNorm(16).bfloat16()
    hidden = torch.randn(shape).bfloat16().requires_grad_()
    (expected,) = torch.autograd.grad(norm(hidden).float().square().sum(), hidden)
    plain = _saved(norm, hidden)
    norm.forward = Tiled(norm, TILE)  # type: ignore[method-assign]
    assert _saved(norm, hidden) == hidden.nbytes < plain / 2
    assert torch.equal(torch.autograd.grad(norm(hidden).float().square().sum(), hidden)[0], expected)


def _saved(module: nn.Module, hidden: Tensor) -> int:
    """Bytes of activations that a graph keeps."""
    weights = {weight.data_ptr() for weight in module.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            sizes[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        graph = module(hidden)
    assert graph.requires_grad
    return sum(sizes.values())


def test_checkpointing_computes_a_tile_twice_and_not_three_times() -> None:
    """Prevents: a layer that recomputes its tiles only to recompute them again."""
    _, tiled = pair()
    checkpointed(tiled, torch.randn(3 * TILE, 8, requires_grad=True)).sum().backward()
    assert tiled.mlp.calls == [TILE] * 6


def test_sampling_sees_the_plain_module() -> None:
    """Prevents: a recording or a sampler that runs in tiles; a pass without gradients in training mode does, and is the same."""
    plain, tiled = pair()
    hidden = torch.randn(30, 8)
    with torch.no_grad():
        torch.testing.assert_close(tiled(hidden), plain(hidden))
        assert tiled.mlp.calls == [TILE, TILE, TILE, TILE, 2]
        tiled.eval()
        assert torch.equal(tiled(hidden), plain(hidden))
        assert tiled.mlp.calls[-1] == 30


def test_gradients_of_many_tiles_are_rounded_once() -> None:
    """Prevents: sums over tiles in bfloat16, which lose what every later tile adds."""
    plain, tiled = (layer.bfloat16() for layer in pair(1))
    exact = copy.deepcopy(plain).float()
    hidden = torch.randn(1024, 8).bfloat16()
    found = [gradients(layer, hidden.to(layer.norm.weight.dtype))[2:-2] for layer in (plain, tiled, exact)]
    errors = [sum(float((part.float() - truth).square().sum()) for part, truth in zip(one, found[2], strict=True)) for one in found[:2]]
    assert errors[1] < 2 * errors[0]


class Experts(GatedMLP):
    """A mixture, whose router looks at tokens, and whose experts may look at all."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 2)


class Fused(GatedMLP):
    """Weights that are no linear layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(2, 8, 8))


class WithResidual(GatedMLP):
    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:  # type: ignore[override]
        return residual


@pytest.mark.parametrize("kind", [Experts, Fused, WithResidual])
def test_what_is_not_token_wise_is_left_alone_and_nothing_to_tile_is_an_error(kind: type[GatedMLP]) -> None:
    """Prevents: a router that counts tiles, and a setting that does nothing."""
    layers = nn.ModuleList([Layer(), Layer()])
    layers[0].mlp = kind()
    assert tile(layers, TILE) == 1
    assert "forward" not in vars(layers[0].mlp)
    with pytest.raises(ModelError, match="Leave it out"):
        tile(layers[:1], TILE)
