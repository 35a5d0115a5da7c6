"""The table of a memory plan: rows of bytes, and the peak of every phase.

The one hard idea: loading, sampling, scoring, training and evaluation take turns, so a peak is the largest of them and not their sum; what
stays all the time counts in each. A row also says where it lies: on the GPU, or in the host's memory. On a machine without a GPU all of it
lies in the host's. Left out: how the bytes are counted (`planner`).
"""

from __future__ import annotations

from dataclasses import dataclass

ALWAYS, LOAD, SAMPLE, SCORE, TRAIN, EVALUATION = "always", "load", "sample", "score", "train", "evaluation"
"""When a row is there: from the first step on, or in one phase."""
PHASES = (LOAD, SAMPLE, SCORE, TRAIN, EVALUATION)
"""Those that take turns."""
GPU, HOST = "gpu", "host"
"""Where a row is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that takes memory."""

    name: str
    """What it is."""
    bytes: int
    """How much it takes."""
    phase: str
    """When: `always`, or in `load`, `sample`, `score`, `train` or `evaluation` alone."""
    note: str
    """How it was counted, with this run's numbers."""
    place: str = GPU
    """Where: `gpu` or `host`."""
    formula: str = ""
    """How it is counted, in letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The memory of a run. Example: `plan(config, json.load(open("config.json")), prompt_tokens=200).peak`."""

    rows: tuple[Row, ...]
    """Everything that takes memory."""
    parameters: int
    """Weights of the model, without the adapter."""
    trainable_parameters: int
    """Weights that are trained."""
    is_exact: bool
    """True if the weights were counted exactly; otherwise the family is not known and its config was read like Llama's."""
    device: str = GPU
    """Where the model is: `gpu`, or `host` for a run on the CPU."""

    @property
    def phases(self) -> tuple[str, ...]:
        """Those that this run has, in their order."""
        own = {row.phase for row in self.rows}
        return tuple(phase for phase in PHASES if phase in own)

    def peak_of(self, phase: str, place: str) -> int:
        """Most bytes at one place during one phase. What is there always is not there before the model is loaded."""
        return sum(row.bytes for row in self._rows_of(phase, place))

    def _rows_of(self, phase: str, place: str) -> tuple[Row, ...]:
        phases = (LOAD,) if phase == LOAD else (ALWAYS, phase)
        return tuple(row for row in self.rows if row.phase in phases and row.place == place)

    @property
    def peak(self) -> int:
        """Most bytes where the model is."""
        return self.peak_of(self.peak_phase, self.device)

    @property
    def peak_phase(self) -> str:
        """When most is there, where the model is."""
        return max(PHASES, key=lambda phase: self.peak_of(phase, self.device))

    @property
    def rows_at_peak(self) -> tuple[Row, ...]:
        """What is there then: their sizes add up to the peak."""
        return self._rows_of(self.peak_phase, self.device)

    @property
    def host_peak(self) -> int:
        """Most bytes in the host's memory."""
        return max(self.peak_of(phase, HOST) for phase in PHASES)

    @property
    def headline(self) -> str:
        """The plan in one line."""
        sample, train = (in_gib(self.peak_of(phase, self.device)) for phase in (SAMPLE, TRAIN))
        beside = f", and {in_gib(self.host_peak)} in the host's memory" if self.device != HOST and self.host_peak else ""
        return f"{in_gib(self.peak)} at the peak: {sample} while sampling, {train} while training{beside}"

    def table(self) -> list[tuple[str, str, str, str]]:
        """`(name, size, phase, note)` of every row, then the peaks: plain text for a viewer."""
        rows = [(row.name, in_gib(row.bytes), row.phase, row.note) for row in self.rows]
        return rows + [("peak", in_gib(self.peak_of(phase, self.device)), phase, "with what is always there") for phase in self.phases]


def row(name: str, size: float, phase: str, note: str, *, place: str, formula: str) -> Row:
    """A row of whole bytes."""
    return Row(name=name, bytes=round(size), phase=phase, note=note, place=place, formula=formula)


def in_gib(size: float) -> str:
    """`1.46 GiB`, or MiB where that reads better."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
