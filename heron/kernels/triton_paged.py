"""Attention of one new token per row through a table of its pages, as two Triton kernels: what decoding runs on a GPU.

The one hard idea: one program takes one key head of one row and a share of the row's tokens, and meets them with all the query heads of
that key head at once; a second kernel adds up the shares on the common scale of their largest score (FlashDecoding). Lengths are read on
the device and the grid depends on shapes alone, so that a CUDA graph can hold the launches while rows grow. Siblings follow each other
in the grid: a page that they share is read from memory by the first of them, and from the L2 cache by the others.

Products are of the keys' type with sums in float32, exact for float32 (no TF32). Not yet run on a GPU: the tests run under Triton's
interpreter, and the kernels are compiled for one. What it leaves out: gradients, float64, and tuning.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives the parameters of its kernels their types.
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from heron.kernels.packed_tiles import beside_sinks

TILE_BYTES = 32 << 10
"""Keys and values that a program loads at once; the compiler keeps up to three such tiles on the way."""
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
"""Of keys and values that the kernel multiplies."""
PROGRAMS = 4
"""Wanted for each processor of the GPU, if there are tokens enough."""
LEAST_TILES = 2
"""A share is no shorter than so many tiles: adding up costs more than it saves."""


def paged_decode(
    query: Tensor, keys: Tensor, values: Tensor, block_table: Tensor, positions: Tensor,
    *, scaling: float, window: int | None = None, softcap: float | None = None, sinks: Tensor | None = None, splits: int | None = None,
) -> Tensor:
    """What each row's newest token sees in its pages: itself, and what stands before it.

    Args:
        query: `[B, H, d]`.
        keys: `[P, K, s, d]` all pages of s tokens, d contiguous; K divides H. Of the query's type.
        values: `[P, K, s, e]`.
        block_table: `[B, M]` int32, the pages of each row in order. Entries behind the newest token's page are not read.
        positions: `[B]` of the newest tokens.
        scaling: multiplies the scores.
        window: tokens that many positions away or farther are not seen.
        softcap: scores become `softcap * tanh(scores / softcap)`.
        sinks: `[H]` scores of one more key for each head, whose value is 0.
        splits: shares of a row. None: enough to keep the GPU busy.

    Returns:
        `[B, H, e]`.
    """
    assert keys.dtype in DTYPES and keys.dtype == values.dtype == query.dtype, "one type that the kernel multiplies"
    (rows, heads, width), (_, key_heads, page, value_width) = query.shape, values.shape
    tokens = _tile_tokens(width + value_width, keys.element_size())
    if splits is None:
        splits = splits_for(rows * key_heads, block_table.shape[1] * page // tokens, _processors(query.device))
    shape = (rows, splits, heads, value_width)
    parts = query.new_empty(shape, dtype=query.dtype if splits == 1 else torch.float32)
    sums = query.new_empty(shape[:3], dtype=torch.float32)
    _decode_kernel[rows, key_heads, splits](
        query.contiguous(), keys, values, block_table, positions, parts, sums, block_table.stride(0), *keys.stride()[:3],
        *values.stride()[:3], scaling, softcap or 1.0, window or 0, HAS_WINDOW=window is not None, HAS_CAP=softcap is not None,
        SPLITS=splits, GROUP=heads // key_heads, WIDTH=width, VALUE_WIDTH=value_width, PAGE=page, TOKENS=tokens,
        **_blocks(heads // key_heads, width, value_width), LEAST=LEAST_TILES,
    )
    output = parts[:, 0] if splits == 1 else _merged(parts, sums, query.dtype)
    return output if sinks is None else output * beside_sinks(sums.logsumexp(1), sinks).to(output.dtype)


def splits_for(units: int, tiles: int, processors: int) -> int:
    """Shares of each row, a power of 2, where `units` key heads of rows have up to so many tiles each."""
    wanted = min(PROGRAMS * processors // units, tiles // LEAST_TILES)
    return 1 << max(wanted, 1).bit_length() - 1


def _merged(parts: Tensor, sums: Tensor, dtype: torch.dtype) -> Tensor:
    """`[B, H, e]` from shares `[B, S, H, e]` with their log-sum-exps `[B, S, H]`."""
    rows, splits, heads, width = parts.shape
    output = parts.new_empty((rows, heads, width), dtype=dtype)
    _merge_kernel[rows, heads](
        parts, sums, output, heads, SPLITS=splits, WIDTH=width, SPLITS_BLOCK=triton.next_power_of_2(splits),
        WIDTH_BLOCK=triton.next_power_of_2(width),
    )
    return output


def _tile_tokens(width: int, itemsize: int) -> int:
    """A power of 2 from 16, the least that a product takes, to 128."""
    return min(max(1 << max(TILE_BYTES // (width * itemsize), 1).bit_length() - 1, 16), 128)


def _blocks(group: int, width: int, value_width: int) -> dict[str, int]:
    """Sizes padded to powers of 2, and to the 16 that a product takes at least."""
    sizes = {"GROUP_BLOCK": group, "WIDTH_BLOCK": width, "VALUE_BLOCK": value_width}
    return {name: max(int(triton.next_power_of_2(size)), 16) for name, size in sizes.items()}


def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@triton.jit
def _decode_kernel(
    query_ptr, keys_ptr, values_ptr, table_ptr, positions_ptr, parts_ptr, sums_ptr, table_stride, keys_page, keys_head, keys_place,
    values_page, values_head, values_place, scaling, softcap, window,
    HAS_WINDOW: tl.constexpr, HAS_CAP: tl.constexpr, SPLITS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr,
    VALUE_WIDTH: tl.constexpr, PAGE: tl.constexpr, TOKENS: tl.constexpr, GROUP_BLOCK: tl.constexpr, WIDTH_BLOCK: tl.constexpr,
    VALUE_BLOCK: tl.constexpr, LEAST: tl.constexpr,
) -> None:  # fmt: skip
    row, head, split = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64), tl.program_id(2)
    members, columns, value_columns = tl.arange(0, GROUP_BLOCK), tl.arange(0, WIDTH_BLOCK), tl.arange(0, VALUE_BLOCK)
    first_head = row * tl.num_programs(1) * GROUP + head * GROUP
    query = tl.load(
        query_ptr + (first_head + members)[:, None] * WIDTH + columns[None, :],
        mask=(members < GROUP)[:, None] & (columns < WIDTH)[None, :], other=0.0,
    )  # [g, d]
    begin, end = _share(tl.load(positions_ptr + row).to(tl.int32), split, window, HAS_WINDOW, SPLITS, TOKENS, LEAST)
    top = tl.full([GROUP_BLOCK], -float("inf"), tl.float32)
    total = tl.zeros([GROUP_BLOCK], tl.float32)
    output = tl.zeros([GROUP_BLOCK, VALUE_BLOCK], tl.float32)
    for start in range(begin, end, TOKENS):
        tokens = start + tl.arange(0, TOKENS)
        seen = tokens < end
        pages = tl.load(table_ptr + row * table_stride + tokens // PAGE, mask=seen, other=0).to(tl.int64)
        places = tokens % PAGE
        key = tl.load(
            keys_ptr + (pages * keys_page + head * keys_head + places * keys_place)[None, :] + columns[:, None],
            mask=seen[None, :] & (columns < WIDTH)[:, None], other=0.0,
        )  # [d, tokens]
        scores = tl.dot(query, key, input_precision="ieee") * scaling
        if HAS_CAP:
            scores = softcap * (2.0 * tl.sigmoid(2.0 * scores / softcap) - 1.0)  # tanh
        scores = tl.where(seen[None, :], scores, -float("inf"))
        new = tl.maximum(top, tl.max(scores, axis=1))  # finite: the first token of a tile is seen
        weights = tl.exp(scores - new[:, None])
        rescale = tl.exp(top - new)
        value = tl.load(
            values_ptr + (pages * values_page + head * values_head + places * values_place)[:, None] + value_columns[None, :],
            mask=seen[:, None] & (value_columns < VALUE_WIDTH)[None, :], other=0.0,
        )  # [tokens, e]
        output = output * rescale[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        total = total * rescale + tl.sum(weights, axis=1)
        top = new
    divisor = tl.where(total > 0.0, total, 1.0)  # of a share without tokens nothing is added up: its top is minus infinity
    share = (row * SPLITS + split) * tl.num_programs(1) * GROUP + head * GROUP + members  # [g]
    tl.store(sums_ptr + share, top + tl.log(divisor), mask=members < GROUP)
    tl.store(
        parts_ptr + share[:, None] * VALUE_WIDTH + value_columns[None, :], (output / divisor[:, None]).to(parts_ptr.dtype.element_ty),
        mask=(members < GROUP)[:, None] & (value_columns < VALUE_WIDTH)[None, :],
    )


@triton.jit
def _share(
    position, split, window, HAS_WINDOW: tl.constexpr, SPLITS: tl.constexpr, TOKENS: tl.constexpr, LEAST: tl.constexpr
):  # fmt: skip
    """The tokens of one share, from and up to; none where the row is short."""
    first = position * 0
    if HAS_WINDOW:
        first = tl.maximum(position - window + 1, 0)
    tiles = tl.cdiv(position + 1 - first, TOKENS)
    length = tl.maximum(tl.cdiv(tiles, SPLITS), LEAST) * TOKENS
    begin = first + split * length
    return begin, tl.minimum(begin + length, position + 1)


@triton.jit
def _merge_kernel(
    parts_ptr, sums_ptr, output_ptr, heads, SPLITS: tl.constexpr, WIDTH: tl.constexpr, SPLITS_BLOCK: tl.constexpr,
    WIDTH_BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    splits, columns = tl.arange(0, SPLITS_BLOCK), tl.arange(0, WIDTH_BLOCK)
    share = (row * SPLITS + splits) * heads + head  # [splits]
    sums = tl.load(sums_ptr + share, mask=splits < SPLITS, other=-float("inf"))
    weights = tl.exp(sums - tl.max(sums, axis=0))  # of a share without tokens: 0
    parts = tl.load(
        parts_ptr + share[:, None] * WIDTH + columns[None, :], mask=(splits < SPLITS)[:, None] & (columns < WIDTH)[None, :], other=0.0
    )
    output = tl.sum(parts * weights[:, None], axis=0) / tl.sum(weights, axis=0)
    tl.store(output_ptr + (row * heads + head) * WIDTH + columns, output.to(output_ptr.dtype.element_ty), mask=columns < WIDTH)
