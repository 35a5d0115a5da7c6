"""Heron: reinforcement learning with verifiable rewards, on one GPU or a laptop.

    import heron

    def correct(completion, answer):
        return 1.0 if heron.last_number(completion) == heron.number(answer) else 0.0

    run = heron.train("gsm8k", model="path/or/id", rewards=[correct, (heron.rewards.follows_format, 0.2)])

Importing this package loads no torch: heavy names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from heron.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from heron import rewards
    from heron.api import chat, check, evaluate, load, resume, train, warmup
    from heron.rewards import last_number, number
    from heron.run import Run

_HOMES = {
    "Run": "heron.run",
    "chat": "heron.api",
    "check": "heron.api",
    "evaluate": "heron.api",
    "last_number": "heron.rewards",
    "load": "heron.api",
    "number": "heron.rewards",
    "resume": "heron.api",
    "train": "heron.api",
    "warmup": "heron.api",
}

__all__ = ["Run", "chat", "check", "evaluate", "last_number", "load", "number", "resume", "rewards", "train", "warmup"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "rewards":
        return importlib.import_module("heron.rewards")
    raise AttributeError(f"module 'heron' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
