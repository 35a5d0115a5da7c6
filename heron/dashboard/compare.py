"""Runs side by side: first in what they were told to do otherwise, then in what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heron.dashboard.shelf import OpenRun
from heron.run.alerts.history import History

RECENT = 20
"""Steps that the end figures are means over."""
FIGURES = ("reward", "pass@1", "completions/mean_length", "completions/clipped_ratio", "entropy", "time/step")
_ABSENT = object()


def compare(runs: Sequence[OpenRun]) -> dict[str, Any]:
    """The settings that differ, with each run's value, and a few figures of each."""
    settings = [dict(_flat(opened.run.settings)) for opened in runs]
    keys = sorted({key for each in settings for key in each})
    different = [key for key in keys if any(each.get(key, _ABSENT) != settings[0].get(key, _ABSENT) for each in settings)]
    return {
        "runs": [opened.name for opened in runs],
        "settings": len(keys),
        "different": [{"key": key, "values": [_shown(each, key) for each in settings]} for key in different],
        "figures": [_figures(opened) for opened in runs],
    }


def _figures(opened: OpenRun) -> dict[str, Any]:
    newest = opened.index.latest(RECENT)
    history = History(metrics=newest)
    evaluations = list(opened.unless_changed("evaluations", ("events.jsonl", "run.json", "summary.json"), opened.run.evaluations).values())
    means = {name: sum(values) / len(values) for name in FIGURES if (values := history.values(name))}
    return {
        "status": opened.run.status,
        "step": opened.index.last_step(),
        "before": evaluations[0].get("accuracy") if evaluations else None,
        "after": evaluations[-1].get("accuracy") if evaluations[1:] else None,
        "means": means,
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """`("train.seed", 0)` for every setting."""
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found


def _shown(settings: Mapping[str, Any], key: str) -> str | None:
    """As it would be written in a file; None for a key that this run has not."""
    if key not in settings:
        return None
    value = settings[key]
    return str(value).lower() if isinstance(value, bool) else str(value)
