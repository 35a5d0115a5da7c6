"""Two runs side by side: what was set otherwise, then what they came to.

The one hard idea: a difference in the figures says nothing until one knows what else differs, so the settings come first, and the
versions, the machine and the data with them. What names the run itself (its folder, its command line, its times) is no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heron.run.about import end_figures
from heron.run.reader import Run

ABOUT = ("model", "method", "rewards", "versions", "machine", "threads", "sandbox", "start_model", "model_revision", "data_fingerprint",
         "matmul", "host_kernels", "quantization_kept")
"""What a manifest says that may explain a difference, and that is not a setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that two runs do not have in common."""

    name: str
    """Such as `train.learning_rate`."""
    first: Any
    """What the first run has; None where it has none."""
    second: Any
    """The same of the second."""


def set_otherwise(first: Run, second: Run) -> list[Difference]:
    """Settings that differ, then everything else about the runs that does."""
    return [*settings_otherwise(first.settings, second.settings), *_differences(_about(first), _about(second))]


def settings_otherwise(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Settings that differ between two configs as nested mappings."""
    return _differences(dict(_walk(first)), dict(_walk(second)))


def came_to(first: Run, second: Run) -> list[Difference]:
    """Every end figure that either run has, equal ones among them."""
    one, other = end_figures(first), end_figures(second)
    return [Difference(name=name, first=one.get(name), second=other.get(name)) for name in dict.fromkeys([*one, *other])]


def _about(run: Run) -> dict[str, Any]:
    manifest = run.manifest
    return dict(_walk({key: manifest[key] for key in ABOUT if key in manifest}))


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    names = dict.fromkeys([*one, *other])
    return [Difference(name=name, first=one.get(name), second=other.get(name)) for name in names if one.get(name) != other.get(name)]


def _walk(tables: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
