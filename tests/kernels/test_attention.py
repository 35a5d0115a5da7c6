"""Packed attention with shared prefixes against dense attention of every row alone; and what transformers hands over."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from heron.kernels.attention import PackedPlan, causal_attention, packed_plan

CPU = torch.device("cpu")
HEADS, WIDTH = 4, 6


def dense(query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None) -> Tensor:
    """`[H, L, d]` over `[K, L, d]`, with loops over heads and queries, in the order of the textbook."""
    heads, length, _ = query.shape
    output = torch.empty(heads, length, value.shape[-1], dtype=query.dtype)
    for head in range(heads):
        shared = head * key.shape[0] // heads
        for i in range(length):
            first = 0 if window is None else max(0, i - window + 1)
            scores = key[shared, first : i + 1] @ query[head, i] * scaling
            output[head, i] = scores.softmax(-1) @ value[shared, first : i + 1]
    return output


def packed_tensors(tokens: int, key_heads: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(  # type: ignore[return-value]
        torch.randn(1, heads, tokens, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()
        for heads in (HEADS, key_heads, key_heads)
    )


def group_rows(prompt: int, answers: list[int], start: int = 0) -> tuple[list[list[int]], int]:
    """Rows of a packed group, and the index behind it."""
    first = list(range(start, start + prompt))
    rows, end = [], start + prompt
    for length in answers:
        rows.append([*first, *range(end, end + length)])
        end += length
    return rows, end


LAYOUTS = {
    "one row": group_rows(7, [0])[0],
    "siblings": group_rows(5, [3, 9, 1, 0])[0],
    "two groups, very ragged": group_rows(4, [2, 40, 3])[0] + group_rows(1, [1, 6], start=49)[0],
    "rows alone": [list(range(3)), list(range(3, 15)), list(range(15, 16))],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 1, 3, 8])
def test_packed_equals_dense_row_by_row(layout: str, key_heads: int, window: int | None) -> None:
    """Prevents: siblings that see each other, a window or a key head that is off by one, outputs in the wrong order."""
    rows = LAYOUTS[layout]
    query, key, value = packed_tensors(1 + max(max(row) for row in rows), key_heads)
    output = packed_plan(rows, device=CPU).attend(0, query, key, value, scaling=0.3, window=window)
    assert output.shape == query.shape
    for row in rows:
        expected = dense(query[0][:, row], key[0][:, row], value[0][:, row], scaling=0.3, window=window)
        torch.testing.assert_close(output[0][:, row], expected, rtol=1e-9, atol=1e-10)


def test_gradients_through_the_shared_prompt() -> None:
    """The prompt's keys and values get the gradient of every sibling; its queries only once."""
    rows, end = group_rows(5, [3, 4, 2])
    query, key, value = packed_tensors(end, 2)
    upstream = torch.randn(end, HEADS, WIDTH, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    output = packed_plan(rows, device=CPU).attend(0, query, key, value, scaling=0.3, window=None)
    found = torch.autograd.grad((output[0].transpose(0, 1) * upstream).sum(), (query, key, value))
    total, seen = torch.zeros((), dtype=torch.float64), set()
    for row in rows:
        own = dense(query[0][:, row], key[0][:, row], value[0][:, row], scaling=0.3, window=None).transpose(0, 1)
        for place, token in enumerate(row):
            if token not in seen:
                seen.add(token)
                total = total + (own[place] * upstream[token]).sum()
    for ours, theirs in zip(found, torch.autograd.grad(total, (query, key, value)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("slack", [1.0, 1.25, 100.0])
def test_every_token_is_answered_once(layout: str, slack: float) -> None:
    """Prevents: a token whose output is missing, or comes twice, however rows are sorted into grids."""
    rows = LAYOUTS[layout]
    plan = packed_plan(rows, device=CPU, slack=slack)
    tokens = torch.cat([grid.tokens for grid in plan.grids])
    assert sorted(tokens.tolist()) == sorted({token for row in rows for token in row})
    assert torch.equal(tokens[plan.order], torch.arange(len(tokens)))


def test_grids_bound_the_padding() -> None:
    """One long row must not make all the others as long."""
    rows, _ = group_rows(2, [10] * 20 + [1000])
    plan: PackedPlan = packed_plan(rows, device=CPU)
    assert sum(grid.gather.numel() for grid in plan.grids) < 1.3 * sum(len(row) for row in rows)


@pytest.mark.parametrize("window", [None, 2, 5])
def test_padding_never_reaches_an_output(window: int | None) -> None:
    """Garbage in another row's tokens, NaN even, must not change a row."""
    rows, end = group_rows(3, [2, 9])
    query, key, value = (tensor.detach().clone() for tensor in packed_tensors(end, 2))
    plan = packed_plan(rows, device=CPU, slack=100.0)
    before = plan.attend(0, query, key, value, scaling=0.3, window=window)
    own = sorted(set(rows[1]) - set(rows[0]))
    for tensor in (key, value):
        tensor[:, :, own] = 1e6
    after = plan.attend(0, query, key, value, scaling=0.3, window=window)
    torch.testing.assert_close(after[:, :, rows[0]], before[:, :, rows[0]])


def test_window_wider_than_the_row_is_no_window() -> None:
    query, key, value = (tensor.detach() for tensor in packed_tensors(6, 2))
    plain = causal_attention(query, key, value, scaling=0.4, window=None)
    torch.testing.assert_close(causal_attention(query, key, value, scaling=0.4, window=6), plain)
    assert not torch.allclose(causal_attention(query, key, value, scaling=0.4, window=5), plain)
