"""Versions of the packages, against the ranges that Heron was tested with.

The one hard idea: the ranges are those that the installed package itself requires, so there is no second list to keep.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable

from packaging.requirements import Requirement

from heron.run.machine.fact import Fact

PACKAGE = "heron-rl"
UNSHOWN = ("dev", "bench")
"""Extras of those who work on Heron."""


def package_facts() -> list[Fact]:
    """One for each package that is needed, one for each extra that is there, one that names the extras that are not."""
    try:
        wanted = [Requirement(line) for line in importlib.metadata.requires(PACKAGE) or ()]
        extras = importlib.metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        words = f"not known: {PACKAGE} is not installed as a package"
        return [_fact("tested ranges", words, advice=f"Install it where its code lies: {sys.executable} -m pip install -e .")]
    needed = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    by_extra = {name: _of_extra(name, wanted) for name in extras if name not in UNSHOWN}
    there = {name: each for name, each in by_extra.items() if each and all(version_of(one.name) for one in each)}
    absent = [name for name in by_extra if name not in there]
    return [
        *(_package(each) for each in needed),
        *(_package(one, extra=name) for name, each in there.items() for one in each),
        _fact("extras not installed", ", ".join(absent) or "none", absent),
    ]


def version_of(package: str) -> str | None:
    """The installed version; None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _of_extra(extra: str, wanted: Iterable[Requirement]) -> list[Requirement]:
    marked = [each for each in wanted if each.marker is not None and "extra" in str(each.marker)]
    return [each for each in marked if each.marker is not None and each.marker.evaluate({"extra": extra})]


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
