"""Log-probability and entropy of chosen tokens, from hidden states, without ever holding `[N, V]`.

The one hard idea: to the hidden states this is attention in disguise. `d logp / d h = W[y] - sum_v p_v W_v` depends on the token alone,
so it is summed over tiles of the vocabulary beside the softmax itself, in the forward pass: two matrix products with the head, no
recomputation, one buffer `[N, D]` that becomes the gradient in place, and any loss on top. A trained head needs `p` once more, so its
backward pass makes the tiles again (`logprobs_again`), unless the loss is foreseen (`logprobs_at_once`); so does a loss that depends on
the entropy. Nothing is done that nobody asked for: without a gradient there is one product and no buffer.

`logprobs_tiles` multiplies, `logprobs_fold` (torch) or `triton_logprobs` (CUDA; not yet run on a GPU) works on what comes out.

On one thread of a CPU, bfloat16, 8192 tokens, D 1024: an extra peak of 36 MB at 128 256 words, the gradient's 16 included, where full
logits take 12 GB. At 32 768 words the time is within a tenth of its two matrix products: 0.9x that of full logits if their memory came
for nothing, and 0.3x to 0.7x with what the operating system takes to hand it out (`python -m benchmarks.logprobs`).

Left out: second derivatives, heads that are spread over devices.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from heron.kernels.logprobs_again import TilesAgain
from heron.kernels.logprobs_at_once import AtOnce, gradients_at_once
from heron.kernels.logprobs_fold import Epilogue, LogitRule, RowGradient, Running, TorchEpilogue, Words, cap_slope
from heron.kernels.logprobs_tiles import CPU_TILE_BYTES, CUDA_TILE_BYTES, Products, Tiles, slices

EpilogueName = Literal["torch", "triton"]


def selected_logprobs(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    entropy: bool = False,
    tile_bytes: int | None = None,
    epilogue: EpilogueName | None = None,
    expected_gradient: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """`log softmax(z)[targets]` and the entropy of `softmax(z)`, with `z = cap(scale * (hidden @ head.T + bias)) / temperature`.

    Args:
        hidden: `[N, D]` hidden states of the positions that predict.
        head: `[V, D]` output embedding, frozen or trained, of the same dtype.
        targets: `[N]` token ids.
        bias: `[V]` added to the logits.
        scale: multiplies the logits (Cohere's `logit_scale`).
        softcap: logits become `softcap * tanh(z / softcap)` (Gemma 2).
        temperature: divides the logits last.
        entropy: whether to measure the entropy in the same pass. It keeps `hidden` alive until the backward pass.
        tile_bytes: budget for one tile of float32 logits; None takes what suits the device. Results do not depend on it.
        epilogue: what works on a tile; None takes Triton on CUDA, if it is installed, and torch elsewhere.
        expected_gradient: `[N]` what the loss will send back to the log-probs, where that is known: a trained head then takes three
            products and not four (with the torch epilogue; for up to 256 tokens at a time it holds whole rows of logits). If something
            else comes back, the tiles are made again; the gradient is right in any case.

    Returns:
        `logprobs [N]` in nats, none above 0, and `entropy [N]` in nats or None; both float32 (float64 for float64 inputs) and
        differentiable, once, in hidden, head and bias.
    """
    _check(hidden, head, targets, bias, temperature, softcap)
    budget = tile_bytes or (CUDA_TILE_BYTES if hidden.is_cuda else CPU_TILE_BYTES)
    epilogue = epilogue or _epilogue_for(hidden)
    is_foreseen = epilogue == "torch" and torch.is_grad_enabled() and hidden.requires_grad and head.requires_grad
    call = _Call(
        rule=LogitRule(scale=scale, softcap=softcap, temperature=temperature), entropy=entropy,
        tiles=Tiles.fitting(budget, num_tokens=len(hidden), vocabulary=len(head), width=hidden.shape[1]),
        wants_slopes=torch.is_grad_enabled() and hidden.requires_grad, epilogue=epilogue,
        expected=expected_gradient if is_foreseen else None,
        tile_bytes=budget,
    )
    logprobs, entropies = _SelectedLogprobs.apply(hidden, head, bias, targets, call)
    return logprobs, entropies


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What is wanted, and in which tiles."""

    rule: LogitRule
    """From products to logits."""
    entropy: bool
    """Whether the entropy is wanted."""
    tiles: Tiles
    """The shape of a tile."""
    wants_slopes: bool
    """Whether hidden wants a gradient."""
    epilogue: EpilogueName
    """What works on a tile."""
    expected: Tensor | None
    """`[N]` the gradient that the loss will send back, if that is known and the head is trained."""
    tile_bytes: int
    """Budget for a tile."""

    def make_epilogue(self) -> Epilogue:
        """A fresh one: it may hold buffers for the length of a pass."""
        if self.epilogue == "torch":
            return TorchEpilogue(self.rule)
        from heron.kernels.triton_logprobs import TritonEpilogue

        return TritonEpilogue(self.rule)


class _SelectedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, head: Tensor, bias: Tensor | None, targets: Tensor, call: _Call
    ) -> tuple[Tensor, Tensor | None]:
        made, ctx.known = _forward(hidden, head, bias, targets, call)
        ctx.call = call
        ctx.set_materialize_grads(False)
        makes_tiles_again = call.entropy or any(ctx.needs_input_grad[1:3])
        inputs = (hidden, head, bias, targets) if makes_tiles_again else (None, None, None, None)
        ctx.save_for_backward(*inputs, made.slopes, made.logprobs, made.log_normalizer, made.entropy)
        return made.logprobs, made.entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logprobs: Tensor | None, grad_entropy: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, head, bias, targets, slopes, logprobs, log_normalizer, entropy = ctx.saved_tensors
        wants_hidden, wants_head, wants_bias = ctx.needs_input_grad[:3]
        known, ctx.known = ctx.known, None if _is_last_pass() else ctx.known
        if known is not None and grad_entropy is None and grad_logprobs is not None and torch.equal(grad_logprobs, ctx.call.expected):
            return known.grad_hidden, known.grad_head.to(head.dtype), known.grad_bias.to(bias.dtype) if wants_bias else None, None, None
        grad_hidden = grad_head = grad_bias = None
        if wants_hidden and slopes is not None and grad_entropy is None and grad_logprobs is not None:
            grad_hidden = _scale_rows(slopes if _is_last_pass() else slopes.clone(), grad_logprobs, ctx.call.tiles.tokens)
            wants_hidden = False
        if (wants_head or wants_bias or wants_hidden) and not (grad_logprobs is None and grad_entropy is None):
            rows = RowGradient.of(ctx.call.rule, targets, logprobs, log_normalizer, entropy, grad_logprobs, grad_entropy)
            again = TilesAgain(hidden=hidden, head=head, bias=bias, rows=rows, tiles=ctx.call.tiles, epilogue=ctx.call.make_epilogue())
            grad_hidden = again.hidden_gradient() if wants_hidden else grad_hidden
            if wants_head or wants_bias:
                grad_head, grad_bias = again.head_gradients(wants_head=wants_head, wants_bias=wants_bias)
        return grad_hidden, grad_head, grad_bias, None, None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What the forward pass makes."""

    logprobs: Tensor
    """`[N]`."""
    log_normalizer: Tensor
    """`[N]`, `log sum exp(z)`."""
    entropy: Tensor | None
    """`[N]`, if it was asked for."""
    slopes: Tensor | None
    """`[N, D]` d logp / d hidden, in hidden's dtype, if hidden wants a gradient."""


def _forward(hidden: Tensor, head: Tensor, bias: Tensor | None, targets: Tensor, call: _Call) -> tuple[_Made, AtOnce | None]:
    """One pass over the head; with all gradients, if what the loss will say is known."""
    if call.expected is None:
        return _pass(hidden, head, bias, targets, call), None
    known = gradients_at_once(
        hidden, head, bias, targets, call.expected, rule=call.rule, epilogue=call.make_epilogue(), tile_bytes=call.tile_bytes,
        entropy=call.entropy,
    )
    return _Made(logprobs=known.logprobs, log_normalizer=known.log_normalizer, entropy=known.entropy, slopes=None), known


def _pass(hidden: Tensor, head: Tensor, bias: Tensor | None, targets: Tensor, call: _Call) -> _Made:
    """One pass over the head for each slice of tokens."""
    products = Products(call.tiles, dtype=head.dtype, device=head.device)
    epilogue = call.make_epilogue()
    logprobs = torch.empty(len(targets), dtype=products.wide, device=hidden.device)
    log_normalizer = torch.empty_like(logprobs)
    entropy = torch.empty_like(logprobs) if call.entropy else None
    slopes = torch.empty_like(hidden) if call.wants_slopes else None
    total = None if slopes is None or slopes.dtype is products.wide else hidden.new_empty(
        (call.tiles.tokens, hidden.shape[1]), dtype=products.wide)
    for part in slices(len(targets), call.tiles.tokens):
        running = Running.start(targets[part], dtype=products.wide, entropy=call.entropy)
        into = None if slopes is None else slopes[part] if total is None else total[: len(running.target)]
        _fold(hidden[part], head, bias, running, into, products, epilogue, call.tiles)
        logprobs[part] = running.logprob()
        log_normalizer[part] = running.maximum + running.log_total()
        if entropy is not None and (of_these := running.entropy()) is not None:
            entropy[part] = of_these
        if slopes is not None and into is not None:
            slopes[part] = _finish_slopes(into, head, running, call.rule)
    return _Made(logprobs=logprobs, log_normalizer=log_normalizer, entropy=entropy, slopes=slopes)


def _fold(
    hidden: Tensor, head: Tensor, bias: Tensor | None, running: Running, total: Tensor | None,
    products: Products, epilogue: Epilogue, tiles: Tiles,
) -> None:
    """All tiles of one slice of tokens. `total [c, D]` becomes `sum_v exp(z_v - m) cap'(z_v) W_v` over the words but the target."""
    for words in slices(len(head), tiles.words):
        tile = products.logits(hidden, head[words])  # [c, v]
        out = None if total is None else products.operand(tile)
        epilogue.fold(tile, Words.of(words, bias, products.wide), running, out)
        if total is not None and out is not None:
            if words.start:
                total.mul_(running.rescale[:, None])
            products.add(total, out, head[words], first=words.start == 0)


def _finish_slopes(total: Tensor, head: Tensor, running: Running, rule: LogitRule) -> Tensor:
    """`factor (cap'(z_y) (1 - p_y) W[y] - sum over the others)`, in place."""
    normalizer = running.total()
    at_target = cap_slope(running.target.clone(), rule) * (running.others / normalizer) * rule.factor
    total.mul_((-rule.factor / normalizer)[:, None])
    return total.addcmul_(head.index_select(0, running.target_ids).to(total.dtype), at_target[:, None])


def _scale_rows(slopes: Tensor, by: Tensor, rows: int) -> Tensor:
    """`slopes * by[:, None]` in place, rounded once; slice by slice, since torch would widen all of it first."""
    for part in slices(len(slopes), rows):
        slopes[part] = slopes[part].to(by.dtype).mul_(by[part, None])
    return slopes


def _is_last_pass() -> bool:
    """Whether this backward pass frees what was saved for it (`retain_graph=False`), so that it may be overwritten."""
    keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return keeps_graph is not None and not keeps_graph()


def _epilogue_for(hidden: Tensor) -> EpilogueName:
    has_triton = hidden.is_cuda and importlib.util.find_spec("triton") is not None
    return "triton" if has_triton and hidden.dtype is not torch.float64 else "torch"


def _check(hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None, temperature: float, softcap: float | None) -> None:
    if hidden.ndim != 2 or head.ndim != 2 or hidden.shape[1] != head.shape[1] or targets.shape != hidden.shape[:1]:
        raise ValueError(f"hidden {list(hidden.shape)}, head {list(head.shape)} and targets {list(targets.shape)} do not fit together. "
                         "Give [N, D], [V, D] and [N].")
    if bias is not None and bias.shape != head.shape[:1]:
        raise ValueError(f"bias {list(bias.shape)} does not fit head {list(head.shape)}. Give [V].")
    if hidden.dtype is not head.dtype:
        raise ValueError(f"hidden is {hidden.dtype} and head is {head.dtype}. Cast one of them to the other's dtype.")
    if temperature <= 0 or (softcap is not None and softcap <= 0):
        raise ValueError(f"temperature and softcap divide the logits; given {temperature} and {softcap}. "
                         "Give positive numbers, or no softcap.")
    if not targets.is_cuda and len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < len(head):
        raise ValueError(f"targets lie between {int(targets.min())} and {int(targets.max())}, but the head has {len(head)} words. "
                         "Leave out positions that have no target.")
