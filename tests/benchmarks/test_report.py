"""A benchmark's table, its bar, and the file that it appends to."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.machine import cpu_model, describe_machine, installed
from benchmarks.report import Bar, Table, conclude

TABLE = Table(title="Speed", columns=("who", "steps/min"), rows=(("Heron", "98.3"), ("a peer", "5.0")), notes=("One thread.",))


def make_bar(*, met: bool) -> Bar:
    return Bar(name="speed", met=met, figure="3.8x", goal="3.0x")


@pytest.mark.parametrize(
    ("met", "line", "code"), [(True, "bar speed: met, 3.8x (goal 3.0x)", 0), (False, "bar speed: missed, 3.8x (goal 3.0x)", 1)]
)
def test_bar_is_the_last_line_and_the_exit_code(capsys: pytest.CaptureFixture[str], met: bool, line: str, code: int) -> None:
    """Prevents: a missed bar that looks like success to a script."""
    assert conclude(TABLE, make_bar(met=met), machine="a machine", write=False) == code
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_text_keeps_columns_aligned() -> None:
    """Prevents: numbers that stand under the wrong heading."""
    lines = TABLE.text().splitlines()
    heading, heron, peer = lines[2], lines[4], lines[5]
    assert heading.index("steps/min") + len("steps/min") == len(heron) == len(peer)
    assert lines[-1] == "One thread."


def test_results_are_appended_with_date_and_machine(tmp_path: Path) -> None:
    """Prevents: a new measurement that overwrites the old ones, or one of which nobody knows where it was made."""
    for _ in range(2):
        conclude(TABLE, make_bar(met=True), machine="CPU X, 2 cores", write=True, folder=tmp_path / "results")
    written = (tmp_path / "results" / "speed.md").read_text()
    assert written.startswith("# speed\n") and written.count("# speed\n") == 1
    assert written.count("\n## 2") == written.count("CPU X, 2 cores") == written.count("| a peer | 5.0 |") == 2
    assert written.count("`bar speed: met, 3.8x (goal 3.0x)`") == 2


def test_nothing_is_written_unasked(tmp_path: Path) -> None:
    conclude(TABLE, make_bar(met=True), machine="a machine", write=False, folder=tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_machine_names_the_processor(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Abacus 9000\nprocessor\t: 1\nmodel name\t: Abacus 9000\n")
    assert cpu_model(cpuinfo) == "Abacus 9000"
    assert "Abacus 9000" in describe_machine(1, cpuinfo) and "1 thread," in describe_machine(1, cpuinfo)
    assert cpu_model(tmp_path / "absent")


def test_absent_packages_have_no_version() -> None:
    """Prevents: a peer that is not there but is reported as measured."""
    assert installed("torch")
    assert installed("a-package-that-nobody-has") is None
