"""Keeps an index up to date while somebody looks.

The one hard idea: whoever asks must be answered at once, however much there is to read. So an index that has all but the newest steps reads
those first, which takes no time; one that is far behind reads on in a thread, a little at a time, and is asked meanwhile as it is.
"""

from __future__ import annotations

import contextlib
import threading
import time

from heron.run.index import Index, Progress

FIRST_S = 0.4
"""Seconds that the index of a run which has just been opened reads before it is asked: enough for the first screen."""
AT_ONCE_S = 0.05
"""The same for one that has been read before."""
BEHIND_S = 0.25
"""Seconds for which the thread reads at a time."""
NOT_AGAIN_S = 0.7
"""Seconds for which an index counts as fresh."""
LOOKED_AT_S = 20.0
"""Seconds after which nobody is thought to look any more, so that nothing need be read."""


class Freshness:
    """Call `look` before the index is asked."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._reading = threading.Lock()
        self._read_at = 0.0
        self.looked_at = time.monotonic()
        self.progress: Progress | None = None
        self.is_behind = False

    def look(self) -> None:
        """Read what is new, or see to it that it is read."""
        self.looked_at = time.monotonic()
        with self._reading:
            if self.is_behind or (self.progress is not None and time.monotonic() - self._read_at < NOT_AGAIN_S):
                return
            self.is_behind = self._read_on(FIRST_S if self.progress is None else AT_ONCE_S)
        if self.is_behind:
            threading.Thread(target=self._catch_up, name="heron-index", daemon=True).start()

    def _catch_up(self) -> None:
        """Read until nothing is left, or nobody looks."""
        with contextlib.suppress(Exception):  # boundary: what is wrong with the run is said to whoever looks next
            while self._read_on(BEHIND_S) and time.monotonic() - self.looked_at < LOOKED_AT_S:
                pass
        self.is_behind = False

    def _read_on(self, seconds: float) -> bool:
        """True if there is more to read. (A torn last line is left, and is not worth another try.)"""
        before, now = self.progress, self._index.refresh(seconds)
        self.progress, self._read_at = now, time.monotonic()
        return not now.is_done and now != before
