"""Seconds, megabytes and errors of the sides of `benchmarks.logprobs`.

    python -m benchmarks.logprobs_measure SIDE TOKENS VOCABULARY WIDTH DTYPE frozen|trained

prints the extra megabytes of one forward and backward pass: a process of its own for each figure, since what one call leaves in the
allocator hides the peak of the next.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.logprobs_sides import Case, Inputs, side


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """CPU seconds of one forward and backward pass."""

    user: float
    """Computing."""
    system: float
    """In the operating system: nearly all of it is memory being handed out, page by page."""

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.system

    def __str__(self) -> str:
        return f"{self.total:.2f} s ({self.system:.2f} system)"


def least_seconds(case: Case, names: Sequence[str], *, rounds: int) -> dict[str, Seconds]:
    """Of each side's fastest round; the sides take turns."""
    inputs, seconds = Inputs.of(case), {name: Seconds(user=float("inf"), system=0) for name in names}
    warm_up = Inputs.of(replace(case, tokens=8, vocabulary=64))
    for name in names:
        warm_up.run(side(name))
    for _ in range(rounds):
        for name in names:
            seconds[name] = min(seconds[name], _seconds(inputs, name), key=lambda one: one.total)
    return seconds


def _seconds(inputs: Inputs, name: str) -> Seconds:
    before = resource.getrusage(resource.RUSAGE_SELF)
    inputs.run(side(name))
    after = resource.getrusage(resource.RUSAGE_SELF)
    return Seconds(user=after.ru_utime - before.ru_utime, system=after.ru_stime - before.ru_stime)


def extra_megabytes(case: Case, name: str) -> float:
    """Peak of resident memory over what was there before the call, in a fresh process with one thread."""
    arguments = [name, str(case.tokens), str(case.vocabulary), str(case.width), case.dtype, "trained" if case.is_trained else "frozen"]
    command = [sys.executable, "-m", "benchmarks.logprobs_measure", *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Of one side, against float64 on the same inputs."""

    logprob: float
    """Largest absolute."""
    gradient: float
    """Relative, hidden's, Euclidean norm."""
    highest: float
    """Largest log-prob that it returned."""


def errors(case: Case, names: Sequence[str]) -> dict[str, Errors]:
    """Of a policy that is sure of half of its tokens."""
    inputs = _sharpened(Inputs.of(case))
    truth = Inputs(hidden=_wide(inputs.hidden), head=_wide(inputs.head).requires_grad_(False), targets=inputs.targets,
                   upstream=inputs.upstream.double())
    exact = truth.run(_exact)
    assert truth.hidden.grad is not None
    return {name: _errors(inputs, name, exact, truth.hidden.grad) for name in names}


def _errors(inputs: Inputs, name: str, exact: Tensor, exact_gradient: Tensor) -> Errors:
    found = inputs.run(side(name))
    assert inputs.hidden.grad is not None
    gradient = inputs.hidden.grad.double() - exact_gradient
    return Errors(
        logprob=float((found.double() - exact).abs().max()), gradient=float(gradient.norm() / exact_gradient.norm()),
        highest=float(found.max()),
    )


def _sharpened(inputs: Inputs) -> Inputs:
    """Every second hidden state leans towards its target, from hardly to so far that the log-prob is 0 in float32."""
    hidden = inputs.hidden.detach().clone()
    lean = torch.linspace(1, 40, len(hidden[::2]), dtype=hidden.dtype)[:, None]
    hidden[::2] += lean * inputs.head.detach()[inputs.targets[::2]]
    return Inputs(hidden=hidden.requires_grad_(), head=inputs.head, targets=inputs.targets, upstream=inputs.upstream)


def _exact(inputs: Inputs) -> Tensor:
    return torch.nn.functional.linear(inputs.hidden, inputs.head).log_softmax(-1).gather(-1, inputs.targets[:, None]).squeeze(-1)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().double().requires_grad_()


def _main(arguments: Sequence[str]) -> None:
    name, tokens, vocabulary, width, dtype, head = arguments
    torch.set_num_threads(1)
    case = Case(tokens=int(tokens), vocabulary=int(vocabulary), width=int(width), dtype=dtype, is_trained=head == "trained")
    Inputs.of(replace(case, tokens=8, vocabulary=64)).run(side(name))  # libraries, and what they set up once
    inputs = Inputs.of(case)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _kilobytes("VmRSS")
    inputs.run(side(name))
    print((_kilobytes("VmHWM") - before) / 1024)


def _kilobytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}: peaks can be measured on Linux only.")


if __name__ == "__main__":
    _main(sys.argv[1:])
