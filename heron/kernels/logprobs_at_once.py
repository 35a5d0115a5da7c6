"""A trained head whose gradient is known before the loss is computed: three matrix products in the place of four.

The one hard idea: on the policy's own samples the ratio is 1, so what the loss will send back to each log-prob depends on advantages and
weights alone. A slice of tokens then holds its logits over the *whole* vocabulary, its softmax is final as soon as it is made, and both
gradients follow from it at once, with nothing to remember and nothing to make again. The rows are scaled where they are short, in
`[c, D]` and not in `[c, V]`. If the loss sends back something else after all, `logprobs` makes the tiles again as usual.

Memory: `[V, D]` in float32, and one slice of logits. Left out: frozen heads, which need two products anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heron.kernels.logprobs_fold import Epilogue, LogitRule, Running, Words, cap_slope
from heron.kernels.logprobs_tiles import accumulator, add_product, slices

LEAST_ROWS = 256
"""Tokens of a slice, also where the vocabulary is so wide that their logits exceed the budget of a tile: below it products get slow."""
SLICE_WORDS = 4096
"""Rows of the head's gradient that are added to together, so that a product in a narrow dtype stays small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtOnce:
    """Log-probs, and the gradients of everything, from one pass."""

    logprobs: Tensor
    """`[N]`."""
    log_normalizer: Tensor
    """`[N]`, `log sum exp(z)`."""
    entropy: Tensor | None
    """`[N]`, if it was asked for."""
    grad_hidden: Tensor
    """`[N, D]`, in hidden's dtype."""
    grad_head: Tensor
    """`[V, D]`, wide."""
    grad_bias: Tensor | None
    """`[V]`, wide, if there is a bias."""


def gradients_at_once(
    hidden: Tensor, head: Tensor, bias: Tensor | None, targets: Tensor, gradient: Tensor,
    *, rule: LogitRule, epilogue: Epilogue, tile_bytes: int, entropy: bool,
) -> AtOnce:
    """Everything, where `gradient [N]` is what the loss will send back to the log-probs."""
    wide, vocabulary = accumulator(head.dtype), len(head)
    made = AtOnce(
        logprobs=torch.empty(len(targets), dtype=wide, device=hidden.device),
        log_normalizer=torch.empty(len(targets), dtype=wide, device=hidden.device),
        entropy=torch.empty(len(targets), dtype=wide, device=hidden.device) if entropy else None,
        grad_hidden=torch.empty_like(hidden), grad_head=torch.zeros(head.shape, dtype=wide, device=head.device),
        grad_bias=None if bias is None else torch.zeros(vocabulary, dtype=wide, device=head.device),
    )
    rows = max(1, tile_bytes // (4 * vocabulary))
    tokens = max(1, min(len(hidden), max(LEAST_ROWS, rows)))
    for part in slices(len(hidden), tokens):
        running = Running.start(targets[part], dtype=wide, entropy=entropy)
        others = _fold(hidden[part], head, bias, running, epilogue, rows)
        made.logprobs[part] = running.logprob()
        made.log_normalizer[part] = running.maximum + running.log_total()
        if made.entropy is not None and (nats := running.entropy()) is not None:
            made.entropy[part] = nats
        _spread(made, part, hidden[part], head, others, running, gradient[part].to(wide), rule)
        del others  # before the next slice makes its own
    return made


def _fold(hidden: Tensor, head: Tensor, bias: Tensor | None, running: Running, epilogue: Epilogue, rows: int) -> Tensor:
    """`[c, V]` in the head's dtype: `exp(z - m)` times the cap's slope, 0 at the targets. Worked on in few rows at a time, which stay in
    the caches of a CPU."""
    wide = accumulator(head.dtype)
    widens = wide is not head.dtype and hidden.is_cuda
    logits = torch.mm(hidden, head.T, out_dtype=wide) if widens else hidden @ head.T  # [c, V]
    others = torch.empty_like(logits, dtype=head.dtype) if widens else logits
    words = Words.of(slice(0, len(head)), bias, wide)
    for part in slices(len(hidden), rows):
        epilogue.fold(logits[part].to(wide), words, running.rows(part), others[part])
    return others


def _spread(
    made: AtOnce, part: slice, hidden: Tensor, head: Tensor, others: Tensor, running: Running, gradient: Tensor, rule: LogitRule,
) -> None:
    """Gradients of one slice. `others [c, V]` is `exp(z - m)` times the cap's slope, 0 at the targets, which come by themselves."""
    total = running.total()
    scale = -rule.factor * gradient / total  # [c]
    at_target = rule.factor * gradient * (running.others / total) * cap_slope(running.target.clone(), rule)  # [c]
    wide_hidden = hidden.to(gradient.dtype)
    slope = torch.empty_like(wide_hidden)
    add_product(slope, others, head, first=True)
    made.grad_hidden[part] = slope.mul_(scale[:, None]).addcmul_(head.index_select(0, running.target_ids), at_target[:, None])
    scaled = (wide_hidden * scale[:, None]).to(head.dtype)
    for words in slices(len(head), SLICE_WORDS):
        add_product(made.grad_head[words], others[:, words].T, scaled)
    made.grad_head.index_add_(0, running.target_ids, wide_hidden * at_target[:, None])
    if made.grad_bias is not None:
        made.grad_bias.add_(scale.to(others.dtype) @ others).index_add_(0, running.target_ids, at_target)
