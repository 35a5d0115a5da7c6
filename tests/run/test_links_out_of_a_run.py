"""Of a run only its own files are opened, so that a run that somebody sends shows nothing of this machine and stops no reader."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from recorded import record

from heron.errors import RunError
from heron.run import Run, list_runs
from heron.run.index import Index
from heron.run.own import is_inside, is_own, own

READ = {
    "run.json": lambda run: run.manifest, "config.toml": lambda run: run.settings, "metrics.jsonl": Run.metrics, "events.jsonl": Run.events,
    "summary.json": lambda run: run.summary, "rollouts/step-000003.jsonl": lambda run: run.rollouts(3),
    "evaluation/after.jsonl": lambda run: run.evaluation("after"),
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    record(tmp_path / "runs" / "sent", steps=5)
    return Run(tmp_path / "runs" / "sent")


@pytest.mark.parametrize("name", READ)
def test_a_link_that_leads_out_is_not_followed(run: Run, tmp_path: Path, name: str) -> None:
    """A run from somebody else showed the lines of any file of this machine as its own."""
    (run.path / name).rename(tmp_path / "outside")
    (run.path / name).symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="leads out of it"):
        READ[name](run)
    assert [one.path.name for one in list_runs(tmp_path / "runs")] == ["sent"]


@pytest.mark.parametrize("name", [name for name in READ if name != "run.json"])
def test_a_pipe_keeps_nobody_waiting(run: Run, name: str) -> None:
    """Whoever opened a named pipe waited for ever: `heron runs`, the page, the doctor."""
    (run.path / name).unlink()
    os.mkfifo(run.path / name)
    with pytest.raises(RunError, match="not opened"):
        READ[name](run)
    assert all(not path.startswith(name) for path in run.torn())


def test_the_index_reads_no_foreign_file(run: Run, tmp_path: Path) -> None:
    """The search would find what stands in a file that is none of the run's."""
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_bytes((run.path / "rollouts" / "step-000003.jsonl").read_bytes().replace(b"carry", b"SECRET"))
    (run.path / "rollouts" / "step-000004.jsonl").unlink()
    (run.path / "rollouts" / "step-000004.jsonl").symlink_to(foreign)
    (run.path / "rollouts" / "step-000005.jsonl").unlink()
    os.mkfifo(run.path / "rollouts" / "step-000005.jsonl")
    index = Index(run, tmp_path / "cache")
    assert index.refresh().is_done and index.groups().total == 12 and index.groups(search="SECRET").total == 0
    for step in (4, 5):
        with pytest.raises(RunError, match="not opened"):
            index.group(step, 0)
    index.close()


def test_a_folder_of_rollouts_elsewhere_is_not_listed(run: Run, tmp_path: Path) -> None:
    """One link in a folder's place would let in all that lies behind it."""
    (run.path / "rollouts").rename(tmp_path / "elsewhere")
    (run.path / "rollouts").symlink_to(tmp_path / "elsewhere")
    index = Index(run, tmp_path / "cache")
    assert index.refresh().rollouts_total == 0 and index.groups().total == 0 and index.last_step() == 5
    with pytest.raises(RunError, match="not opened"):
        run.rollouts(3)
    index.close()


def test_metrics_that_are_not_the_runs_are_an_error_and_no_empty_page(run: Run, tmp_path: Path) -> None:
    """A page without a step says nothing of why."""
    (run.path / "metrics.jsonl").unlink()
    os.mkfifo(run.path / "metrics.jsonl")
    index = Index(run, tmp_path / "cache")
    for ask in (index.refresh, index.last_step, lambda: index.first(3)):
        with pytest.raises(RunError, match="not opened"):
            ask()
    index.close()


def test_a_run_that_is_a_link_and_links_inside_are_fine(run: Run, tmp_path: Path) -> None:
    """Runs live on another disk than the folder that names them."""
    (tmp_path / "link").symlink_to(run.path)
    (run.path / "rollouts" / "step-000006.jsonl").symlink_to("step-000005.jsonl")
    linked = Run(tmp_path / "link")
    assert len(linked.metrics()) == 5 and linked.rollouts(6) == linked.rollouts(5) and linked.status == "finished"
    assert own(tmp_path / "link", "nothing.jsonl").name == "nothing.jsonl", "nothing there is nothing foreign"


def test_links_to_nowhere_and_in_circles_are_foreign(run: Run) -> None:
    """What may appear behind them is not known."""
    (run.path / "lost").symlink_to("/nonexistent/file")
    (run.path / "round").symlink_to("round")
    assert not is_own(run.path, run.path / "lost") and not is_own(run.path, run.path / "round")
    assert not is_inside(run.path, run.path / "lost") and not is_own(run.path, run.path / "rollouts")


def test_the_look_is_cheap(run: Run) -> None:
    """A hundred thousand files of rollouts are looked at one by one."""
    path, began = run.path / "rollouts" / "step-000003.jsonl", time.perf_counter()
    for _ in range(1000):
        is_own(run.path, path)
    assert time.perf_counter() - began < 0.2
