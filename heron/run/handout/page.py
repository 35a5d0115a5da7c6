"""The page, from its sections in reading order: the result first, then how it was reached, then what it rests on.

The one hard idea: the page forbids itself everything but its own style sheet (its policy names that by its hash), so even a text that
escaped the escaping could run nothing and ask for nothing.
"""

from __future__ import annotations

import base64
import hashlib

from heron.run.about import about
from heron.run.doctor import diagnose
from heron.run.drawing import STYLE as CHART_STYLE
from heron.run.handout.answers import failures, samples
from heron.run.handout.html import Html, element
from heron.run.handout.sections import alerts, curves, directory, facts, figures, result, settings
from heron.run.handout.style import STYLE
from heron.run.reader import Run
from heron.run.snapshot import Snapshot
from heron.version import VERSION

HEADING = "What the model learnt"


def handout(run: Run) -> str:
    """The whole page, about one moment of the run."""
    run = Snapshot(run)
    found = diagnose(run)
    body = element(
        "main",
        _header(run),
        result(run),
        figures(run),
        curves(run),
        samples(run),
        failures(run),
        alerts(run, found),
        facts(run),
        settings(run),
        directory(run),
        element("footer", f"Written by Heron {VERSION} from the record of the run. The page is whole: it loads nothing and runs nothing."),
    )
    return "<!doctype html>\n" + element("html", _head(run), element("body", body), lang="en") + "\n"


def _head(run: Run) -> Html:
    sheet = CHART_STYLE + STYLE
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=f"default-src 'none'; style-src 'sha256-{digest}'"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", _title(run)),
        element("style", Html(sheet)),
    )


def _header(run: Run) -> Html:
    told = about(run)
    return element(
        "header",
        element("p", f"run {run.path.resolve().name} · {run.status} · {told.get('started', '')[:10]}", class_="soft"),
        element("h1", HEADING),
        element("p", f"{run.manifest.get('model', 'a model')}, {told.get('task', '')}", class_="soft"),
    )


def _title(run: Run) -> str:
    return f"{HEADING}: {run.path.resolve().name}"
