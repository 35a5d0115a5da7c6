"""Draw tokens from logits by inverting the cumulative distribution with given uniform numbers.

The one hard idea: a softmax is only ever needed in sums over blocks of 128 tokens. So the logits are read once, in pieces that stay in
the processor's cache; the probabilities of a piece are overwritten by the next one's. A draw searches the sums first and then computes
the probabilities of the one block that it hit. There are two ways to do this: float32 logits on a CPU go to C (`kernels.host.draw`), all
else, and machines without a compiler, to the torch operations below. What a piece of several blocks was divided by is read back from its
heaviest block there. The uniforms come from outside, one stream per completion, and no row sees another, so a completion draws the same
tokens whatever it is batched with. What it leaves out: which tokens are allowed (`kernels.filters` gives a lower bound for each row).

Logits to token, log-prob and entropy, one thread of an AMD EPYC (AVX-512), 64 x 32 768 and 64 x 151 936: 0.7 and 4 ms in C, 3 and 13 ms
in torch; softmax and `torch.multinomial` take 44 and 250 ms. Extra memory is 2 % of the logits in C; in torch 3 % of them, and three
tiles for each thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from heron.kernels.host import draw

BLOCK = 128
"""Vocabulary entries per block."""
TILE = 65_536
"""Entries that are worked on at once on a CPU: a few float32 buffers of them stay in its second-level cache."""
IMPOSSIBLE = -1e30
"""Stands for minus infinity, which would make NaN of zero times itself."""


def sample(
    logits: Tensor, uniforms: Tensor, rows: Tensor | None = None, *, temperature: float = 1.0, at_least: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One token per uniform number, with its log-probability and the entropy of the distribution.

    Args:
        logits: `[B, V]`, float32 or wider.
        uniforms: `[S]` in [0, 1), float64.
        rows: `[S]` which row each draws from; None if S is B and each has its own.
        temperature: divides the logits; above 0.
        at_least: `[B]` lowest logit (before the temperature) that may be drawn; None allows all.

    Returns:
        `tokens [S]` int64, `logprobs [S]` and `entropy [S]` in nats, float64. Not finite where a row has NaN, +inf or nothing possible.
    """
    way = draw.sample if draw.takes(logits, at_least) else _sample_by_torch
    return way(logits, uniforms, rows, temperature=temperature, at_least=at_least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What is known of each row before anything is drawn from it."""

    log_total: Tensor
    """`[B]` log of the sum of the exponentials of the tempered logits; float64."""
    entropy: Tensor
    """`[B]` in nats; float64."""


def spread(logits: Tensor, *, temperature: float = 1.0, at_least: Tensor | None = None) -> Spread:
    """Total and entropy of each row, with the arguments of `sample`. Not finite for what is no distribution."""
    if draw.takes(logits, at_least):
        log_total, entropy = draw.spread(logits, temperature=temperature, at_least=at_least)
        return Spread(log_total=log_total, entropy=entropy)
    return _distribution(logits, temperature, at_least)


def _sample_by_torch(
    logits: Tensor, uniforms: Tensor, rows: Tensor | None, *, temperature: float, at_least: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """`sample` for any float type and device."""
    distribution = _distribution(logits, temperature, at_least)
    rows = torch.arange(len(logits), device=logits.device) if rows is None else rows
    tokens, chosen = _draw(distribution, rows, uniforms)
    return tokens, chosen - distribution.log_total[rows], distribution.entropy[rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution(Spread):
    """Rows of logits, and the sums that draws need."""

    logits: Tensor
    """`[B, V]` as given."""
    temperature: float
    """Divides them."""
    at_least: Tensor | None
    """`[B]` lowest logit that is possible."""
    cdf: Tensor
    """`[B, blocks]` probability of each block and all before it; float64."""


def _distribution(logits: Tensor, temperature: float, at_least: Tensor | None) -> Distribution:
    """Of each row. Logits of -inf are noticed on a CPU by what they do, and shut out at once elsewhere."""
    if at_least is None and logits.device.type == "cpu":
        plain = _sums(logits, temperature, None)
        if bool(plain.entropy.isfinite().all()):
            return plain
    lowest = logits.new_full((len(logits),), IMPOSSIBLE)  # [B]
    return _sums(logits, temperature, lowest if at_least is None else torch.maximum(at_least, lowest))


def _sums(logits: Tensor, temperature: float, at_least: Tensor | None) -> Distribution:
    """Sums of every block, tile by tile, and what follows from them."""
    batch, vocabulary = logits.shape
    height, width = _tile(logits)
    pieces, blocks = -(-vocabulary // width), -(-width // BLOCK)
    mass = logits.new_zeros(batch, pieces, blocks)  # probability within the piece
    energy = torch.zeros_like(mass)  # probability times tempered logit
    lowest = [None] * batch if at_least is None else at_least[:, None].split(height)
    for piece, columns in enumerate(logits.split(width, dim=-1)):
        work = _Work(columns, min(batch, height), temperature)
        into = (sums[:, piece, : work.blocks].split(height) for sums in (mass, energy))
        for tile in zip(columns.split(height), lowest, *into, strict=False):
            work.sum_up(*tile)
    return _joined(logits, temperature, at_least, mass, energy)


def _tile(logits: Tensor) -> tuple[int, int]:
    """Rows and columns to work on at once. Columns depend on V alone, so that no row's rounding depends on the others."""
    batch, vocabulary = logits.shape
    if logits.device.type != "cpu":
        return max(1, batch), vocabulary
    even = -(-vocabulary // -(-vocabulary // TILE))
    width = min(vocabulary, -(-even // BLOCK) * BLOCK)
    return max(1, TILE // width) * torch.get_num_threads(), width


class _Work:
    """Buffers for tiles of equal width. Probabilities behind the last column stay zero."""

    def __init__(self, like: Tensor, height: int, temperature: float) -> None:
        width = like.shape[-1]
        self.blocks = -(-width // BLOCK)
        self.temperature = temperature
        self.by_block = like.new_zeros(height, self.blocks, BLOCK)
        self.probabilities = self.by_block.flatten(1)[:, :width]
        self.tempered = like.new_empty(height, width)

    def sum_up(self, logits: Tensor, at_least: Tensor | None, mass: Tensor, energy: Tensor) -> None:
        """Softmax of `logits [b, w]`, summed by block to `mass [b, blocks]`; the same times the tempered logit to `energy`.

        Of torch's exponentials on a CPU, softmax's are the fastest whose rounding does not depend on the place in memory.
        """
        rows = len(logits)
        by_block, probabilities = self.by_block[:rows], self.probabilities[:rows]
        tempered = self._tempered(logits, at_least)
        torch.softmax(tempered, -1, out=probabilities)
        torch.sum(by_block, -1, out=mass)
        probabilities.mul_(tempered)
        torch.sum(by_block, -1, out=energy)

    def _tempered(self, logits: Tensor, at_least: Tensor | None) -> Tensor:
        if at_least is None and self.temperature == 1.0:
            return logits
        tempered = torch.div(logits, self.temperature, out=self.tempered[: len(logits)])
        return tempered if at_least is None else tempered.masked_fill_(logits < at_least, IMPOSSIBLE)


def _joined(logits: Tensor, temperature: float, at_least: Tensor | None, mass: Tensor, energy: Tensor) -> Distribution:
    """Pieces weighed against each other; `mass` and `energy` are `[B, pieces, blocks]`.

    A piece's mass is only nearly 1, since softmax divides by a sum in float32, but all of it is off by the same factor.
    """
    _, pieces, blocks = mass.shape
    heaviest, block = mass.max(-1)  # [B, pieces]
    first = (torch.arange(pieces, device=mass.device) * blocks + block) * BLOCK  # [B, pieces] column of it
    rows = torch.arange(len(logits), device=mass.device)[:, None].expand_as(first)
    inside = _block_logits(logits, temperature, at_least, rows.flatten(), first.flatten())  # [B * pieces, 128]
    total = mass.sum(-1, dtype=torch.float64)  # [B, pieces]
    log_piece = inside.logsumexp(-1).view_as(total) + (total / heaviest).log()  # [B, pieces]
    log_total = log_piece.logsumexp(-1)  # [B]
    weights = (log_piece - log_total[:, None]).exp() / total  # [B, pieces]
    entropy = log_total - (energy.sum(-1, dtype=torch.float64) * weights).sum(-1)
    return Distribution(
        logits=logits, temperature=temperature, at_least=at_least, cdf=(mass * weights[:, :, None]).flatten(1).cumsum(-1),
        log_total=log_total, entropy=entropy.clamp_min(0),
    )


def _draw(given: Distribution, rows: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens `[S]` and their tempered logits `[S]`, float64."""
    cdf = given.cdf[rows]  # [S, blocks]
    goal = _below(uniforms[:, None] * cdf[:, -1:], cdf[:, -1:])  # [S, 1]
    block = _first_above(cdf, goal)  # [S, 1]
    after = cdf.gather(-1, block)
    before = torch.where(block > 0, cdf.gather(-1, (block - 1).clamp_min(0)), 0.0)
    inside = _block_logits(given.logits, given.temperature, given.at_least, rows, block[:, 0] * BLOCK)  # [S, 128]
    inside_cdf = (inside - inside.amax(-1, keepdim=True)).exp().cumsum(-1)
    share = (goal - before) / (after - before)  # of the block's probability
    offset = _first_above(inside_cdf, _below(share * inside_cdf[:, -1:], inside_cdf[:, -1:]))  # [S, 1]
    tokens = (block * BLOCK + offset).squeeze(-1).clamp_max(given.logits.shape[-1] - 1)  # NaN would point behind the end
    return tokens, inside.gather(-1, offset).squeeze(-1)


def _block_logits(logits: Tensor, temperature: float, at_least: Tensor | None, rows: Tensor, first: Tensor) -> Tensor:
    """Tempered logits `[n, 128]` from column `first [n]` of `rows [n]` on, float64; -inf where impossible or behind the end."""
    vocabulary = logits.shape[-1]
    columns = first[:, None] + torch.arange(BLOCK, device=logits.device)  # [n, 128]
    found = logits.take(rows[:, None] * vocabulary + columns.clamp_max(vocabulary - 1))
    impossible = columns >= vocabulary
    if at_least is not None:
        impossible = impossible | (found < at_least[rows, None])
    return (found.double() / temperature).masked_fill(impossible, -math.inf)


def _below(value: Tensor, limit: Tensor) -> Tensor:
    """The value, or the largest number below the limit."""
    return torch.minimum(value, torch.nextafter(limit, torch.zeros_like(limit)))


def _first_above(cdf: Tensor, goal: Tensor) -> Tensor:
    """First index `[S, 1]` whose value exceeds the goal: never one of probability zero."""
    return torch.searchsorted(cdf, goal, right=True).clamp_max(cdf.shape[-1] - 1)
