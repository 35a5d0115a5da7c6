"""Which weights a run began with: what its adapter lies on, and what its KL is measured from.

The one hard idea: a checkpoint does not hold them, so it says what they were, by the SHA-256 of each file or by the commit of a hub id, and
a resumed run that finds others there is refused, instead of going on as something else. Files are hashed once in a sitting, by the thread
that writes the first checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heron.errors import RunError
from heron.models.identity import file_hashes


class Origin:
    """The start of a run: a model, and an adapter on it or none."""

    def __init__(self, source: str, *, revision: str | None, adapter: str | None) -> None:
        self._source = source
        self._revision = revision
        self._adapter = adapter
        self._record: dict[str, Any] | None = None

    def record(self) -> Mapping[str, Any]:
        """What it is, in plain values."""
        if self._record is None:
            model = {} if self._revision else dict(file_hashes(self._source))
            adapter = {} if self._adapter is None else dict(file_hashes(self._adapter))
            self._record = {"source": self._source, "revision": self._revision, "model": model, "adapter": adapter}
        return self._record

    def check(self, before: Mapping[str, Any], run_dir: Path) -> None:
        """Refuses where a file is another one than it was, or is gone. Files that have come since are of no concern."""
        now = self.record()
        wrong = [
            f"{name} of the {part} {where}" for part, where in (("model", self._source), ("adapter", self._adapter))
            for name, digest in before[part].items() if now[part].get(name) != digest
        ]
        if before["revision"] != now["revision"]:
            wrong.append(f"the commit of {self._source}: {now['revision']} instead of {before['revision']}")
        if wrong:
            raise RunError(f"The start of {run_dir} is no longer what it was, so the run would go on as another one: {', '.join(wrong)}. "
                           "Restore it, or begin a new run with --from.")
