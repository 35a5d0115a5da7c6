"""Unsloth's way of writing, on Heron: `from heron.compat.unsloth import FastLanguageModel`.

`SamplingParams` has vLLM's names and needs no vLLM. What differs stands in docs/migrating.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from heron.compat.elsewhere import ELSEWHERE

if TYPE_CHECKING:
    from heron.compat.unsloth.fast import FastLanguageModel, FastModel, PatchFastRL, is_bfloat16_supported
    from heron.compat.unsloth.sampling import SamplingParams

_HOMES = {
    **dict.fromkeys(("FastLanguageModel", "FastModel", "PatchFastRL", "is_bfloat16_supported"), "heron.compat.unsloth.fast"),
    "SamplingParams": "heron.compat.unsloth.sampling",
}

__all__ = ["FastLanguageModel", "FastModel", "PatchFastRL", "SamplingParams", "is_bfloat16_supported"]


def __getattr__(name: str) -> Any:
    """A model needs torch, so it is imported when it is asked for."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ELSEWHERE:  # as an ImportError: `from ... import` hides what an AttributeError says
        raise ImportError(f"heron.compat.unsloth has no {name}. {ELSEWHERE[name]}")
    raise AttributeError(f"module 'heron.compat.unsloth' has no attribute {name!r}; it has {', '.join(__all__)}")
