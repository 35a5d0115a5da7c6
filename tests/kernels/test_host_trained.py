"""Norms, rotations and gates of a training step, forward and backward, against formulas in float64 and the modules of transformers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, silu
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm, apply_rotary_pos_emb

from heron.kernels.host.build import built
from heron.kernels.host.rows import Gate
from heron.kernels.host.trained import ROWS, gated, normed, rotated

pytestmark = pytest.mark.skipif(built().code is None, reason=built().reason)

TYPES = (torch.float32, torch.bfloat16)
WIDTHS = (5, 8, 24, 64, 100, 384)
KINDS: tuple[Gate, ...] = ("silu", "gelu_tanh")
EPS = 1e-5

Function = Callable[..., Tensor]


def plain_norm(x: Tensor, weight: Tensor, plus_one: bool) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * (weight + plus_one)


def plain_rotation(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return apply_rotary_pos_emb(x, x, cos, sin)[0]


def plain_gate(gate: Tensor, up: Tensor, kind: Gate) -> Tensor:
    return (silu(gate) if kind == "silu" else gelu(gate, approximate="tanh")) * up


def drawn(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def outcome(function: Function, *inputs: Tensor, dy: Tensor) -> list[Tensor]:
    """What comes out, and the gradients by those inputs that have one."""
    inputs = tuple(each.detach().requires_grad_(each.requires_grad) for each in inputs)
    y = function(*inputs)
    return [y.detach(), *torch.autograd.grad(y, [each for each in inputs if each.requires_grad], dy.to(y.dtype))]


def assert_as_in_double(ours: Function, theirs: Function, *inputs: Tensor, dy: Tensor) -> None:
    """Float within 1e-6 of the largest number; bfloat16 besides within one rounding (gradients), two (what comes out)."""
    exact = outcome(theirs, *(each.detach().double().requires_grad_(each.requires_grad) for each in inputs), dy=dy)
    for index, (mine, true) in enumerate(zip(outcome(ours, *inputs, dy=dy), exact, strict=True)):
        assert mine.dtype is dy.dtype and mine.shape == true.shape
        roundings = (2 if index == 0 else 1) * 2.0**-8 * (dy.dtype is torch.bfloat16)
        largest = true.abs().max() if true.numel() else 0.0
        assert ((mine.double() - true).abs() <= 1e-6 * largest + 1.01 * roundings * true.abs()).all(), f"output {index}"


def assert_near_the_modules(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Of the largest number: 1e-6, or for bfloat16, which the modules round many times, a hundredth."""
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype is other.dtype and mine.shape == other.shape
        bound = 1e-6 if mine.dtype is torch.float32 else 1e-2
        assert (mine.double() - other.double()).abs().max() <= bound * other.double().abs().max()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("is_frozen", [False, True])
def test_gradients_of_norms_are_those_of_the_formula(width: int, plus_one: bool, is_frozen: bool, dtype: torch.dtype) -> None:
    """Over more rows than one block of sums, and a last one that is not full: a lost block is a wrong gradient of the weight."""
    x, dy = 3 * drawn(2, ROWS + 3, width, dtype=dtype), drawn(2, ROWS + 3, width, dtype=dtype, seed=1)
    weight = drawn(width, dtype=dtype, seed=2).requires_grad_(not is_frozen)
    assert_as_in_double(
        lambda x, weight: normed(x, weight, EPS, plus_one),
        lambda x, weight: plain_norm(x, weight, plus_one),
        x.requires_grad_(), weight, dy=dy,
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("module", "plus_one"), [(Qwen3RMSNorm, False), (LlamaRMSNorm, False), (Gemma3RMSNorm, True)])
def test_norms_train_as_the_modules_do(module: type[torch.nn.Module], plus_one: bool, dtype: torch.dtype) -> None:
    norm = module(48, eps=EPS).to(dtype)
    x, dy = drawn(200, 48, dtype=dtype).requires_grad_(), drawn(200, 48, dtype=dtype, seed=1)
    with torch.no_grad():
        norm.weight.copy_(drawn(48, dtype=dtype, seed=2))
    y = norm(x)
    theirs = [y.detach(), *torch.autograd.grad(y, (x, norm.weight), dy)]
    assert_near_the_modules(outcome(lambda x, weight: normed(x, weight, EPS, plus_one), x, norm.weight, dy=dy), theirs)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_gradient_of_a_norm_of_small_numbers_is_ruled_by_eps(dtype: torch.dtype) -> None:
    x, weight, dy = 1e-3 * drawn(9, 24, dtype=dtype), drawn(24, dtype=dtype, seed=1), drawn(9, 24, dtype=dtype, seed=2)
    assert_as_in_double(
        lambda x, weight: normed(x, weight, EPS, False),
        lambda x, weight: plain_norm(x, weight, False),
        x.requires_grad_(), weight.requires_grad_(), dy=dy,
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [2, 6, 8, 24, 64, 100])
@pytest.mark.parametrize("length", [1, 7])
@pytest.mark.parametrize("is_by_head", [False, True])
def test_rotations_are_turned_back(width: int, length: int, is_by_head: bool, dtype: torch.dtype) -> None:
    """A half that takes its sine from the wrong half; and strides, as attention gives them heads first or length first."""
    x = drawn(2, length, 3, width, dtype=dtype).transpose(1, 2)
    dy = drawn(2, 3, length, width, dtype=dtype, seed=1)
    dy = dy if is_by_head else dy.transpose(1, 2).contiguous().transpose(1, 2)
    cos, sin = drawn(2, length, width, dtype=dtype, seed=2), drawn(2, length, width, dtype=dtype, seed=3)
    x.requires_grad_()
    y, dx = outcome(lambda x: rotated(x, cos, sin), x, dy=dy)
    exact_y, exact_dx = outcome(lambda x: plain_rotation(x, cos.double(), sin.double()), x.detach().double().requires_grad_(), dy=dy)
    rounding = 2.0**-8 if dtype is torch.bfloat16 else 0.0
    assert y.dtype is dx.dtype is dtype
    assert ((dx - exact_dx).abs() <= 1e-6 * exact_dx.abs().max() + 1.01 * rounding * exact_dx.abs()).all()
    assert (y - exact_y).abs().max() <= (1e-6 + 2 * rounding) * exact_y.abs().max()
    assert_near_the_modules([y, dx], outcome(lambda x: plain_rotation(x, cos, sin), x, dy=dy))


@pytest.mark.parametrize("dtype", TYPES)
def test_angles_of_one_row_hold_for_the_batch_and_may_have_a_place_for_heads(dtype: torch.dtype) -> None:
    x, dy = drawn(3, 2, 5, 16, dtype=dtype).requires_grad_(), drawn(3, 2, 5, 16, dtype=dtype, seed=1)
    cos, sin = drawn(1, 5, 16, dtype=dtype, seed=2), drawn(1, 5, 16, dtype=dtype, seed=3)
    full = outcome(lambda x: rotated(x, cos.repeat(3, 1, 1), sin.repeat(3, 1, 1)), x, dy=dy)
    for given in ((cos, sin), (cos[:, None], sin[:, None])):
        assert all(map(torch.equal, outcome(lambda x, given=given: rotated(x, *given), x, dy=dy), full))


@pytest.mark.parametrize("dtype", TYPES)
def test_numbers_behind_the_angles_pass_their_gradient_on(dtype: torch.dtype) -> None:
    x, dy = drawn(2, 3, 5, 40, dtype=dtype).requires_grad_(), drawn(2, 3, 5, 40, dtype=dtype, seed=1)
    cos, sin = drawn(2, 5, 20, dtype=dtype, seed=2), drawn(2, 5, 20, dtype=dtype, seed=3)
    y, dx = outcome(lambda x: rotated(x, cos, sin), x, dy=dy)
    assert torch.equal(y[..., 20:], x[..., 20:]) and torch.equal(dx[..., 20:], dy[..., 20:])
    first = outcome(lambda x: rotated(x, cos, sin), x[..., :20], dy=dy[..., :20])
    assert torch.equal(y[..., :20], first[0]) and torch.equal(dx[..., :20], first[1])


def test_there_is_no_gradient_by_angles_and_none_is_lost() -> None:
    cos = torch.ones(1, 5, 16, requires_grad=True)
    with pytest.raises(AssertionError, match="gradient by the angles"):
        rotated(torch.ones(1, 2, 5, 16), cos, cos)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 7, 24), (3, 1500)])
def test_gradients_of_gates_are_those_of_the_formula(shape: tuple[int, ...], kind: Gate, dtype: torch.dtype) -> None:
    gate, up, dy = (3 * drawn(*shape, dtype=dtype, seed=seed) for seed in range(3))
    gate.requires_grad_(), up.requires_grad_()
    assert_as_in_double(lambda gate, up: gated(gate, up, kind), lambda gate, up: plain_gate(gate, up, kind), gate, up, dy=dy)
    mine = outcome(lambda gate, up: gated(gate, up, kind), gate, up, dy=dy)
    assert_near_the_modules(mine, outcome(lambda gate, up: plain_gate(gate, up, kind), gate, up, dy=dy))


@pytest.mark.parametrize("kind", KINDS)
def test_the_slope_of_a_gate_is_right_near_one(kind: Gate) -> None:
    """Where 1 - sigmoid has lost its digits, times x, the slope is wrong by many times a rounding."""
    gate = torch.linspace(-12, 12, 1001).requires_grad_()
    ones = torch.ones(1001)
    _, slope = outcome(lambda gate: gated(gate, ones, kind), gate, dy=ones)
    _, exact = outcome(lambda gate: plain_gate(gate, ones.double(), kind), gate.detach().double().requires_grad_(), dy=ones)
    assert (slope - exact).abs().max() < 3e-7


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_slope_of_a_gate_far_from_zero_is_nought_or_one(kind: Gate, dtype: torch.dtype) -> None:
    """Nought times what has left the range of floats is NaN."""
    gate = torch.tensor([-1e30, -1e4, -200.0, -88.0, 88.0, 200.0, 1e4, 1e30, float("inf")], dtype=dtype, requires_grad=True)
    ones = torch.ones(9, dtype=dtype)
    _, slope = outcome(lambda gate: gated(gate, ones, kind), gate, dy=ones)
    assert (slope[:4].abs() < 1e-30).all() and torch.equal(slope[4:], ones[4:])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_nan_comes_out_as_nan(which: int, dtype: torch.dtype) -> None:
    """Or a run that has broken goes on, as if it were well. What a NaN does not reach by the formula stays what it is."""
    given = [torch.ones(2, 40, dtype=dtype) for _ in range(3)]
    given[which] = torch.full((2, 40), float("nan"), dtype=dtype)
    first, second, dy = given[0].requires_grad_(), given[1].requires_grad_(), given[2]
    for kind in KINDS:
        _, dgate, dup = outcome(lambda gate, up, kind=kind: gated(gate, up, kind), first, second, dy=dy)
        assert dgate.isnan().all() and (dup.isnan().all() or which == 1)
    _, dx, dweight = outcome(lambda x, weight: normed(x, weight, EPS, False), first, second[0], dy=dy)
    assert dx.isnan().all() and (dweight.isnan().all() or which == 1)
    angles = given[1].detach()[None]
    _, dx = outcome(lambda x: rotated(x[None, None], angles, angles), first, dy=dy[None, None])
    assert dx.isnan().all() or which == 0


@pytest.mark.parametrize("dtype", TYPES)
def test_gradients_are_the_same_however_many_threads(dtype: torch.dtype) -> None:
    """A sum of a weight's gradient that is cut by threads makes a run depend on the machine."""
    x, dy = drawn(1, 700, 6, 64, dtype=dtype).requires_grad_(), drawn(1, 700, 6, 64, dtype=dtype, seed=1)
    weight, angles = drawn(64, dtype=dtype, seed=2).requires_grad_(), drawn(1, 700, 64, dtype=dtype, seed=3)

    def all_outcomes() -> list[Tensor]:
        return [
            *outcome(lambda x, weight: normed(x, weight, EPS, False), x, weight, dy=dy),
            *outcome(lambda x: rotated(x.transpose(1, 2), angles, angles), x, dy=dy.transpose(1, 2)),
            *outcome(lambda gate, up: gated(gate, up, "silu"), x, dy.detach().requires_grad_(), dy=dy),
        ]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = all_outcomes()
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert all(map(torch.equal, all_outcomes(), alone))
    finally:
        torch.set_num_threads(before)


def test_an_empty_batch_has_gradients_of_nought() -> None:
    x, weight = torch.empty(0, 24, requires_grad=True), torch.ones(24, requires_grad=True)
    _, dx, dweight = outcome(lambda x, weight: normed(x, weight, EPS, False), x, weight, dy=torch.empty(0, 24))
    assert dx.shape == x.shape and torch.equal(dweight, torch.zeros(24))
    _, dgate, dup = outcome(lambda gate, up: gated(gate, up, "silu"), x, x.detach().requires_grad_(), dy=torch.empty(0, 24))
    assert dgate.shape == dup.shape == x.shape
    heads, angles = torch.empty(0, 2, 5, 8, requires_grad=True), torch.ones(1, 5, 8)
    _, dx = outcome(lambda x: rotated(x, angles, angles), heads, dy=torch.empty(0, 2, 5, 8))
    assert dx.shape == heads.shape


@pytest.mark.parametrize("dtype", TYPES)
def test_tensors_may_lie_anyhow(dtype: torch.dtype) -> None:
    """A stride that is not looked at reads the wrong numbers: columns, every second row, and the one number of an expanded gradient."""
    wide = drawn(24, 2, 60, dtype=dtype)
    x, dy = wide.transpose(0, 2)[::2], torch.ones(1, dtype=dtype).expand(30, 2, 24)
    weight, angles = drawn(24, dtype=dtype, seed=1), drawn(1, 2, 48, dtype=dtype, seed=2)[..., ::2]
    functions: list[Function] = [
        lambda x: normed(x, weight, EPS, True),
        lambda x: gated(x, x.flip(0), "silu"),
        lambda x: rotated(x[None], angles, angles),
    ]
    for function in functions:
        copied = outcome(function, x.contiguous().requires_grad_(), dy=dy.contiguous().view(function(x).shape))
        found = outcome(function, x.detach().requires_grad_(), dy=dy.expand(function(x).shape))
        assert all(map(torch.equal, found, copied))


def test_nothing_is_saved_where_nothing_is_trained() -> None:
    """An engine that samples by the trainer's modules would keep the memory of a training step."""
    x, weight, angles = torch.randn(1, 2, 5, 8), torch.ones(8), torch.ones(1, 5, 8)

    def forward(x: Tensor, weight: Tensor) -> list[Tensor]:
        return [normed(x, weight, EPS, False), rotated(x, angles, angles), gated(x, x, "gelu_tanh")]

    plain = forward(x, weight)
    assert not any(y.requires_grad for y in plain)
    x.requires_grad_(), weight.requires_grad_()
    with torch.no_grad():
        assert not any(y.requires_grad for y in forward(x, weight))
    with torch.inference_mode():
        assert all(map(torch.equal, forward(x.clone(), weight), plain))
    assert all(y.requires_grad and torch.equal(y, other) for y, other in zip(forward(x, weight), plain, strict=True))
