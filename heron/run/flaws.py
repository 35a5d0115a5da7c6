"""What of a run's record cannot be read, each as a sentence: viewers leave it out, and say so.

The one hard idea: a record outlives kills, full disks and copies in part, and most of it is still worth a look; but a curve with steps
missing must not pass for a whole one. Resuming is strict instead: it refuses a spoilt record, since it writes it anew.

Left out: rollouts, which may be millions of lines; the index counts theirs.
"""

from __future__ import annotations

from heron.errors import RunError
from heron.run.reader import EVENTS, METRICS, Run

TORN = "the last line is incomplete and is left out, as a kill in the middle of a write leaves it."


def flaws(run: Run) -> tuple[str, ...]:
    """A sentence for each thing that is missing; nothing for a record that is whole."""
    names = (METRICS, EVENTS, *(f"evaluation/{name}.jsonl" for name in run.evaluations()))
    return (*_settings(run), *(sentence for name in names if (sentence := _spoilt(run, name))), *_torn(run))


def _settings(run: Run) -> tuple[str, ...]:
    try:
        run.settings  # noqa: B018 - whether it can be read is what is asked
    except RunError:
        there = (run.path / "config.toml").exists()
        return ("config.toml cannot be read." if there else "config.toml is missing, so this record is incomplete.",)
    return ()


def _spoilt(run: Run, name: str) -> str:
    count = run.lines(name).spoilt
    words = "one line cannot be read and is" if count == 1 else f"{count} lines cannot be read and are"
    return f"{name}: {words} left out." if count else ""


def _torn(run: Run) -> tuple[str, ...]:
    """While a run is written, its last line may be on its way."""
    return () if run.status == "running" else tuple(f"{name}: {TORN}" for name in run.torn())
