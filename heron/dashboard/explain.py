"""Every registered number with its definition and its value in a run, in the order in which they are best read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from heron.run.metrics import define, registered

SECTIONS = (
    ("Rewards", "reward"), ("Signal", "frac_reward_zero_std"), ("Lengths", "completions/mean_length"), ("Policy", "loss"),
    ("Sampler against trainer", "sampling/logp_difference_mean"), ("Time and memory", "step"),
)
"""A section and the definition that it begins with."""
UNREGISTERED = "Logged by this run, but not defined here"


def explain(names: Sequence[str], latest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sections; a definition that stands for several names lists those that the run has filled in."""
    filled: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        metric = define(name)
        filled.setdefault(metric.name if metric else UNREGISTERED, []).append({"name": name, "value": latest.get(name)})
    sections: list[dict[str, Any]] = []
    begins = {first: title for title, first in SECTIONS}
    for metric in registered():
        if metric.name in begins or not sections:
            sections.append({"title": begins.get(metric.name, "Others"), "metrics": []})
        sections[-1]["metrics"].append({**dataclasses.asdict(metric), "values": filled.get(metric.name, [])})
    if UNREGISTERED in filled:
        own = [{"name": value["name"], "values": [value]} for value in filled[UNREGISTERED]]
        sections.append({"title": UNREGISTERED, "metrics": own})
    return sections
