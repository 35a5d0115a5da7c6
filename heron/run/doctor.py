"""`heron doctor`: what this machine offers, and what is wrong with a run.

The one hard idea: it reports and never repairs, and it loads no torch, so it also answers where torch is what is broken. What only torch
can say, another process is asked for.
Values of tokens and keys are never shown, only whether they are set.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from heron.run.alerts import Alert, History, examine
from heron.run.reader import Run
from heron.run.text import one_line

PACKAGES = ("heron-rl", "torch", "transformers", "safetensors", "peft", "datasets", "pyarrow", "rich")
SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HOME", "HF_TOKEN", "CUDA_VISIBLE_DEVICES", "NO_COLOR", "CI")

KERNELS = "from heron.kernels.host.build import built; print(built().verdict)"
KERNELS_PATIENCE_S = 60
"""Torch is loaded, and the kernels are compiled if they never were."""


def diagnose(run: Run) -> tuple[Alert, ...]:
    """Why the run ended early, if it did; then every alert that its record gives reason for, the gravest first."""
    return (*_ended_early(run), *examine(History(metrics=run.metrics(), evaluations=run.evaluations())))


def machine_report(folder: str | Path = ".") -> dict[str, str]:
    """The machine in lines to read or to paste: system, memory, disk of `folder`, GPUs, packages, what is set in the environment."""
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "cpu cores": str(_cores()),
        "memory": _memory(),
        "disk": _disk(Path(folder)),
        "gpu": _gpus(),
        "compiled kernels (CPU)": _kernels(),
        **{name: _version(name) for name in PACKAGES},
        "set in the environment": ", ".join(name for name in SWITCHES if name in os.environ) or "none of " + ", ".join(SWITCHES),
    }


def _ended_early(run: Run) -> tuple[Alert, ...]:
    """A run that failed or was interrupted, and how to go on with it."""
    status = run.status
    if status not in ("failed", "interrupted"):
        return ()
    steps = len(run.metrics())
    cause = f": {one_line(run.error, 400)}" if run.error else ", with no error recorded"
    return (Alert(
        id=status,
        title=f"The run {'failed' if status == 'failed' else 'was interrupted'}",
        evidence=f"it ended after {steps} {'step' if steps == 1 else 'steps'}{cause}",
        advice=f"{'Mend the cause, then go' if status == 'failed' else 'Go'} on with: {run.resume_command}",
    ),)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _memory() -> str:
    known = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in known:
        return "unknown"
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"


def _disk(folder: Path) -> str:
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    usage = shutil.disk_usage(existing)
    return f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB free at {existing}"


def _gpus() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "none found (no nvidia-smi); training runs on the CPU"
    question = [program, "--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return "nvidia-smi did not answer within 10 seconds: the driver may be stuck"
    words = answer.stdout.strip() or answer.stderr.strip() or f"no output, exit code {answer.returncode}"
    return "; ".join(words.splitlines())


def _kernels() -> str:
    """Whether a CPU computes by the compiled kernels, or why not."""
    question, here = [sys.executable, "-c", KERNELS], Path(__file__).parents[2]
    try:
        answer = subprocess.run(question, cwd=here, capture_output=True, text=True, timeout=KERNELS_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return f"not known: torch and the C compiler took more than {KERNELS_PATIENCE_S} seconds"
    if answer.returncode:
        (*_, last) = ("", *answer.stderr.strip().splitlines())
        return f"not known: {one_line(last, 300) or f'Python ended with exit code {answer.returncode}'}"
    return one_line(answer.stdout, 400)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
