"""`heron doctor RUN`: what is wrong with a run, by its record alone.

The one hard idea: it reports and never repairs, and it says first what ended a run early, since everything else may follow from that.
What stands now is judged by the whole record; what looked wrong for a while and no longer does was recorded when it did.
`heron doctor` without a run looks at the machine (`heron.run.machine`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from heron.run.alerts import Alert, History, examine
from heron.run.reader import Run
from heron.run.text import one_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """An alert that there was reason for once."""

    alert: Alert
    """As it was told then."""
    step: int | None
    """The step that it was told after."""


def diagnose(run: Run) -> tuple[Alert, ...]:
    """Why the run ended early, if it did; then every alert that its record gives reason for, the gravest first."""
    saved = run.events("checkpoint")[-1:]
    history = History(
        metrics=run.metrics(), evaluations=run.evaluations(), checkpoint=saved[0] if saved else None, penalties=run.penalties,
    )  # fmt: skip
    return (*_ended_early(run), *examine(history))


def passed(run: Run, standing: Collection[Alert]) -> tuple[Passed, ...]:
    """What was told while the run went on and does not stand any more, in the order in which it was told."""
    known = {alert.id for alert in standing}
    return tuple(
        Passed(alert=Alert(**{key: str(event.get(key, "")) for key in ("id", "title", "evidence", "advice")}), step=event.get("step"))
        for event in run.alerts() if event.get("id") not in known
    )


def diagnosis(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Both as plain values: `alerts` that stand, and those that have `passed`, with the step that each was told after."""
    standing = diagnose(run)
    return {
        "alerts": [asdict(alert) for alert in standing],
        "passed": [asdict(each.alert) | {"step": each.step} for each in passed(run, standing)],
    }


def _ended_early(run: Run) -> tuple[Alert, ...]:
    """A run that failed or was interrupted, and how to go on with it."""
    status = run.status
    if status not in ("failed", "interrupted"):
        return ()
    steps = len(run.metrics())
    cause = f": {one_line(run.error, 400)}" if run.error else ", with no error recorded"
    return (Alert(
        id=status,
        title=f"The run {'failed' if status == 'failed' else 'was interrupted'}",
        evidence=f"it ended after {steps} {'step' if steps == 1 else 'steps'}{cause}",
        advice=f"{'Mend the cause, then go' if status == 'failed' else 'Go'} on with: {run.resume_command}",
    ),)
