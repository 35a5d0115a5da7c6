"""Peak memory of one way from hidden states to log-probs, each in a process of its own.

The one hard idea: the kernel keeps the peak of a process's resident memory (`VmHWM`) and resets it on request, so what a call adds is
the peak after it, less what was resident before. A small call of the same kind comes first, so that libraries are loaded and their
scratch memory exists; everything larger counts. What it leaves out: systems other than Linux, where nothing is measured.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.logprobs_ways import Shape, forward_and_backward

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_megabytes(name: str, shape: Shape) -> float | None:
    """What forward and backward add to the memory of a fresh process with one thread; None where the system does not tell."""
    if not CLEAR.exists():
        return None
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, name, json.dumps(dataclasses.asdict(shape))], check=True, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    return float(done.stdout.splitlines()[-1])


def measure_here(name: str, shape: Shape) -> float:
    """The same in this process."""
    forward_and_backward(name, dataclasses.replace(shape, tokens=64, vocabulary=256).inputs())
    inputs = shape.inputs()
    gc.collect()
    CLEAR.write_text("5")
    before = _kilobytes("VmRSS")
    forward_and_backward(name, inputs)
    return (_kilobytes("VmHWM") - before) * 1024 / 1e6


def _kilobytes(field: str) -> int:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    print(measure_here(sys.argv[1], Shape(**json.loads(sys.argv[2]))))
