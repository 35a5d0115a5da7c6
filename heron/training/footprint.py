"""Planned memory beside measured memory, at the end of a run's first step.

The one hard idea: a process holds its libraries before it holds a model, and those are not planned; so what is measured is the most that
was there since the model was loaded, above what was there just before. On a GPU that is what torch has allocated, on a CPU what is
resident. Shorter answers than the settings allow take less than was planned; more than planned is worth a look.

Left out: the share of each phase (`python -m benchmarks.memory_plan` measures that), and systems other than Linux without a GPU, where
nothing is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from heron.config.schema import Config
from heron.errors import ModelError
from heron.memory import Plan, in_gib
from heron.run import RunWriter
from heron.training.cost import plan_of
from heron.training.timing import resident

_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a run was planned to take, and what was there before it."""

    planned: Plan | None
    """None for a model whose memory cannot be planned."""
    estimate: str
    """The plan in a line, or why there is none."""
    device: torch.device
    """Where the model is."""
    baseline: int | None
    """Bytes before the model was loaded; None where they cannot be measured."""

    @classmethod
    def foreseen(cls, config: Config, *, prompt_tokens: int, device: torch.device, baseline: int | None) -> Footprint:
        """The plan for prompts of up to this length. Families that the planner does not know are said to be so."""
        try:
            planned = plan_of(config, prompt_tokens=prompt_tokens)
        except ModelError as error:
            return cls(planned=None, estimate=f"memory cannot be planned: {error}", device=device, baseline=baseline)
        return cls(planned=planned, estimate=f"memory planned: {planned.headline}", device=device, baseline=baseline)

    def announce(self, run: RunWriter) -> None:
        """The event `memory_plan`: what is there at the peak, where the model is, the largest first; nothing without a plan."""
        if self.planned is not None:
            rows = sorted(self.planned.rows_at_peak, key=lambda row: row.bytes, reverse=True)
            parts = [{"name": row.name, "gib": row.bytes / 2**30} for row in rows if row.bytes]
            run.event("memory_plan", place=self.planned.device, phase=self.planned.peak_phase, parts=parts)

    def record(self, run: RunWriter) -> None:
        """The event `memory`, and a sentence with both figures."""
        measured = _most(self.device)
        if self.planned is None or self.baseline is None or measured is None:
            return
        measured -= self.baseline
        run.event("memory", planned_gib=self.planned.peak / 2**30, measured_gib=measured / 2**30, place=self.planned.device)
        libraries = "" if self.device.type == "cuda" else f", above {in_gib(self.baseline)} of libraries and data"
        run.event("message", text=f"Memory up to the end of the first step: {in_gib(measured)} measured{libraries}; at most "
                                  f"{in_gib(self.planned.peak)} planned.")


def baseline_of(device: torch.device) -> int | None:
    """Bytes that are taken now; peaks are counted from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if not _PEAK.exists():
        return None
    import transformers.modeling_utils  # noqa: F401 - what loading a model would import belongs to the baseline

    _PEAK.write_text("5")  # the peak so far is forgotten
    return resident("VmRSS")


def _most(device: torch.device) -> int | None:
    """Most bytes since the baseline."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resident("VmHWM") if _PEAK.exists() else None

