"""Runs side by side: first in what they were told to do otherwise, then in what became of them.

The one hard idea: a record knows the settings that there were when it was made. One that came later was at its default in that run, so two
runs differ in it only if the other one has it otherwise; that it is not recorded is shown, and is no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heron.dashboard.shelf import OpenRun
from heron.run.alerts.history import History

RECENT = 20
"""Steps that the end figures are means over."""
FIGURES = ("reward", "pass@1", "completions/mean_length", "completions/clipped_ratio", "entropy", "time/step")


def compare(runs: Sequence[OpenRun], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ, with each run's value; those that only some runs have recorded; and a few figures of each. `defaults` are
    what a setting is that a run does not know, as nested mappings."""
    settings, usual = [dict(_flat(opened.run.settings)) for opened in runs], dict(_flat(defaults))
    keys = sorted({key for each in settings for key in each})
    different = [key for key in keys if any(_value(each, key, usual) != _value(settings[0], key, usual) for each in settings)]
    unrecorded = [key for key in keys if key not in different and any(key not in each for each in settings)]
    return {
        "runs": [opened.name for opened in runs],
        "settings": len(keys),
        "different": [_row(key, settings, usual) for key in different],
        "unrecorded": [_row(key, settings, usual) for key in unrecorded],
        "figures": [_figures(opened) for opened in runs],
    }


def _value(settings: Mapping[str, Any], key: str, usual: Mapping[str, Any]) -> Any:
    return settings[key] if key in settings else usual.get(key)


def _row(key: str, settings: Sequence[Mapping[str, Any]], usual: Mapping[str, Any]) -> dict[str, Any]:
    """A setting that may be left out is not set where it is absent; any other one is not recorded."""
    return {"key": key, "values": [_shown(each, key) for each in settings], "absent": "not recorded" if key in usual else "not set"}


def _figures(opened: OpenRun) -> dict[str, Any]:
    newest = opened.index.latest(RECENT)
    history = History(metrics=newest)
    evaluations = list(opened.unless_changed("evaluations", ("events.jsonl", "run.json", "summary.json"), opened.run.evaluations).values())
    means = {name: sum(values) / len(values) for name in FIGURES if (values := history.newest(name))}
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
