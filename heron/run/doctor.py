"""`heron doctor RUN`: what is wrong with a run, by its record alone.

The one hard idea: it reports and never repairs, and it says first what ended a run early, since everything else may follow from that.
`heron doctor` without a run looks at the machine (`heron.run.machine`).
"""

from __future__ import annotations

from heron.run.alerts import Alert, History, examine
from heron.run.reader import Run
from heron.run.text import one_line


def diagnose(run: Run) -> tuple[Alert, ...]:
    """Why the run ended early, if it did; then every alert that its record gives reason for, the gravest first."""
    return (*_ended_early(run), *examine(History(metrics=run.metrics(), evaluations=run.evaluations())))


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
