"""What trackers are told of a record: plain numbers by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def scalars(payload: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a metrics record, without its step and without those that are not finite."""
    return {
        name: float(value) for name, value in payload.items() if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    }


def held_out(payload: Mapping[str, Any]) -> dict[str, float]:
    """The totals of an evaluation, as `eval/<name>`, without its step."""
    return {f"eval/{name}": value for name, value in scalars(payload["totals"]).items()}
