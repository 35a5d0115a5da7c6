"""Trees of packed tokens, and dense attention of each row alone, in the order of the textbook, to hold packed attention against.

A tree is written as its rows: lists of packed indices in reading order. The widths of keys and values differ on purpose.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

CPU = torch.device("cpu")
HEADS, WIDTH, NARROW = 4, 6, 5
"""Query heads, width of queries and keys, width of values."""

Rows = list[list[int]]


def grown(*branches: tuple[int | None, int]) -> Rows:
    """Rows of a tree in depth-first order. Each branch is (number of the branch it continues, new tokens); a row ends with each."""
    rows: Rows = []
    end = 0
    for parent, length in branches:
        rows.append([*([] if parent is None else rows[parent]), *range(end, end + length)])
        end += length
    return rows


def group(prompt: int, answers: Sequence[int]) -> tuple[tuple[int | None, int], ...]:
    """Branches of a prompt and its siblings."""
    return ((None, prompt), *((0, length) for length in answers))


def shuffled(rows: Rows, seed: int = 0) -> Rows:
    """The same tree, its tokens packed in any order."""
    order = list(range(size(rows)))
    random.Random(seed).shuffle(order)
    return [[order[token] for token in row] for row in rows]


def breadth_first(rows: Rows) -> Rows:
    """The same tree with the tokens of equal depth packed next to each other, siblings interleaved."""
    depth = {token: place for row in rows for place, token in enumerate(row)}
    place = {token: number for number, token in enumerate(sorted(depth, key=lambda token: (depth[token], token)))}
    return [[place[token] for token in row] for row in rows]


def size(rows: Sequence[Sequence[int]]) -> int:
    return 1 + max(token for row in rows for token in row)


LAYOUTS: dict[str, Rows] = {
    "one token": grown((None, 1)),
    "one row": grown((None, 23)),
    "rows alone": grown((None, 3), (None, 12), (None, 1), (None, 30)),
    "short prompt": grown(*group(3, [3, 9, 1])),
    "long prompt": grown(*group(40, [3, 21, 1, 8, 2])),
    "siblings that share more": grown((None, 17), (0, 12), (1, 5), (1, 2), (0, 4), (1, 9)),
    "branches of branches": grown((None, 20), (0, 14), (1, 11), (2, 3), (2, 6), (1, 7), (0, 16), (6, 2), (6, 13)),
    "short beginning, then a long one": grown((None, 2), (0, 1), (0, 30), (2, 4), (2, 9)),
    "rows within rows": [[0], [0, 1, 2, 3], [0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]],
    "several groups": grown((None, 25), (0, 4), (0, 9), (None, 2), (3, 5), (3, 1), (None, 31), (6, 3), (6, 18), (None, 6)),
    "breadth first": breadth_first(grown((None, 20), (0, 9), (1, 4), (1, 7), (0, 2), (None, 5))),
    "any order": shuffled(grown((None, 20), (0, 9), (1, 4), (1, 7), (0, 2), (None, 26), (5, 3), (5, 8))),
}
"""Trees by name. Where a test lowers the cost at which a beginning becomes a span, those of about 10 tokens and more are spans."""


def tensors(rows: Sequence[Sequence[int]], *, key_heads: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, ...]:
    """Random `query [1, H, T, d]`, `key [1, K, T, d]`, `value [1, K, T, e]` that require gradients."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        (2 * torch.randn(1, heads, size(rows), width, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
        for heads, width in ((HEADS, WIDTH), (key_heads, WIDTH), (key_heads, NARROW))
    )


def dense(
    rows: Sequence[Sequence[int]], query: Tensor, key: Tensor, value: Tensor,
    *, scaling: float, window: int | None = None, softcap: float | None = None, sinks: Tensor | None = None,
) -> Tensor:
    """Every row attended to alone, in float64: `[1, H, T, e]`."""
    answers: dict[int, Tensor] = {}
    for row in rows:
        if not answers.keys() >= set(row):
            inputs = (tensor[0, :, row].double() for tensor in (query, key, value))
            output = _dense_row(*inputs, scaling=scaling, window=window, softcap=softcap, sinks=sinks).unbind(1)
            answers.update((token, output[place]) for place, token in enumerate(row) if token not in answers)
    return torch.stack([answers[token] for token in range(size(rows))], dim=1)[None]


def _dense_row(
    query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    """`[H, L, d]` over `[K, L, d]` and `[K, L, e]` to `[H, L, e]`."""
    key, value = (tensor.repeat_interleave(len(query) // len(tensor), dim=0) for tensor in (key, value))
    scores = query @ key.transpose(1, 2) * scaling  # [H, L, L]
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~ancestors([range(query.shape[1])], window), -math.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks.double()[:, None, None].expand(-1, scores.shape[1], 1)], -1)  # [H, L, L + 1]
    return scores.softmax(-1)[..., : value.shape[1]] @ value


def ancestors(rows: Sequence[Sequence[int]], window: int | None = None) -> Tensor:
    """`[T, T]` True where token i of some row sees token j: it stands before it, or is it, and is near enough."""
    seen = torch.zeros(size(rows), size(rows), dtype=torch.bool)
    for row in rows:
        for place, token in enumerate(row):
            first = 0 if window is None else max(0, place - window + 1)
            seen[token, list(row[first : place + 1])] = True
    return seen


def gradients(attend: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: Sequence[Tensor], seed: int = 9) -> tuple[Tensor, ...]:
    """Of the inputs, for a random gradient of the output."""
    output = attend(*inputs)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.autograd.grad((output.double() * upstream).sum(), inputs)
