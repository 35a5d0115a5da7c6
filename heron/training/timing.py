"""Where the time of a step goes, and how much memory the process has taken at most."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch


class StepClock:
    """Seconds by phase of one step; the rest is reported too."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.overlapped: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to phase `name`."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    def beside(self, name: str, seconds: float) -> None:
        """So much of phase `name` happened while another one went on; the step did not wait for it."""
        self.overlapped[name] = self.overlapped.get(name, 0.0) + seconds

    def metrics(self, *, sampled_tokens: int, trained_tokens: int) -> dict[str, float]:
        """`time/*` in seconds, `throughput/*` in tokens per second. The phases are what the step waited for, so with `time/unaccounted`
        they are `time/step`; `time/<phase>_overlapped` comes on top where a phase ran beside another one."""
        total = time.perf_counter() - self.started
        values = {f"time/{name}": seconds for name, seconds in self.seconds.items()}
        values |= {"time/step": total, "time/unaccounted": total - sum(self.seconds.values())}
        values |= {f"time/{name}_overlapped": seconds for name, seconds in self.overlapped.items()}
        for phase, tokens in (("sample", sampled_tokens), ("score", sampled_tokens), ("train", trained_tokens)):
            if spent := self.seconds.get(phase, 0.0) + self.overlapped.get(phase, 0.0):
                values[f"throughput/{phase}_tokens_per_second"] = tokens / spent
        return values


def peak_gib() -> float:
    """Most memory so far, in GiB: allocated on the GPU if there is one, else resident in the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**30 if sys.platform == "darwin" else 2**20)



def resident(field: str = "VmRSS") -> int:
    """Bytes of the host's memory that the process holds; `VmHWM`: has held at most. 0 on a system that does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)
