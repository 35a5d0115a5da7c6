"""Decoding through pages with Triton, without a GPU: run by its interpreter, and compiled for one.

Tests that take `decode` are run by `test_kernels_pass_under_the_interpreter` in a process of their own, and on a GPU where there is one.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from naive_paged import naive_paged_decode
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed: it comes with torch for CUDA, or from PyPI for its interpreter")

PAGE, PAGES = 4, 40
POSITIONS = (0, 3, 4, 75, 37)
"""Of the newest tokens: the first of all, the last and the first of a page, and several tiles."""
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.fixture
def decode(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """The function under test, interpreted or on a GPU, with tiles of 16 tokens: the longest row has five."""
    is_interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if not is_interpreted and not torch.cuda.is_available():
        pytest.skip("run under the interpreter by another test")
    from heron.kernels import triton_paged

    monkeypatch.setattr(triton_paged, "TILE_BYTES", 0)
    monkeypatch.setattr(triton_paged, "LEAST_TILES", 1)
    if is_interpreted:
        _multiply_bfloat16(monkeypatch)
        return triton_paged.paged_decode
    return lambda *given, **settings: triton_paged.paged_decode(*(tensor.cuda() for tensor in given), **settings).cpu()


def _multiply_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's interpreter holds bfloat16 as integers of 16 bits, and its `dot` multiplies these: widen them first."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    multiply = InterpreterBuilder.create_dot

    def widened(operand: Any) -> Any:
        if operand.dtype.scalar != tl.bfloat16:
            return operand
        return TensorHandle((operand.data.astype("uint32") << 16).view("float32"), tl.float32)

    def dot(self: Any, left: Any, right: Any, *rest: Any) -> Any:
        return multiply(self, widened(left), widened(right), *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", dot)


def tensors(heads: int = 4, key_heads: int = 2, width: int = 16, value_width: int = 16, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query, keys, values, block table, positions. The last two rows share their first pages; what nobody may read is NaN."""
    generator, draw = torch.Generator().manual_seed(0), random.Random(0)
    free = draw.sample(range(1, PAGES), PAGES - 1)
    counts = [position // PAGE + 1 for position in POSITIONS]
    table = torch.full((len(POSITIONS), max(counts) + 1), 0, dtype=torch.int32)
    for row, count in enumerate(counts):
        shared = table[row - 1, : count - 1].tolist()[:8] if row == len(counts) - 1 else []
        table[row, :count] = torch.tensor([*shared, *(free.pop() for _ in range(count - len(shared)))])
    keys, values = (torch.randn(PAGES, key_heads, PAGE, size, generator=generator) for size in (width, value_width))
    for kind in (keys, values):
        kind[[0, *free]] = float("nan")
        for row, position in enumerate(POSITIONS):
            kind[table[row, counts[row] - 1], :, position % PAGE + 1 :] = float("nan")
    query = torch.randn(len(POSITIONS), heads, width, generator=generator)
    return [query.to(dtype), keys.to(dtype), values.to(dtype), table, torch.tensor(POSITIONS)]


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("splits", [1, 2, 4, None])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (7, None), (None, 1.5), (1, 1.5), (40, None), (1000, None)])
def test_equals_naive(
    decode: Callable[..., Tensor], dtype: torch.dtype, splits: int | None, window: int | None, softcap: float | None
) -> None:
    """Prevents: tokens behind the newest one, windows that are off by one, shares counted twice or without tokens, pages of others."""
    given = tensors(dtype=dtype)
    settings: dict[str, Any] = {"scaling": 0.3, "window": window, "softcap": softcap}
    output, expected = decode(*given, splits=splits, **settings), naive_paged_decode(*given, **settings)
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected, rtol=CLOSE[dtype], atol=CLOSE[dtype])


@pytest.mark.parametrize(("heads", "key_heads", "width", "value_width"), [(1, 1, 16, 16), (6, 2, 24, 8), (32, 1, 8, 40), (4, 4, 80, 128)])
@pytest.mark.parametrize("splits", [1, 4])
def test_shapes(decode: Callable[..., Tensor], heads: int, key_heads: int, width: int, value_width: int, splits: int) -> None:
    """Prevents: query heads that read another key head, or padding of heads and widths that reaches the output."""
    given = tensors(heads, key_heads, width, value_width)
    output = decode(*given, scaling=0.2, splits=splits)
    torch.testing.assert_close(output, naive_paged_decode(*given, scaling=0.2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("splits", [1, 4])
def test_sinks(decode: Callable[..., Tensor], splits: int) -> None:
    """Prevents: a sink that is counted once for each share, or for none."""
    given, sinks = tensors(), torch.tensor([-3.0, 0.0, 2.0, 40.0])
    output = decode(*given, scaling=0.3, window=30, sinks=sinks.to(given[0].device), splits=splits)
    torch.testing.assert_close(output, naive_paged_decode(*given, scaling=0.3, window=30, sinks=sinks), rtol=1e-5, atol=1e-5)


def test_strides(decode: Callable[..., Tensor]) -> None:
    """Prevents: a kernel that takes a slice of a table, or a query that a model has transposed, for contiguous."""
    query, keys, values, table, positions = tensors()
    wide = torch.cat([table, torch.full_like(table, -1)], dim=1)[:, : table.shape[1]]
    output = decode(query.transpose(1, 2).contiguous().transpose(1, 2), keys, values, wide, positions, scaling=0.3, splits=2)
    torch.testing.assert_close(output, naive_paged_decode(query, keys, values, table, positions, scaling=0.3), rtol=1e-5, atol=1e-5)


def test_how_many_shares() -> None:
    """Prevents: one row that keeps one processor busy while the others wait, and shares of many rows that nobody needs."""
    from heron.kernels.triton_paged import splits_for

    assert splits_for(256 * 8, tiles=512, processors=132) == 1
    assert splits_for(8, tiles=512, processors=132) == 64
    assert splits_for(8, tiles=5, processors=132) == 2
    assert splits_for(1, tiles=0, processors=1) == 1


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: Triton decides when it is imported whether it interprets."""
    return subprocess.run(
        [sys.executable, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="this is that process")
def test_kernels_pass_under_the_interpreter() -> None:
    """Runs the tests above that take `decode`."""
    done = run(["-m", "pytest", "-p", "no:cacheprovider", "-k", "naive or shapes or strides", __file__], TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout and "skipped" not in done.stdout


@pytest.mark.slow
def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """Prevents: kernels that the interpreter forgives and the compiler does not, spilled registers, more shared memory than there is."""
    done = run(["-c", _COMPILE], TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0")
    if "NO COMPILER" in done.stdout:
        pytest.skip("this build of triton has no assembler for NVIDIA GPUs")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 5
    for name, spilled, shared in lines:
        assert int(spilled) == 0, f"{name} spills {spilled} bytes"
        assert int(shared) <= 227 << 10, f"{name} needs {shared} bytes of shared memory"


_COMPILE = """
import re, subprocess, sys, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from heron.kernels import triton_paged as kernels
try:
    from triton.backends.nvidia.compiler import get_ptxas
except ImportError:
    print("NO COMPILER"); sys.exit()

KINDS = {"table_ptr": "*i32", "positions_ptr": "*i64", "parts_ptr": "*fp32", "sums_ptr": "*fp32", "scaling": "fp32", "softcap": "fp32"}

def compiled(name, kernel, constants, kinds):
    flags = {each: constants[each] for each in kernel.arg_names if each.isupper()}
    types = {each: kinds.get(each, "i32") for each in kernel.arg_names} | dict.fromkeys(flags, "constexpr")
    aligned = {(number,): [["tt.divisibility", 16]] for number, each in enumerate(kernel.arg_names)
               if types[each].startswith("*") or each.startswith(("keys_", "values_"))}
    source = ASTSource(fn=kernel, signature=types, constexprs=flags, attrs=aligned)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(made.asm["ptx"]); file.flush()
        assembler = [get_ptxas(90).path, "-v", "--gpu-name=sm_90a", file.name, "-o", "/dev/null"]
        told = subprocess.run(assembler, capture_output=True, text=True).stderr
    print(name, re.search(r"(\\d+) bytes spill stores", told).group(1), made.metadata.shared)

for width, kind in ((64, "bf16"), (128, "bf16"), (128, "fp32"), (256, "bf16")):
    constants = {"HAS_WINDOW": True, "HAS_CAP": True, "SPLITS": 4, "GROUP": 4, "WIDTH": width, "VALUE_WIDTH": width, "PAGE": 32,
                 "TOKENS": kernels._tile_tokens(2 * width, 2 if kind == "bf16" else 4), "LEAST": kernels.LEAST_TILES}
    constants |= kernels._blocks(4, width, width)
    pointers = dict.fromkeys(("query_ptr", "keys_ptr", "values_ptr"), f"*{kind}")
    compiled(f"decode-{width}-{kind}", kernels._decode_kernel, constants, KINDS | pointers)
constants = {"SPLITS": 64, "WIDTH": 128, "SPLITS_BLOCK": 64, "WIDTH_BLOCK": 128}
compiled("merge", kernels._merge_kernel, constants, KINDS | {"output_ptr": "*bf16"})
"""
