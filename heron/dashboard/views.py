"""What the page is told: run directories as plain values that become JSON.

The one hard idea: a page that polls must be cheap, so records are parsed again only when their file has changed, and a page that
knows the first n steps is sent only the later ones. A run that was resumed may have taken steps back; `generation` tells.

Left out: who may ask (see `server`) and how it looks (see `app.js`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from heron.errors import RunError
from heron.run import History, Run, examine, list_runs
from heron.run.records import Record

CURVE_POINTS = 60
"""Points of the small curve in the list of runs."""

View = dict[str, Any]


class Shelf:
    """The runs in a folder, with what was parsed of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parsed: dict[tuple[Path, str], tuple[tuple[int, int], Any]] = {}

    def runs(self) -> list[View]:
        """Every run in a few figures, newest first. One that cannot be read is listed with the reason."""
        return [self._card(run) for run in list_runs(self.folder)]

    def run(self, name: str, *, after: int = 0) -> View:
        """All of a run but its rollouts; of its metrics only those after step `after`."""
        run = self._find(name)
        metrics, evaluations = self._metrics(run), run.evaluations()
        return {
            "name": name,
            "status": run.status,
            "manifest": run.manifest,
            "config": run.config_toml,
            "start": _last(run.events("start")),
            "generation": len(run.events("resume")),
            "metrics": [record for record in metrics if record["step"] > after],
            "evaluations": [{"name": key, **totals} for key, totals in evaluations.items()],
            "rollout_steps": run.rollout_steps(),
            "alerts": [
                {"id": alert.id, "title": alert.title, "evidence": alert.evidence, "advice": alert.advice}
                for alert in examine(History(metrics=metrics, evaluations=evaluations))
            ],
            "summary": run.summary,
        }

    def rollouts(self, name: str, step: int) -> View:
        """The groups of a step, their siblings from the highest advantage to the lowest."""
        groups: dict[int, View] = {}
        for row in self._find(name).rollouts(step):
            group = groups.setdefault(row["group"], {key: row[key] for key in ("prompt", "question", "answer")} | {"siblings": []})
            group["siblings"].append(row)
        for group in groups.values():
            group["siblings"].sort(key=lambda row: (-row["advantage"], row["sibling"]))
            group["has_signal"] = any(row["advantage"] for row in group["siblings"])
        return {"step": step, "groups": [groups[index] for index in sorted(groups)]}

    def _find(self, name: str) -> Run:
        """The run of that name, by comparing with the names that exist: a name never becomes a path."""
        for run in list_runs(self.folder):
            if _name(run) == name:
                return run
        raise RunError(f"There is no run {name!r} in {self.folder}.")

    def _card(self, run: Run) -> View:
        try:
            return self._summarised(run)
        except RunError as error:
            return {"name": _name(run), "status": "unreadable", "error": str(error), "curve": []}

    def _summarised(self, run: Run) -> View:
        manifest, metrics, evaluations = run.manifest, self._metrics(run), run.evaluations()
        start = _last(run.events("start"))
        rewards = [record.get("reward") for record in metrics]
        return {
            "name": _name(run),
            "status": run.status,
            "created": manifest.get("created"),
            "model": manifest.get("model"),
            "step": metrics[-1]["step"] if metrics else 0,
            "max_steps": start.get("max_steps"),
            "reward": rewards[-1] if rewards else None,
            "curve": rewards[:: max(1, -(-len(rewards) // CURVE_POINTS))],
            "before": evaluations.get("before", {}).get("accuracy"),
            "after": evaluations.get("after", {}).get("accuracy"),
        }

    def _metrics(self, run: Run) -> list[Record]:
        return list(self._unless_changed(run.path / "metrics.jsonl", run.metrics))

    def _unless_changed(self, path: Path, parse: Callable[[], Any]) -> Any:
        key = (path, parse.__name__)
        state = (path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else (0, 0)
        if key not in self._parsed or self._parsed[key][0] != state:
            self._parsed[key] = (state, parse())
        return self._parsed[key][1]


def _name(run: Run) -> str:
    return run.path.resolve().name


def _last(events: list[Record]) -> Record:
    return events[-1] if events else {}
