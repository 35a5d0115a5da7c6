"""`heron doctor`: what this machine offers to a run, and what stands in a run's way.

The one hard idea: it reports and never repairs, and it loads no torch, so it also answers where torch is what is broken; what only torch
can say, another process is asked for. It is made to be pasted into a public question: of secrets it says whether they are set.
"""

from __future__ import annotations

from pathlib import Path

from heron.run.machine.environment import environment_facts
from heron.run.machine.fact import Fact, as_json, as_lines
from heron.run.machine.gpu import gpu_facts
from heron.run.machine.network import network_facts
from heron.run.machine.packages import package_facts
from heron.run.machine.sandbox import sandbox_facts
from heron.run.machine.storage import storage_facts
from heron.run.machine.system import system_facts
from heron.run.machine.torch import torch_facts


def machine_report(folder: str | Path = ".") -> tuple[Fact, ...]:
    """Everything about this machine; `folder` is where runs are to be recorded."""
    gpus = gpu_facts()
    return (
        *system_facts(),
        *gpus,
        *torch_facts(has_gpu=any(fact.data for fact in gpus)),
        *storage_facts(Path(folder)),
        *network_facts(),
        *sandbox_facts(),
        *package_facts(),
        *environment_facts(),
    )


__all__ = ["Fact", "as_json", "as_lines", "machine_report"]
