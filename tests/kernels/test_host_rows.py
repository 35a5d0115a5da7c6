"""Norms, rotations and gates in C against the modules of transformers and torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, silu
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm, apply_rotary_pos_emb

from heron.kernels.host.build import built
from heron.kernels.host.rows import Gate, gated, rms_norm, rotate

pytestmark = [pytest.mark.skipif(built().code is None, reason=built().reason), pytest.mark.usefixtures("without_gradients")]

TYPES = (torch.float32, torch.bfloat16)
NORMS = [(Qwen3RMSNorm, False), (LlamaRMSNorm, False), (Gemma3RMSNorm, True)]
ACTIVATIONS = {"silu": silu, "gelu_tanh": partial(gelu, approximate="tanh")}
NAN_OF_ONES = {torch.float32: (torch.int32, 0x7FFFFFFF), torch.bfloat16: (torch.int16, 0x7FFF)}
"""Adding to its bits, as rounding and powers of two do, would carry into the sign."""


@pytest.fixture
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def drawn(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def nan_of_ones(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    whole, bits = NAN_OF_ONES[dtype]
    return torch.full(shape, bits, dtype=whole).view(dtype)


def assert_near(ours: Tensor, theirs: Tensor, ulps: int = 1) -> None:
    """Within 2e-7 of the largest; in bfloat16 so many roundings more at most, and hardly ever one."""
    assert ours.dtype is theirs.dtype and ours.shape == theirs.shape
    ours, theirs, is_bf16 = ours.double(), theirs.double(), ours.dtype is torch.bfloat16
    beyond = (ours - theirs).abs() - 2e-7 * theirs.abs().max()
    assert (beyond <= is_bf16 * ulps * 2.0**-7 * theirs.abs()).all()
    assert (beyond > 0).double().mean() < 0.01


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("module", "plus_one"), NORMS)
@pytest.mark.parametrize("width", [1, 5, 16, 24, 64, 127, 384, 1024])
def test_norms_are_those_of_the_models(width: int, module: type[torch.nn.Module], plus_one: bool, dtype: torch.dtype) -> None:
    """Gemma rounds once, after the weight; the others before it and after it: as many bits apart as a wrong gradient."""
    norm = module(width, eps=1e-5).to(dtype)
    norm.weight.copy_(drawn(width, dtype=dtype, seed=1))
    x = 3 * drawn(7, 3, width, dtype=dtype)
    assert_near(rms_norm(x, norm.weight, 1e-5, plus_one), norm(x), ulps=2)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_norm_of_small_numbers_is_ruled_by_eps(dtype: torch.dtype) -> None:
    norm = Qwen3RMSNorm(48, eps=1e-2).to(dtype)
    x = 1e-3 * drawn(4, 48, dtype=dtype)
    assert_near(rms_norm(x, norm.weight, 1e-2, False), norm(x), ulps=2)
    assert not rms_norm(torch.zeros_like(x), norm.weight, 1e-2, False).any()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [2, 8, 24, 64, 80, 128])
def test_rotations_are_those_of_the_models(width: int, dtype: torch.dtype) -> None:
    x, cos, sin = drawn(5, 3, width, dtype=dtype), drawn(5, width, dtype=dtype, seed=1), drawn(5, width, dtype=dtype, seed=2)
    theirs, _ = apply_rotary_pos_emb(x[:, :, None], x[:, :, None], cos[:, None], sin[:, None])
    ours = rotate(x, cos, sin)
    assert_near(ours, theirs[:, :, 0])
    assert dtype is torch.float32 or torch.equal(ours, theirs[:, :, 0]), "each number is rounded where torch rounds it"


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("width", "turned"), [(64, 32), (80, 20), (10, 6), (8, 0)])
def test_numbers_behind_the_angles_stay_and_the_halves_are_those_of_the_angles(width: int, turned: int, dtype: torch.dtype) -> None:
    x, cos, sin = drawn(3, 2, width, dtype=dtype), drawn(3, turned, dtype=dtype, seed=1), drawn(3, turned, dtype=dtype, seed=2)
    y = rotate(x, cos, sin)
    assert torch.equal(y[..., turned:], x[..., turned:])
    assert torch.equal(y[..., :turned], rotate(x[..., :turned].contiguous(), cos, sin))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["silu", "gelu_tanh"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 1, 960), (5, 4001)])
def test_gates_are_those_of_torch(shape: tuple[int, ...], kind: Gate, dtype: torch.dtype) -> None:
    gate, up = 4 * drawn(*shape, dtype=dtype), drawn(*shape, dtype=dtype, seed=1)
    assert_near(gated(gate, up, kind), ACTIVATIONS[kind](gate) * up, ulps=2)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["silu", "gelu_tanh"])
def test_a_gate_far_from_zero_is_open_or_shut(kind: Gate, dtype: torch.dtype) -> None:
    """A power of two that leaves the range of floats comes out as any number."""
    gate = torch.tensor([-1e30, -1e4, -200.0, -100.0, -88.0, 88.0, 100.0, 200.0, 1e4, 1e30], dtype=dtype)
    y = gated(gate, torch.ones_like(gate), kind)
    assert torch.equal(y[5:], gate[5:]) and (y[1:5].abs() < 1e-30).all() and y[0].abs() < 1e-7
    assert gated(torch.tensor([float("inf")], dtype=dtype), torch.ones(1, dtype=dtype), kind).isinf().all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("nan", [lambda shape, dtype: torch.full(shape, float("nan"), dtype=dtype), nan_of_ones])
def test_nan_comes_out_as_nan(nan, dtype: torch.dtype) -> None:
    """Or a broken model samples on, as if it were well."""
    x, ones = nan((2, 40), dtype), torch.ones(2, 40, dtype=dtype)
    assert gated(x, ones, "silu").isnan().all() and gated(x, ones, "gelu_tanh").isnan().all() and gated(ones, x, "silu").isnan().all()
    assert rotate(x[:, None], ones, ones).isnan().all() and rotate(ones[:, None], x, x).isnan().all()
    assert rms_norm(x, ones[0], 1e-6, False).isnan().all() and rms_norm(ones, x[0], 1e-6, True).isnan().all()


@pytest.mark.parametrize("dtype", TYPES)
def test_a_row_is_the_same_whatever_else_is_in_the_batch_and_however_many_threads(dtype: torch.dtype) -> None:
    x, weight = drawn(160, 1040, dtype=dtype), drawn(1040, dtype=dtype, seed=1)
    heads, angles = x.view(160, 13, 80), drawn(160, 80, dtype=dtype, seed=2)
    alone = (
        torch.cat([rms_norm(row[None], weight, 1e-6, False) for row in x]),
        torch.cat([rotate(heads[row, None], angles[row, None], angles[row, None]) for row in range(160)]),
        torch.cat([gated(row[None], row[None], "silu") for row in x]),
    )
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            together = rms_norm(x, weight, 1e-6, False), rotate(heads, angles, angles), gated(x, x, "silu")
            assert all(map(torch.equal, together, alone))
    finally:
        torch.set_num_threads(before)


def test_tensors_that_do_not_fit_together_are_refused() -> None:
    """C would read past their ends, or others' numbers."""
    x = drawn(2, 4, 8, dtype=torch.float32)
    for wrong in (
        lambda: rms_norm(x, torch.ones(4), 1e-6, False),
        lambda: rotate(x, torch.ones(2, 16), torch.ones(2, 16)),
        lambda: rotate(x, torch.ones(1, 8), torch.ones(1, 8)),
        lambda: rotate(x, torch.ones(2, 3), torch.ones(2, 3)),
        lambda: gated(x, x[:1], "silu"),
        lambda: gated(x, x.bfloat16(), "silu"),
        lambda: gated(x.mT, x.mT, "silu"),
        lambda: rms_norm(x, torch.ones(8).bfloat16(), 1e-6, False),
        lambda: rms_norm(x[..., ::2], torch.ones(4), 1e-6, False),
        lambda: rotate(x, torch.ones(2, 8).bfloat16(), torch.ones(2, 8)),
        lambda: rotate(x.transpose(0, 1), torch.ones(4, 8), torch.ones(4, 8)),
    ):
        with pytest.raises(AssertionError):
            wrong()
