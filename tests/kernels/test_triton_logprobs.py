"""The Triton kernels without a GPU: run by Triton's interpreter, and compiled for one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from heron.kernels.logprobs import selected_logprobs

pytest.importorskip("triton", reason="triton is not installed: it comes with torch for CUDA, or from PyPI for its interpreter")


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: Triton decides when it is imported whether it interprets."""
    return subprocess.run(
        [sys.executable, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_interpreted_kernels_pass_the_tests_of_the_torch_epilogue() -> None:
    """Prevents: a kernel that forgets a cap, a bias, the target, the entropy, or the words right of a tile's end."""
    tests = Path(__file__).with_name("test_logprobs.py")
    done = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "triton", str(tests)], TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


@pytest.mark.slow
def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """Prevents: kernels that the interpreter forgives and the compiler does not, and rows that no longer fit into registers."""
    done = run(["-c", _COMPILE], TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0")
    if "NO COMPILER" in done.stdout:
        pytest.skip("this build of triton has no assembler for NVIDIA GPUs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["_fold_kernel", "0", "_gradient_kernel", "0"], "names, and bytes of spilled registers"


def test_kernel_on_a_cpu_without_the_interpreter_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a caller who asks for Triton by name and silently gets something else."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter runs on a CPU")
    arguments: Any = (torch.zeros(2, 3), torch.zeros(4, 3), torch.tensor([0, 1]))
    with pytest.raises((RuntimeError, ValueError)):
        selected_logprobs(*arguments, epilogue="triton")


_COMPILE = """
import re, subprocess, sys, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from heron.kernels import triton_logprobs as kernels
from heron.kernels.logprobs_tiles import MAX_WORDS
try:
    from triton.backends.nvidia.compiler import get_ptxas
except ImportError:
    print("NO COMPILER"); sys.exit()

KINDS = {"out_ptr": "*bf16", "target_ids_ptr": "*i64"}
KINDS |= dict.fromkeys(("start", "num_words", "tile_stride", "out_stride"), "i32")
KINDS |= dict.fromkeys(("scale", "softcap", "temperature"), "fp32")
for kernel in (kernels._fold_kernel, kernels._gradient_kernel):
    flags = {name: True for name in kernel.arg_names if name.startswith("HAS_")} | {"FLOOR": kernels.FAR_BELOW, "BLOCK": MAX_WORDS}
    types = {name: KINDS.get(name, "*fp32") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=types | dict.fromkeys(flags, "constexpr"), constexprs=flags)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8})
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(made.asm["ptx"]); file.flush()
        assembler = [get_ptxas(90).path, "-v", "--gpu-name=sm_90a", file.name, "-o", "/dev/null"]
        told = subprocess.run(assembler, capture_output=True, text=True).stderr
    print(kernel.__name__, re.search(r"(\\d+) bytes spill stores", told).group(1))
"""
