"""What the code that runs requires of other packages, and whether it is the code that is installed.

The one hard idea: the ranges must be those of this very code. Where it runs from a checkout they stand in the `pyproject.toml` beside it;
what an installation says may be of another checkout, another version, or of long ago, so it is believed only of its own code.
"""

from __future__ import annotations

import importlib.metadata
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from packaging.requirements import Requirement

from heron.version import VERSION

PACKAGE = "heron-rl"
CODE = Path(__file__).resolve().parents[2]
"""The folder `heron`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """Packages with their tested ranges."""

    needed: tuple[Requirement, ...]
    """By every run."""
    extras: Mapping[str, tuple[Requirement, ...]]
    """By each extra."""


def required(code: Path = CODE) -> Required | None:
    """Of the code in that folder; None where nothing tells."""
    project = _project(code.parent / "pyproject.toml")
    if project is not None:
        extras = {name: _wanted(lines, name) for name, lines in project.get("optional-dependencies", {}).items()}
        return Required(needed=_wanted(project.get("dependencies", ()), ""), extras=extras)
    installed = _installed()
    return _of_metadata(installed) if installed is not None and _is_of(installed, code) else None


def whereabouts(code: Path = CODE) -> str:
    """Where the code lies, and what is installed instead of it, if anything is."""
    installed = _installed()
    if installed is None:
        return f"runs from {code.parent}; {PACKAGE} is not installed as a package"
    if _is_of(installed, code):
        return f"runs from {code.parent}, as installed"
    return f"runs from {code.parent}; what is installed as {PACKAGE} is {installed.version} of {_home(installed)}"


def _project(file: Path) -> Mapping[str, Any] | None:
    """The table of a project file, if it is Heron's."""
    found = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}) if file.is_file() else {}
    return found if found.get("name") == PACKAGE else None


def _installed() -> Distribution | None:
    try:
        return importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_of(installed: Distribution, code: Path) -> bool:
    """Whether this code is what was installed."""
    return installed.version == VERSION and _home(installed) == code.parent


def _home(installed: Distribution) -> Path:
    """The folder that holds the installed code: a checkout, if it was installed from there to be edited."""
    source = json.loads(installed.read_text("direct_url.json") or "{}")
    if source.get("dir_info", {}).get("editable"):
        return Path(unquote(urlparse(source["url"]).path)).resolve()
    return Path(str(installed.locate_file(""))).resolve()


def _of_metadata(installed: Distribution) -> Required:
    lines = installed.requires or []
    extras = {name: _wanted((line for line in lines if "extra" in line.partition(";")[2]), name)
              for name in installed.metadata.get_all("Provides-Extra") or []}
    return Required(needed=_wanted(lines, ""), extras=extras)


def _wanted(lines: Iterable[str], extra: str) -> tuple[Requirement, ...]:
    """Those that hold on this machine, with this extra."""
    return tuple(each for each in map(Requirement, lines) if each.marker is None or each.marker.evaluate({"extra": extra}))
