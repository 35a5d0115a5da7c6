"""What torch says of itself and of the GPUs, and whether a CPU computes by the compiled kernels: asked of another process.

The one hard idea: where torch is broken, importing it may raise, hang, or kill the process. Each question therefore has a process and a
time limit of its own, and what it answers instead is told.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heron.run.machine.fact import Fact
from heron.run.text import one_line

TORCH = """
import json, torch
found = {"version": torch.__version__, "cuda": torch.version.cuda, "is_available": torch.cuda.is_available(), "gpus": []}
for index in range(torch.cuda.device_count() if found["is_available"] else 0):
    with torch.cuda.device(index):
        about = torch.cuda.get_device_properties(index)
        found["gpus"].append({"name": about.name, "capability": f"{about.major}.{about.minor}",
                              "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False)})
print(json.dumps(found))
"""
KERNELS = "from heron.kernels.host.build import built; print(built().verdict)"
PATIENCE_S = 60
"""Torch is loaded, and the kernels are compiled if they never were."""


class Unanswered(Exception):
    """The other process did not say it; the words are why."""


def torch_facts(*, has_gpu: bool = False) -> list[Fact]:
    """Torch and its device, the precision there, the kernels; `has_gpu` where the machine is known to have one."""
    return [*_torch(has_gpu), _kernels()]


def _torch(has_gpu: bool) -> list[Fact]:
    try:
        found = json.loads(_ask(TORCH, "torch"))
    except (Unanswered, ValueError) as reason:
        advice = f"Nothing can be trained without torch. Try: {sys.executable} -c 'import torch'"
        return [_fact("torch", f"not known: {reason}", advice=advice)]
    return [_build(found, has_gpu), *(_precision(index, gpu) for index, gpu in enumerate(found["gpus"]))]


def _build(found: Mapping[str, Any], has_gpu: bool) -> Fact:
    version, cuda = found["version"], found["cuda"]
    if found["is_available"]:
        return _fact("torch", f"{version}, CUDA {cuda}, {len(found['gpus'])} GPU(s) usable", found)
    if not cuda:
        advice = "There is a GPU, but this torch was built without CUDA: install one from https://pytorch.org." if has_gpu else ""
        return _fact("torch", f"{version}, built for CPUs alone", found, advice)
    advice = "Does CUDA_VISIBLE_DEVICES hide the GPU, or is the driver older than this CUDA?" if has_gpu else ""
    return _fact("torch", f"{version}, CUDA {cuda}, but no GPU that it can use: training runs on the CPU", found, advice)


def _precision(index: int, gpu: Mapping[str, Any]) -> Fact:
    can = gpu["bfloat16"]
    advice = "" if can else "Choose --model.dtype=float16 or float32: this GPU is older than bfloat16."
    return _fact(f"GPU {index} precision", "bfloat16 and float32" if can else "float32, but no bfloat16", can, advice)


def _kernels() -> Fact:
    try:
        return _fact("compiled kernels (CPU)", one_line(_ask(KERNELS, "torch and the C compiler"), 400))
    except Unanswered as reason:
        return _fact("compiled kernels (CPU)", f"not known: {reason}")


def _ask(program: str, whom: str) -> str:
    """What a Python program prints, run where Heron lies, so that nothing beside the user is imported in torch's place."""
    question, here = [sys.executable, "-c", program], Path(__file__).parents[3]
    try:
        answer = subprocess.run(
            question, cwd=here, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as late:
        raise Unanswered(f"{whom} took more than {PATIENCE_S} seconds") from late
    if answer.returncode:
        (*_, last) = ("", *answer.stderr.strip().splitlines())
        raise Unanswered(one_line(last, 300) or f"Python ended with exit code {answer.returncode}")
    return answer.stdout


def _fact(name: str, words: str, data: Any = None, advice: str = "") -> Fact:
    return Fact(group="torch", name=name, words=words, data=data, advice=advice)
