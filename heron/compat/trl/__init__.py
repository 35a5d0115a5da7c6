"""TRL's `GRPOConfig` and `GRPOTrainer`, on Heron: change `from trl import ...` to `from heron.compat.trl import ...`.

`rewards` holds the reward functions that TRL ships. What differs stands in docs/migrating.md, field by field.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from heron.compat.elsewhere import ELSEWHERE

if TYPE_CHECKING:
    from heron.compat.trl.config import GRPOConfig
    from heron.compat.trl.trainer import GRPOTrainer

_HOMES = {"GRPOConfig": "heron.compat.trl.config", "GRPOTrainer": "heron.compat.trl.trainer"}

__all__ = ["GRPOConfig", "GRPOTrainer"]


def __getattr__(name: str) -> Any:
    """A trainer needs torch, so it is imported when it is asked for."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ELSEWHERE:  # as an ImportError: `from ... import` hides what an AttributeError says
        raise ImportError(f"heron.compat.trl has no {name}. {ELSEWHERE[name]}")
    raise AttributeError(f"module 'heron.compat.trl' has no attribute {name!r}; it has {', '.join(__all__)}, and TRL's rewards in "
                         "heron.compat.trl.rewards")
