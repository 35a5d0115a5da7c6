"""Consequences that wait a while for their cause.

The one hard idea: a policy that falls apart stops ending its answers and stops differing, and either shows after five steps, while it takes
longer to be certain of the fall. So what began only after the start, and began with a fall that is likely but not yet certain, is held back
for a few steps: by then the cause was named, or there was none.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from heron.run.alerts.history import History

PATIENCE = 15
"""Steps after which a consequence is told, whether its cause was found or not."""


def may_only_follow(history: History, key: str, is_bad: Callable[[float], bool]) -> bool:
    """What is bad of the number `key` is not older than a fall that is still being judged."""
    first = history.course.first.get(key)
    if not first or is_bad(first[0]) or history.lasted(key, is_bad) >= PATIENCE:
        return False
    return history.course.peak.is_falling() or _is_undecided(history)


def _is_undecided(history: History) -> bool:
    """The entropy is twice what it was."""
    first, newest = history.course.first.get("entropy"), history.newest("entropy", 3)
    return first is not None and bool(newest) and fmean(newest) > max(2 * first[0], 0.2)
