"""The sections around the answers: the result, the figures, the curves, what looked wrong, what it rests on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from heron.errors import RunError
from heron.run.about import about, versions
from heron.run.alerts import Alert
from heron.run.curve import reward_curve_svg, right_answers_svg
from heron.run.doctor import passed
from heron.run.flaws import flaws
from heron.run.handout import words
from heron.run.handout.html import Html, drawn, element
from heron.run.reader import Run
from heron.run.text import number, share, share_with_interval

Totals = Mapping[str, Any]

ROWS: tuple[tuple[str, Callable[[Totals], str]], ...] = (
    ("right answers, always with its likeliest words", lambda totals: share_with_interval(totals, "accuracy")),
    ("right answers, when it may vary its words", lambda totals: share_with_interval(totals, "pass_at_1")),
    ("mean reward", lambda totals: number(totals.get("mean_reward"))),
    ("in the asked format", lambda totals: share(totals.get("format_rate"))),
    ("no readable answer", lambda totals: share(totals.get("unreadable"))),
    ("cut off for want of room", lambda totals: share(totals.get("truncated"))),
    ("length of an answer, tokens", lambda totals: number(totals.get("mean_length"), 1)),
)
READINGS = {
    "reward": "What an answer earned on average in each step; thin lines are single reward functions. It should rise.",
    "right": "Whether more answers are right. The points are what counts: those problems were never trained on.",
}


def result(run: Run) -> Html:
    """The answer to the only question that most readers have."""
    known = run.evaluations()
    if "before" in known and "after" in known:
        before, after = known["before"], known["after"]
        return element("section", _great(before, after), element("p", words.verdict(before, after), class_="lead"),
                       element("p", words.certainty(before, after)), class_="result")
    made = next((name for name in ("before", "after") if name in known), None)
    told = words.alone(known[made], made) if made else "Held-out problems were not evaluated, so nothing can be said of what was learnt."
    return element("section", element("p", f"The run is {run.status}. {told}", class_="lead"), class_="result")


def figures(run: Run) -> Html | None:
    """Before and after in a table."""
    known = run.evaluations()
    names = [name for name in ("before", "after") if name in known]
    rows = [(label, [told(known[name]) for name in names]) for label, told in ROWS]
    if not names:
        return None
    return element(
        "section", element("h2", "Before and after"),
        element("table", element("tr", element("td", ""), *(element("th", name, scope="col") for name in names)),
                *(_row(label, cells) for label, cells in rows if {*cells} != {"-"})),
        element("p", "In brackets the range in which the true figure lies with a probability of 95 %.", class_="soft"),
    )


def curves(run: Run) -> Html | None:
    """The reward, and the right answers where they are known."""
    try:
        pictures = {"reward": reward_curve_svg(run, alone=False), "right": right_answers_svg(run, alone=False)}
    except RunError:
        return None
    parts = [
        element("figure", drawn(picture), element("figcaption", READINGS[name], class_="soft"))
        for name, picture in pictures.items() if picture is not None
    ]
    return element("section", element("h2", "While it was trained"), *parts)


def alerts(run: Run, found: Sequence[Alert]) -> Html:
    """What looks wrong, with what to do about it; then what looked wrong for a while."""
    first = {str(event.get("id")): event.get("step") for event in run.alerts()}
    parts = [_alert(asdict(alert), _since(first.get(alert.id))) for alert in found]
    parts += [_alert(asdict(each.alert), f"at step {each.step}, not any more") for each in passed(run, found)]
    order = element("p", "Causes come before what follows from them: begin with the first.", class_="soft") if len(found) > 1 else None
    return element("section", element("h2", "What looks wrong"), order, *(parts or [element("p", "Nothing.")]))


def facts(run: Run) -> Html:
    """What was trained on what, by what."""
    told = {label: text for label, text in about(run).items() if label != "directory"}
    told["versions"] = ", ".join(f"{name} {version}" for name, version in versions(run).items())
    return element("section", element("h2", "What was trained on what"), _pairs(told))


def settings(run: Run) -> Html | None:
    """Every setting, folded away; nothing where they cannot be read."""
    if not run.known_settings:
        return None
    return element(
        "section", element("h2", "Every setting"),
        element("details", element("summary", "config.toml, with everything that was left to its default"),
                element("pre", _without_passwords(run.config_toml.strip()))),
    )


def directory(run: Run) -> Html:
    """Where the rest is."""
    return element("section", element("h2", "The record"), element(
        "p", "Every answer of every step, with its rewards, lies in the run's directory on the machine where it was trained: ",
        element("code", run.path), "."), *(element("p", sentence) for sentence in flaws(run)))


def _without_passwords(text: str) -> str:
    """An address may hold a name and a password; the page may be sent on."""
    return re.sub(r"(?<=://)[^/\s\"'@]+@", "…@", text)


def _row(label: str, cells: Sequence[str]) -> Html:
    return element("tr", element("th", label, scope="row"), *(element("td", cell) for cell in cells))


def _great(before: Totals, after: Totals) -> Html | None:
    if "accuracy" not in before or "accuracy" not in after:
        return None
    return element("p", element("span", share(before["accuracy"]), class_="was"), element("span", " → ", class_="was"),
                   element("span", share(after["accuracy"])), class_="great")


def _alert(told: Mapping[str, Any], since: str) -> Html:
    return element(
        "article", element("p", element("b", told.get("title")), element("span", f" {since}", class_="soft")),
        element("p", told.get("evidence")), element("p", "What to do: ", told.get("advice")), class_="alert",
    )


def _since(step: object) -> str:
    return "" if step is None else f"since step {step}"


def _pairs(told: Mapping[str, str]) -> Html:
    return element("dl", *(part for label, text in told.items() if text for part in (element("dt", label), element("dd", text))))
