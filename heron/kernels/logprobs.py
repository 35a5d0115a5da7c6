"""Log-probability and entropy of chosen tokens, from hidden states, without ever holding `[N, V]`.

The one hard idea: the logits of a chunk of tokens are made, used and dropped; the backward pass makes them again. What stays
alive is `[N, D]` and `[N]`. The price is one more matrix product with the head in the backward pass. The function knows nothing
of GRPO: any loss can stand on the log-probs that it returns. The entropy is a measurement here and carries no gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = 64 * 2**20
"""Default budget for one chunk of float32 logits."""


def selected_logprobs(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    chunk_bytes: int = CHUNK_BYTES,
) -> tuple[Tensor, Tensor]:
    """`log softmax(z)[targets]` and the entropy of `softmax(z)`, with `z = cap(scale * (hidden @ head.T + bias)) / temperature`.

    Args:
        hidden: `[N, D]` hidden states of the positions that predict.
        head: `[V, D]` output embedding, frozen or trained.
        targets: `[N]` token ids.
        bias: `[V]` added to the logits.
        scale: multiplies the logits (Cohere's `logit_scale`).
        softcap: logits become `softcap * tanh(z / softcap)` (Gemma 2).
        temperature: divides the logits last.
        chunk_bytes: budget for one chunk of float32 logits; results do not depend on it.

    Returns:
        `logprobs [N]` in nats, differentiable in hidden, head and bias, and `entropy [N]` in nats, without gradient. Float32
        (float64 for float64 inputs).
    """
    chunk = max(1, chunk_bytes // (4 * head.shape[0]))
    logprobs, entropy = _SelectedLogprobs.apply(hidden, head, targets, bias, scale, softcap, temperature, chunk)
    return logprobs, entropy


class _SelectedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None,
        scale: float, softcap: float | None, temperature: float, chunk: int,
    ) -> tuple[Tensor, Tensor]:
        wide = _accumulator(hidden.dtype)
        logprobs = torch.empty(len(targets), dtype=wide, device=hidden.device)  # [N]
        entropy = torch.empty_like(logprobs)  # [N]
        for part in _chunks(len(targets), chunk):
            z = _logits(hidden[part], head, bias, scale, softcap, temperature)  # [c, V]
            lse = z.logsumexp(-1)  # [c]
            logprobs[part] = z.gather(-1, targets[part, None]).squeeze(-1) - lse
            entropy[part] = lse - (z.sub(lse[:, None]).exp_() * z).sum(-1)
        ctx.save_for_backward(hidden, head, targets, bias)
        ctx.settings = (scale, softcap, temperature, chunk)
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, grad_logprobs: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, head, targets, bias = ctx.saved_tensors
        scale, softcap, temperature, chunk = ctx.settings
        wants_hidden, wants_head, _, wants_bias = ctx.needs_input_grad[:4]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_head = torch.zeros_like(head, dtype=_accumulator(head.dtype)) if wants_head else None
        grad_bias = torch.zeros_like(bias, dtype=_accumulator(bias.dtype)) if wants_bias else None
        for part in _chunks(len(targets), chunk):
            z = _logits(hidden[part], head, bias, scale, softcap, temperature)  # [c, V]
            slope = 1.0 if softcap is None else 1.0 - (z * (temperature / softcap)).square()
            grad_z = z.softmax(-1).neg_()  # [c, V], d logp / d z = onehot - softmax
            rows = torch.arange(len(grad_z), device=z.device)
            grad_z[rows, targets[part]] += 1.0
            grad_z *= grad_logprobs[part, None] * (scale / temperature)
            grad_z = (grad_z * slope).to(head.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = grad_z @ head
            if grad_head is not None:
                grad_head += grad_z.T @ hidden[part]
            if grad_bias is not None:
                grad_bias += grad_z.sum(0)
        return (
            grad_hidden, None if grad_head is None else grad_head.to(head.dtype), None,
            None if grad_bias is None else grad_bias.to(bias.dtype), None, None, None, None,
        )


def _logits(
    hidden: Tensor, head: Tensor, bias: Tensor | None, scale: float, softcap: float | None, temperature: float
) -> Tensor:
    """Logits of one chunk, `[c, V]`, in the order in which samplers apply them: scale, cap, temperature."""
    z = (hidden @ head.T).to(_accumulator(hidden.dtype))
    if bias is not None:
        z = z + bias
    if scale != 1.0:
        z = z * scale
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    return z if temperature == 1.0 else z / temperature


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float64 else torch.float32


def _chunks(length: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]
