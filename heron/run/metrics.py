"""What each logged number means: one registered definition per name, for the page, the terminal and the documents.

The one hard idea: names are partly made up by the run (`rewards/number_right/mean`), so a definition may stand for a pattern, with
`<name>` in the place of what the run fills in. The definitions themselves are data, in `metrics.toml`.

Left out: the names that a user's own loss gives its marks; only their author can say what they mean.
"""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """The definition of one logged number, or of a pattern of them."""

    name: str
    """As logged; `<name>` stands for what a run fills in."""
    sentence: str
    """What it says, in plain words."""
    formula: str
    """How it is computed, and its unit."""
    good: str
    """What it looks like when all is well."""
    otherwise: str
    """What to do if it does not; `-` where nothing can be wrong."""


def define(name: str) -> Metric | None:
    """The definition of a logged name, exact ones before patterns; None for a name that nobody registered."""
    known = _registry()
    if name in known:
        return known[name]
    return next((metric for pattern, metric in _patterns() if pattern.fullmatch(name)), None)


def registered() -> tuple[Metric, ...]:
    """Every definition, in the order in which they are best read."""
    return tuple(_registry().values())


@functools.cache
def _registry() -> dict[str, Metric]:
    entries = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return {name: Metric(name=name, **fields) for name, fields in entries.items()}


@functools.cache
def _patterns() -> tuple[tuple[re.Pattern[str], Metric], ...]:
    return tuple(
        (re.compile(".+".join(map(re.escape, metric.name.split("<name>")))), metric) for metric in registered() if "<name>" in metric.name
    )
