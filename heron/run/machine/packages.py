"""Versions of the packages, against the ranges that Heron was tested with.

The one hard idea: the ranges are those that the code which runs requires (see `requirements`), so there is no second list to keep.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

from packaging.requirements import Requirement

from heron.run.machine.fact import Fact
from heron.run.machine.requirements import CODE, required, whereabouts

UNSHOWN = ("dev", "bench")
"""Extras of those who work on Heron."""


def package_facts(code: Path = CODE) -> list[Fact]:
    """Where the code lies; one fact for each package that is needed, for each extra that is there, and one for those that are not."""
    place, known = whereabouts(code), required(code)
    if known is None:
        advice = f"Run the code that is installed, or install this one where it lies: {sys.executable} -m pip install -e ."
        return [_fact("heron", place), _fact("tested ranges", "not known of this code", advice=advice)]
    shown = {name: each for name, each in known.extras.items() if name not in UNSHOWN}
    there = {name: each for name, each in shown.items() if each and all(version_of(one.name) for one in each)}
    absent = [name for name in shown if name not in there]
    return [
        _fact("heron", place),
        *(_package(each) for each in known.needed),
        *(_package(one, extra=name) for name, each in there.items() for one in each),
        _fact("extras not installed", ", ".join(absent) or "none", absent),
    ]


def version_of(package: str) -> str | None:
    """The installed version; None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(wanted: Requirement, *, extra: str = "") -> Fact:
    found, tested = version_of(wanted.name), _range(wanted)
    is_tested = found is not None and wanted.specifier.contains(found, prereleases=True)
    words = f"{found or 'not installed'} (tested with {tested})" + (f", for the extra {extra}" if extra else "")
    advice = "" if is_tested else f'Outside of what was tested: {sys.executable} -m pip install "{wanted.name}{tested}"'
    return _fact(wanted.name, words, {"version": found, "tested": tested, "is_tested": is_tested}, advice)


def _range(wanted: Requirement) -> str:
    """`>=2.11,<2.14`, the lower end first."""
    return ",".join(sorted(map(str, wanted.specifier), key=lambda part: part.startswith("<")))


def _fact(name: str, words: str, data: object = None, advice: str = "") -> Fact:
    return Fact(group="packages", name=name, words=words, data=data, advice=advice)
