"""`selected_logprobs` against `log_softmax` on the full logits: values, gradients, memory, work.

Tests that take `epilogue` hold for torch and for the Triton kernels; `test_triton_logprobs` runs the latter under Triton's interpreter.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from heron.kernels import logprobs_tiles
from heron.kernels.logprobs import EpilogueName, selected_logprobs

N, D, V = 13, 6, 37
TILE = 4 * 8 * 5
"""Bytes of a tile of a few tokens by a few words: every loop runs several times, and no border fits."""
CAN_INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(params=["torch", "triton"] if CAN_INTERPRET else ["torch"])
def epilogue(request: pytest.FixtureRequest) -> EpilogueName:
    name: EpilogueName = request.param
    return name


def naive(
    hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None = None,
    *, scale: float = 1.0, softcap: float | None = None, temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The reference holds everything."""
    z = hidden @ head.T
    z = (z if bias is None else z + bias) * scale
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    logp = (z / temperature).log_softmax(-1)
    return logp.gather(-1, targets[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


def inputs(dtype: torch.dtype, *, with_bias: bool, size: tuple[int, int, int] = (N, D, V)) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    n, d, v = size
    hidden = torch.randn(n, d, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    head = torch.randn(v, d, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    bias = torch.randn(v, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() if with_bias else None
    return hidden, head, torch.randint(v, (n,), generator=generator), bias


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Relative, in the Euclidean norm."""
    return float((ours.double() - theirs).norm() / theirs.norm())


SETTINGS = [
    {"scale": 1.0, "softcap": None, "temperature": 1.0},
    {"scale": 0.25, "softcap": None, "temperature": 1.0},
    {"scale": 1.0, "softcap": None, "temperature": 0.6},
    {"scale": 1.0, "softcap": 2.0, "temperature": 1.0},
    {"scale": 1.7, "softcap": 3.0, "temperature": 0.8},
]
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "of log-probs": lambda logp, entropy: logp @ torch.linspace(-1, 2, N, dtype=logp.dtype),
    "of entropies": lambda logp, entropy: entropy @ torch.linspace(2, -1, N, dtype=logp.dtype),
    "of both": lambda logp, entropy: ((logp - 0.3 * entropy).square() + torch.exp(logp)).sum(),
}


@pytest.mark.parametrize("tile_bytes", [TILE, None])
@pytest.mark.parametrize("trained", ["hidden", "head bias"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_values_and_gradients(
    settings: dict[str, Any], loss: str, trained: str, tile_bytes: int | None, epilogue: EpilogueName
) -> None:
    """Prevents: a scale, cap, bias or temperature that one pass forgets, a tile's border that loses words or tokens, and a gradient
    through the entropy that is missing, or wrong when the head is frozen or trained."""
    hidden, head, targets, bias = inputs(torch.float64, with_bias=True)
    assert bias is not None
    leaves = [tensor.requires_grad_(name in trained.split()) for name, tensor in (("hidden", hidden), ("head", head), ("bias", bias))]
    wanted = [tensor for tensor in leaves if tensor.requires_grad]
    expected = naive(hidden, head, targets, bias, **settings)
    found = selected_logprobs(hidden, head, targets, bias=bias, entropy=True, tile_bytes=tile_bytes, epilogue=epilogue, **settings)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    theirs_grad = torch.autograd.grad(LOSSES[loss](*expected), wanted)
    for ours, theirs in zip(torch.autograd.grad(LOSSES[loss](*found), wanted), theirs_grad, strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("tile_bytes", [1, 4, 8, 100, 4 * 200, 4 * V * N])
def test_results_do_not_depend_on_the_tile(tile_bytes: int) -> None:
    """Prevents: a budget below one row, or one cell, that makes tiles of nothing; and a border that loses words or tokens."""
    hidden, head, targets, bias = inputs(torch.float64, with_bias=True)
    leaves = [hidden, head, bias]
    runs = [selected_logprobs(hidden, head, targets, bias=bias, entropy=True, tile_bytes=size) for size in (tile_bytes, 2**20)]
    grads = [torch.autograd.grad((logp * logp + entropy).sum(), leaves) for logp, entropy in runs]  # type: ignore[operator, arg-type]
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("is_frozen", [False, True])
def test_gradcheck(settings: dict[str, Any], is_frozen: bool) -> None:
    """Prevents: a hand-written backward pass that only agrees with itself; and one that cannot be run twice (gradcheck does)."""
    hidden, head, targets, bias = inputs(torch.float64, with_bias=True, size=(5, 3, 7))
    leaves, frozen = ((hidden,), (head.detach(), None)) if is_frozen else ((hidden, head, bias), ())

    def run(*trained: Tensor) -> Any:
        h, w, b = (*trained, *frozen)
        return selected_logprobs(h, w, targets, bias=b, entropy=True, tile_bytes=40, **settings)

    torch.autograd.gradcheck(run, leaves)


def test_gradient_is_the_same_the_second_time() -> None:
    """Prevents: a buffer that is overwritten by the first of two backward passes through one graph."""
    hidden, head, targets, _ = inputs(torch.float64, with_bias=False)
    logp, _ = selected_logprobs(hidden, head.detach(), targets)
    loss = (logp * torch.arange(N)).sum()
    first = torch.autograd.grad(loss, hidden, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(loss, hidden)[0], first, rtol=0, atol=0)


def test_second_derivative_is_refused() -> None:
    """Prevents: second derivatives that silently leave out the softmax's own."""
    hidden, head, targets, _ = inputs(torch.float64, with_bias=False)
    logp, _ = selected_logprobs(hidden, head.detach(), targets)
    (grad,) = torch.autograd.grad(logp.square().sum(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("wanting", [(True, False), (False, True), (True, True)])
def test_gradient_only_where_it_is_wanted(wanting: tuple[bool, bool]) -> None:
    """A frozen head (LoRA) gets no gradient, and none is computed for it."""
    hidden, head, targets, _ = inputs(torch.float32, with_bias=False)
    hidden.requires_grad_(wanting[0])
    head.requires_grad_(wanting[1])
    selected_logprobs(hidden, head, targets)[0].sum().backward()
    assert (hidden.grad is not None, head.grad is not None) == wanting


def test_no_tokens(epilogue: EpilogueName) -> None:
    """A micro-batch without trained tokens must not crash."""
    hidden, head, _, bias = inputs(torch.float32, with_bias=True)
    logp, entropy = selected_logprobs(
        hidden[:0], head, torch.empty(0, dtype=torch.int64), bias=bias, entropy=True, epilogue=epilogue
    )
    assert entropy is not None
    assert logp.shape == entropy.shape == (0,)
    (logp.sum() + entropy.sum()).backward()
    assert head.grad is not None
    assert not head.grad.any()


def test_extreme_logits_stay_finite(epilogue: EpilogueName) -> None:
    """Prevents: overflow in a softmax without its maximum taken out, and 0 * inf in the entropy."""
    hidden = torch.tensor([[300.0], [-300.0]], requires_grad=True)
    head = torch.tensor([[1.0], [-1.0], [0.5]])
    logp, entropy = selected_logprobs(hidden, head, torch.tensor([1, 1]), entropy=True, tile_bytes=4, epilogue=epilogue)
    assert entropy is not None
    (logp.sum() + entropy.sum()).backward()
    assert torch.isfinite(logp).all()
    assert torch.isfinite(entropy).all()
    assert torch.isfinite(hidden.grad).all()  # type: ignore[arg-type]
    assert logp.tolist() == [-600.0, 0.0]


@pytest.mark.parametrize("tile_bytes", [TILE, None])
def test_words_that_a_bias_forbids(tile_bytes: int | None, epilogue: EpilogueName) -> None:
    """Prevents: NaN from `0 * -inf` when a bias of minus infinity takes words out, a whole tile of them included."""
    hidden, head, _, bias = inputs(torch.float32, with_bias=True)
    assert bias is not None
    allowed = torch.arange(14, V)
    masked = torch.cat([torch.full((14,), -torch.inf), bias.detach()[14:]])
    targets = torch.arange(14, 14 + N)
    logp, entropy = selected_logprobs(hidden, head, targets, bias=masked, entropy=True, tile_bytes=tile_bytes, epilogue=epilogue)
    expected = naive(hidden, head[allowed], targets - 14, masked[allowed])
    torch.testing.assert_close((logp, entropy), expected)
    assert entropy is not None
    found = torch.autograd.grad((logp + entropy).sum(), [hidden, head])
    torch.testing.assert_close(found, torch.autograd.grad((expected[0] + expected[1]).sum(), [hidden, head]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tile_bytes", [4 * 200, None])
def test_no_logprob_is_above_zero_and_sure_ones_stay_exact(tile_bytes: int | None, epilogue: EpilogueName) -> None:
    """Prevents: log-probs of sure tokens that are 0 or positive in float32, where the truth is -4e-9, and a gradient of them that is
    rounding error."""
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(50, 16, generator=generator)
    head /= head.norm(dim=-1, keepdim=True)
    targets = torch.arange(50)
    hidden = (head * 40).requires_grad_()  # 40 for the target, less for the others
    logp, _ = selected_logprobs(hidden, head, targets, tile_bytes=tile_bytes, epilogue=epilogue)
    wide = hidden.detach().double().requires_grad_()
    truth, _ = naive(wide, head.double(), targets)
    assert (logp <= 0).all()
    assert float(truth.detach().max()) > -1e-8, "some are surer than float32 can tell from 1"
    torch.testing.assert_close(logp.double(), truth, rtol=2e-4, atol=0)
    logp.sum().backward()
    truth.sum().backward()
    assert hidden.grad is not None
    assert wide.grad is not None
    for ours, theirs in zip(hidden.grad, wide.grad, strict=True):
        assert distance(ours, theirs) < 2e-4


def test_sure_tokens_in_bfloat16_have_a_gradient() -> None:
    """Prevents: `W[y] - sum p W` rounded to bfloat16 before it cancels, which leaves nothing but noise where p is near 1."""
    hidden, head, _, _ = inputs(torch.bfloat16, with_bias=False, size=(64, 32, 200))
    with torch.no_grad():
        hidden *= 3.0
    targets = (hidden.float() @ head.float().T).argmax(-1)
    selected_logprobs(hidden, head.detach(), targets, tile_bytes=4 * 16 * 64)[0].sum().backward()
    wide = hidden.detach().double().requires_grad_()
    truth, _ = naive(wide, head.detach().double(), targets)
    sure = truth.exp() > 0.99
    assert 10 < int(sure.sum()) < 64
    truth.sum().backward()
    assert hidden.grad is not None
    assert wide.grad is not None
    errors = (hidden.grad.double() - wide.grad).norm(dim=-1) / wide.grad.norm(dim=-1)
    assert float(errors[sure].median()) < 0.1, "that of the bfloat16 logits, not of 1 - p"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_inputs_accumulate_in_float32(dtype: torch.dtype, epilogue: EpilogueName) -> None:
    """Prevents: log-probs, or gradients over many tiles, summed up in 8 bits of mantissa."""
    hidden, head, targets, bias = inputs(dtype, with_bias=True, size=(400 if epilogue == "torch" else 40, 8, 50))
    assert bias is not None
    logp, entropy = selected_logprobs(hidden, head, targets, bias=bias, entropy=True, tile_bytes=4 * 50, epilogue=epilogue)
    assert entropy is not None
    assert logp.dtype == entropy.dtype == torch.float32
    (logp + entropy).sum().backward()
    leaves = (hidden, head, bias)
    wide = [x.detach().double().requires_grad_() for x in leaves]
    truth = naive(wide[0], wide[1], targets, wide[2])
    (truth[0] + truth[1]).sum().backward()
    for ours, theirs in zip(leaves, wide, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert ours.grad.dtype == dtype
        assert distance(ours.grad, theirs.grad) < 0.8 * torch.finfo(dtype).eps


class Sizes(TorchFunctionMode):
    """Remembers the size of every tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.made += [value.numel() for value in (result if isinstance(result, tuple | list) else [result]) if isinstance(value, Tensor)]
        return result


@pytest.mark.parametrize(("wanting", "products"), [("nothing", 1), ("hidden", 2), ("head", 3), ("hidden head", 4)])
def test_work_that_nobody_asked_for_is_not_done(wanting: str, products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: reference log-probs that pay for a gradient, and a frozen head that pays for a recomputation."""
    cells = 0
    multiply = logprobs_tiles.multiply

    def counted(left: Tensor, right: Tensor, **more: Any) -> Tensor:
        nonlocal cells
        cells += left.shape[0] * left.shape[1] * right.shape[1]
        return multiply(left, right, **more)

    monkeypatch.setattr(logprobs_tiles, "multiply", counted)
    hidden, head, targets, _ = inputs(torch.float32, with_bias=False)
    hidden.requires_grad_("hidden" in wanting)
    head.requires_grad_("head" in wanting)
    logp, entropy = selected_logprobs(hidden, head, targets, tile_bytes=TILE)
    assert entropy is None
    if wanting != "nothing":
        logp.sum().backward()
    assert cells == products * N * V * D


def test_no_grad_makes_no_slopes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a second matrix product under `no_grad` because the inputs are parameters."""
    hidden, head, targets, _ = inputs(torch.float32, with_bias=False)
    monkeypatch.setattr(logprobs_tiles.Products, "add", None)
    with torch.no_grad():
        assert not selected_logprobs(hidden, head, targets)[0].requires_grad


@pytest.mark.parametrize("is_frozen", [True, False])
def test_nothing_of_size_n_times_v_is_kept_or_made(is_frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for this kernel: with 128k words and 8k tokens the logits alone would take 4 GiB."""
    from heron.kernels import logprobs

    n, d, v, tile = 400, 8, 1000, 10_000
    hidden, head, targets, bias = inputs(torch.float32, with_bias=True, size=(n, d, v))
    if is_frozen:
        head, bias = head.detach(), bias.detach()  # type: ignore[union-attr]
    kept: list[int] = []

    def remember(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    sizes, backward = Sizes(), logprobs._SelectedLogprobs.backward

    def watched(*arguments: Any) -> Any:
        with sizes:  # autograd calls this from C++, where an outer mode does not reach
            sizes.made.clear()
            return backward(*arguments)

    monkeypatch.setattr(logprobs._SelectedLogprobs, "backward", staticmethod(watched))
    with sizes, torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        logp, _ = selected_logprobs(hidden, head, targets, bias=bias, softcap=5.0, temperature=0.7, tile_bytes=4 * tile)
    assert max(sizes.made) <= tile, "no temporary of the forward pass is larger than a tile"
    wide = [size for size in kept if size > n]
    assert wide == ([n * d] if is_frozen else [n * d, v * d, v, n * d]), "what is kept is one [N, D], and inputs for a trained head"
    logp.sum().backward()
    assert sizes.made
    assert max(sizes.made) <= tile, "nor any of the backward pass"


def test_backward_makes_no_second_buffer_of_n_by_d() -> None:
    """Prevents: memory of twice `[N, D]` in the backward pass of a frozen head: the slopes become the gradient."""
    hidden, head, targets, _ = inputs(torch.float32, with_bias=False)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        logp, _ = selected_logprobs(hidden, head.detach(), targets)
    slopes = next(tensor for tensor in kept if tensor.shape == hidden.shape)
    assert torch.autograd.grad(logp.sum(), hidden)[0].data_ptr() == slopes.data_ptr()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"targets": torch.tensor([0, V])}, f"{V}, but the head has {V} words"),
        ({"targets": torch.tensor([-100, 1])}, "targets lie between -100 and 1"),
        ({"head": torch.zeros(V, D, dtype=torch.bfloat16)}, "hidden is torch.float32 and head is torch.bfloat16"),
        ({"head": torch.zeros(V, D + 1)}, "do not fit together"),
        ({"targets": torch.zeros(3, dtype=torch.int64)}, "do not fit together"),
        ({"bias": torch.zeros(1)}, "does not fit head"),
        ({"temperature": 0.0}, "Give positive numbers"),
        ({"softcap": -1.0}, "Give positive numbers"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    """Prevents: -100 read as a word, a bias that is broadcast, and a division by zero."""
    arguments = {"hidden": torch.zeros(2, D), "head": torch.zeros(V, D), "targets": torch.tensor([0, 1])} | given
    with pytest.raises(ValueError, match=message):
        selected_logprobs(**arguments)
