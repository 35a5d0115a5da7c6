"""What the page is told of a run, as plain values that become JSON: its card in the list, and its state.

The one hard idea: the state is made anew whenever something was recorded, so it must cost the same after ten steps and after a hundred
thousand. It is made of the newest records, the first ones, and the events; never of all records.

Left out: curves and groups, which are asked for one by one (see `routes`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from heron.dashboard.shelf import OpenRun
from heron.dashboard.verdict import changes, judge
from heron.errors import RunError
from heron.run import Alert, History, Run, examine
from heron.run.alerts.history import TAIL
from heron.run.averages import finite, is_finite, mean
from heron.run.index import Curve, lines
from heron.run.own import own
from heron.run.reader import alerts_among
from heron.run.records import Record

HEAD = 32
"""First steps of a long run that are read."""
CURVE_POINTS = 40
"""Points of the small curve in the list of runs."""
RECENT = 20
"""Steps whose mean says how long a step takes."""
MESSAGES = 6
"""Messages of the run that are shown."""
MOST_WORDS = 500
"""Characters of a card's entry."""
UNREADABLE = "unreadable"
"""Status of a run whose files cannot be read."""
EVENTS = ("events.jsonl", "run.json", "summary.json")

View = dict[str, Any]


def card(name: str, run: Run) -> View:
    """A run in a few figures, for the list. One that cannot be read is listed with the reason."""
    try:
        return _card(name, run)
    except Exception as error:  # boundary: whatever a run's files hold, it is one entry of the list and does not hide the others
        words = str(error) if isinstance(error, RunError) else f"This run cannot be read: {error!r}"
        return {"name": name, "status": UNREADABLE, "error": words[:MOST_WORDS], "curve": []}


def _card(name: str, run: Run) -> View:
    manifest, known = run.manifest, lines.spread(own(run.path, "metrics.jsonl"), CURVE_POINTS)
    start, accuracies = _last(run.events("start")), [totals.get("accuracy") for totals in run.evaluations().values()]
    return {
        "name": name,
        "status": run.status,
        "lies_at": str(run.path.resolve()),
        **{key: None if manifest.get(key) is None else str(manifest[key])[:MOST_WORDS] for key in ("created", "model", "recipe")},
        "step": known[-1]["step"] if known else 0,
        "max_steps": _figure(start.get("max_steps")),
        "reward": _figure(known[-1].get("reward")) if known else None,
        "accuracy": _figure(accuracies[-1]) if accuracies else None,
        "curve": [_figure(record.get("reward")) for record in known],
    }


def curve(of: Curve) -> View:
    """Its points, which are not copied: `dataclasses.asdict` takes longer for that than finding them did."""
    return {"steps": of.steps, "values": of.values}


def status_of(run: Run) -> str:
    """The run's, or that it cannot be read."""
    try:
        return run.status
    except Exception:  # boundary: `card` says why
        return UNREADABLE


def state(opened: OpenRun) -> View:
    """Where a run is, whether it learns, what looks wrong, and what it is made of."""
    run, index = opened.run, opened.index
    events = opened.unless_changed("events", EVENTS, run.events)
    evaluations = opened.unless_changed("evaluations", EVENTS, run.evaluations)
    manifest, status, newest = run.manifest, run.status, index.latest(TAIL)
    start, checkpoint = _last(_of(events, "start")), _last(_of(events, "checkpoint"))
    history = History(
        metrics=_looked_at(opened, newest), evaluations=evaluations, checkpoint=checkpoint, penalties=run.penalties,
        course=opened.whole.look() if len(newest) == TAIL and not opened.fresh.is_behind else None,
    )  # fmt: skip
    standing = examine(history)
    verdict = judge(history, standing, status)
    return {
        "name": opened.name,
        "path": str(run.path),
        "status": status,
        "error": run.error,
        "resume": run.resume_command if status in ("failed", "interrupted") else None,
        "manifest": manifest,
        "start": start,
        "generation": index.generation,
        "step": index.last_step(),
        "names": index.names(),
        "latest": newest[-1] if newest else {},
        "verdict": dataclasses.asdict(verdict),
        "is_calm": bool(newest) and verdict.mood in ("good", "wait"),
        "changes": [dataclasses.asdict(change) for change in changes(history)],
        "alerts": _alerts(standing, alerts_among(events), status),
        "evaluations": [{"name": name, **totals} for name, totals in evaluations.items()],
        "functions": _functions(manifest, newest),
        "time": _times(start, events, newest, status),
        "memory": _memory(events, newest),
        "checkpoint": checkpoint,
        "messages": [{"time": event["time"], "text": event.get("text")} for event in _of(events, "message")[-MESSAGES:]],
        "reading": _reading(opened),
    }


def _looked_at(opened: OpenRun, newest: Sequence[Record]) -> list[Record]:
    """The newest steps, which the alerts look at one by one; and the first ones, for as long as nothing else is known of all steps."""
    if len(newest) < TAIL:
        return list(newest)
    head = opened.unless_changed("head", (), lambda: opened.index.first(HEAD))
    return [*(record for record in head if record["step"] < newest[0]["step"]), *newest]


def _alerts(standing: Sequence[Alert], recorded: Sequence[Record], status: str) -> list[View]:
    """What there is reason for now, the gravest first; then what there was reason for once."""
    steps = {event["id"]: event.get("step") for event in recorded}
    now = [{**dataclasses.asdict(alert), "step": steps.get(alert.id), "standing": True} for alert in standing]
    ids = {alert.id for alert in standing}
    past = [event for event in recorded if event["id"] not in ids]
    return now + [{key: event.get(key) for key in ("id", "title", "evidence", "advice", "step")} | {"standing": False} for event in past]


def _functions(manifest: Mapping[str, Any], newest: Sequence[Record]) -> list[View]:
    """Reward functions with their weights, in the order of the run."""
    weights = manifest.get("rewards") or {}
    logged = History(metrics=newest[-1:]).reward_names()
    return [{"name": name, "weight": weights.get(name)} for name in dict.fromkeys([*weights, *logged])]


def _times(start: Mapping[str, Any], events: Sequence[Record], newest: Sequence[Record], status: str) -> View:
    """Seconds: of a step by phase, since the start, and to go; tokens per second."""
    recent = newest[-RECENT:]
    means = {name: _mean(recent, name) for name in dict.fromkeys(name for record in recent for name in record)
             if name.startswith(("time/", "throughput/"))}
    per_step, end = means.get("time/step"), _last(_of(events, "end"))
    to_go = (start.get("max_steps") or 0) - (newest[-1]["step"] if newest else 0)
    return {
        "steps": len(recent),
        "per_step": per_step,
        "phases": {name.removeprefix("time/"): value for name, value in means.items()
                   if name.startswith("time/") and name != "time/step" and not name.endswith("_overlapped")},
        "speeds": {name.removeprefix("throughput/").removesuffix("_tokens_per_second"): value for name, value in means.items()
                   if name.startswith("throughput/")},
        "left": per_step * to_go if per_step is not None and to_go > 0 and status == "running" else None,
        "began": start.get("time"),
        "ended": end.get("time"),
        "seconds": (end.get("summary") or {}).get("seconds"),
    }


def _memory(events: Sequence[Record], newest: Sequence[Record]) -> View:
    """Planned and measured GiB, and the parts of the plan at its peak, the largest first."""
    last, compared, plan = newest[-1] if newest else {}, _last(_of(events, "memory")), _last(_of(events, "memory_plan"))
    return {
        "peak": last.get("memory/peak_gib"),
        "planned": compared.get("planned_gib", last.get("memory/planned_gib")),
        "measured": compared.get("measured_gib"),
        "place": compared.get("place"),
        "phase": plan.get("phase"),
        "parts": plan.get("parts", []),
    }


def _reading(opened: OpenRun) -> View | None:
    """How far the index has come, while it is not done."""
    done = opened.fresh.progress
    if done is None or not opened.fresh.is_behind:
        return None
    return {"metrics": [done.metrics_bytes_done, done.metrics_bytes_total], "rollouts": [done.rollouts_done, done.rollouts_total]}


def _figure(value: Any) -> float | None:
    return value if is_finite(value) else None


def _mean(records: Sequence[Record], name: str) -> float | None:
    values = finite([record.get(name) for record in records])
    return mean(values) if values else None


def _of(events: Sequence[Record], kind: str) -> list[Record]:
    return [event for event in events if event["kind"] == kind]


def _last(events: Sequence[Record]) -> Record:
    return events[-1] if events else {}
