"""What happens to a tile of logits between two matrix products: the reference in torch, and the running sums of the online softmax.

The one hard idea: the target takes no part in the running sum. With `m` the maximum, `o` the sum of `exp(z - m)` over all other words
and `e = exp(z_y - m)`, the log-prob is `(z_y - m) - log(o + e)`, and `1 - p_y` is `o / (o + e)`: nothing cancels when the model is sure
of a token, which is most of the time in reasoning. A log-prob of -1e-9 stays one, and the gradient's relative error stays that of the
dtype. No log-prob is above 0 by construction: `z_y` is read from the tile whose maximum `m` is, so `z_y <= m`, and `o + e >= 1`.

Left out: the matrix products (`logprobs_tiles`). `triton_logprobs` does the same work in one pass over a tile on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

FAR_BELOW = -1e4
"""`exp` of it is 0 in every dtype: stands for minus infinity where `0 * inf` would be NaN, as in `p log p`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitRule:
    """`z = cap(scale * (hidden @ head.T + bias)) / temperature`, with `cap(x) = softcap * tanh(x / softcap)`."""

    scale: float = 1.0
    """Multiplies the logits first."""
    softcap: float | None = None
    """Caps them next; None leaves them."""
    temperature: float = 1.0
    """Divides them last."""

    @property
    def factor(self) -> float:
        """The slope where the cap does not bend: d z / d (hidden @ head.T)."""
        return self.scale / self.temperature


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The columns of a tile."""

    start: int
    """The first word's id."""
    bias: Tensor | None
    """`[v]` of these words, in the accumulator's dtype."""

    @classmethod
    def of(cls, words: slice, bias: Tensor | None, dtype: torch.dtype) -> Words:
        """Cut from the whole vocabulary."""
        return cls(start=words.start, bias=None if bias is None else bias[words].to(dtype))


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The online softmax of `c` tokens, updated in place by each tile; every field `[c]`."""

    target_ids: Tensor
    """The chosen words."""
    maximum: Tensor
    """Largest logit so far, the target's included."""
    others: Tensor
    """`sum exp(z - maximum)` over the words other than the target."""
    weighted: Tensor | None
    """`sum exp(z - maximum) (z - maximum)` over the same, for the entropy; None if that was not asked for."""
    target: Tensor
    """The target's logit; NaN until its tile was seen."""
    rescale: Tensor
    """What sums that belong to the maximum before the last tile are to be multiplied with."""

    @classmethod
    def start(cls, target_ids: Tensor, *, dtype: torch.dtype, entropy: bool) -> Running:
        """Before the first tile. The maximum is finite, so that `-inf - -inf` does not occur."""
        def full(value: float) -> Tensor:
            return torch.full(target_ids.shape, value, dtype=dtype, device=target_ids.device)

        return cls(
            target_ids=target_ids, maximum=full(torch.finfo(dtype).min), others=full(0), weighted=full(0) if entropy else None,
            target=full(torch.nan), rescale=full(1),
        )

    def rows(self, part: slice) -> Running:
        """Of some of the tokens; what is folded into it is folded into this one."""
        return Running(
            target_ids=self.target_ids[part], maximum=self.maximum[part], others=self.others[part],
            weighted=None if self.weighted is None else self.weighted[part], target=self.target[part], rescale=self.rescale[part],
        )

    def log_total(self) -> Tensor:
        """`log sum exp(z - maximum)` over all words."""
        is_largest = self.target == self.maximum
        return torch.where(is_largest, self.others.log1p(), self.total().log())

    def total(self) -> Tensor:
        """`sum exp(z - maximum)` over all words."""
        return self.others + (self.target - self.maximum).exp()

    def logprob(self) -> Tensor:
        """Of the target, never above 0."""
        return (self.target - self.maximum) - self.log_total()

    def entropy(self) -> Tensor | None:
        """`log_total - E[z - maximum]`: the difference of a term that is not negative and one that is not positive."""
        if self.weighted is None:
            return None
        distance = (self.target - self.maximum).clamp(min=FAR_BELOW)
        return self.log_total() - (self.weighted + distance.exp() * distance) / self.total()


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGradient:
    """What turns the logits of `c` tokens into the loss's gradient with respect to `hidden @ head.T`; every field `[c]`."""

    target_ids: Tensor
    """The chosen words."""
    log_normalizer: Tensor
    """`log sum exp(z)`."""
    logprob_grad: Tensor
    """The loss's gradient with respect to the log-prob, times the rule's factor."""
    entropy: Tensor | None
    """Of each token; None if the loss does not depend on it."""
    entropy_grad: Tensor | None
    """The loss's gradient with respect to the entropy, times the rule's factor."""
    at_target: Tensor
    """The whole gradient at the target before the cap's slope, made from `1 - p` without cancellation."""

    @classmethod
    def of(
        cls, rule: LogitRule, target_ids: Tensor, logprob: Tensor, log_normalizer: Tensor, entropy: Tensor | None,
        logprob_grad: Tensor | None, entropy_grad: Tensor | None,
    ) -> RowGradient:
        """`d logp / d z_j = [j = y] - p_j` and `d H / d z_j = -p_j (log p_j + H)`."""
        by_logprob = torch.zeros_like(logprob) if logprob_grad is None else logprob_grad.to(logprob.dtype) * rule.factor
        at_target = -by_logprob * logprob.expm1()
        if entropy is None or entropy_grad is None:
            return cls(target_ids=target_ids, log_normalizer=log_normalizer, logprob_grad=by_logprob, entropy=None,
                       entropy_grad=None, at_target=at_target)
        by_entropy = entropy_grad.to(logprob.dtype) * rule.factor
        at_target -= by_entropy * logprob.exp() * (logprob.clamp(min=FAR_BELOW) + entropy)
        return cls(target_ids=target_ids, log_normalizer=log_normalizer, logprob_grad=by_logprob, entropy=entropy,
                   entropy_grad=by_entropy, at_target=at_target)

    def rows(self, part: slice) -> RowGradient:
        """Of some of the tokens."""
        return RowGradient(
            target_ids=self.target_ids[part], log_normalizer=self.log_normalizer[part], logprob_grad=self.logprob_grad[part],
            entropy=None if self.entropy is None else self.entropy[part],
            entropy_grad=None if self.entropy_grad is None else self.entropy_grad[part], at_target=self.at_target[part],
        )


class Epilogue(Protocol):
    """The work on a tile `[c, v]` of `hidden @ head.T`, which it may destroy."""

    def fold(self, tile: Tensor, words: Words, running: Running, out: Tensor | None) -> None:
        """Take the tile into the running sums. `out [c, v]`, unless None, becomes `exp(z - maximum)` times the cap's slope, and 0 at
        the target: what the second product multiplies the head with. It may be the tile itself."""
        ...

    def gradient(self, tile: Tensor, words: Words, rows: RowGradient, out: Tensor) -> None:
        """`out [c, v]` becomes the loss's gradient with respect to `hidden @ head.T`. It may be the tile itself."""
        ...


class TorchEpilogue:
    """The reference, a handful of passes in torch. One buffer of the size of a tile serves the cap and the entropy, if there are any."""

    def __init__(self, rule: LogitRule) -> None:
        self._rule = rule
        self._spare: dict[str, Tensor] = {}

    def fold(self, tile: Tensor, words: Words, running: Running, out: Tensor | None) -> None:
        z = self._logits(tile, words)
        rows, columns = _inside(running.target_ids, words, z)
        running.target[rows] = z[rows, columns]
        slope = None if out is None else self._slope(z)
        shift = self._advance(running, z)
        shifted = z.sub_(running.maximum[:, None])
        before = None if running.weighted is None else self._copy("shifted", shifted.clamp_(min=FAR_BELOW))
        p = shifted.exp_()  # [c, v], at most 1
        p[rows, columns] = 0.0
        if running.weighted is not None and before is not None:
            running.weighted.add_(shift.mul_(running.others)).mul_(running.rescale).add_(before.mul_(p).sum(-1))
        running.others.mul_(running.rescale).add_(p.sum(-1))
        if out is not None:
            _store(p if slope is None else p.mul_(slope), out)

    def gradient(self, tile: Tensor, words: Words, rows: RowGradient, out: Tensor) -> None:
        z = self._logits(tile, words)
        slope = self._slope(z)
        logp = z.sub_(rows.log_normalizer[:, None])
        if rows.entropy is None or rows.entropy_grad is None:
            grad = logp.exp_().mul_(-rows.logprob_grad[:, None])
        else:
            pull = self._copy("shifted", logp.clamp_(min=FAR_BELOW)).add_(rows.entropy[:, None]).mul_(-rows.entropy_grad[:, None])
            grad = logp.exp_().mul_(pull.sub_(rows.logprob_grad[:, None]))
        inside, columns = _inside(rows.target_ids, words, grad)
        grad[inside, columns] = rows.at_target[inside]
        _store(grad if slope is None else grad.mul_(slope), out)

    def _logits(self, tile: Tensor, words: Words) -> Tensor:
        rule = self._rule
        if words.bias is not None:
            tile.add_(words.bias)
        if rule.softcap is not None:
            return tile.mul_(rule.scale / rule.softcap).tanh_().mul_(rule.softcap / rule.temperature)
        return tile if rule.factor == 1.0 else tile.mul_(rule.factor)

    def _slope(self, z: Tensor) -> Tensor | None:
        """`1 - tanh^2`, the derivative of the cap."""
        if self._rule.softcap is None:
            return None
        return cap_slope(self._copy("slope", z), self._rule)

    @staticmethod
    def _advance(running: Running, z: Tensor) -> Tensor:
        """Raise the maximum; returns `old - new`, which is not positive."""
        maximum = torch.maximum(running.maximum, z.amax(-1))
        shift = running.maximum - maximum
        torch.exp(shift, out=running.rescale)
        running.maximum.copy_(maximum)
        return shift

    def _copy(self, name: str, z: Tensor) -> Tensor:
        if name not in self._spare or self._spare[name].numel() < z.numel():
            self._spare[name] = torch.empty(z.numel(), dtype=z.dtype, device=z.device)
        return self._spare[name][: z.numel()].view(z.shape).copy_(z)


def cap_slope(z: Tensor, rule: LogitRule) -> Tensor:
    """`1 - tanh^2` of capped logits, in place; 1 where the rule has no cap."""
    if rule.softcap is None:
        return z.fill_(1.0)
    return z.mul_(rule.temperature / rule.softcap).square_().neg_().add_(1.0)


def _inside(target_ids: Tensor, words: Words, tile: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the tile whose target is among its words, and the column of each."""
    columns = target_ids - words.start
    rows = ((columns >= 0) & (columns < tile.shape[1])).nonzero().squeeze(-1)
    return rows, columns[rows]


def _store(tile: Tensor, out: Tensor) -> None:
    if out.data_ptr() != tile.data_ptr():
        out.copy_(tile)
