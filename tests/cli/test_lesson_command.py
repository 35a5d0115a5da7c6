"""`heron lesson` from the command line: the list, every lesson, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner, Result

from heron.cli.lesson import app as lessons
from heron.cli.main import app
from heron.errors import HeronError

NAMES = [command.name or str(command.callback.__name__) for command in lessons.registered_commands if command.callback]


def lesson(*words: str) -> Result:
    return CliRunner().invoke(app, ["lesson", *words])


def test_bare_verb_lists_every_lesson() -> None:
    """Prevents: a lesson that nobody finds, or one without a word on what it shows."""
    result = lesson()
    assert result.exit_code == 0
    rows = [line for line in result.output.splitlines() if "heron lesson" in line]
    assert [row.split()[2] for row in rows] == NAMES and all(len(row.split()) > 5 for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_every_lesson_runs_the_same_each_time(name: str) -> None:
    """Prevents: a lesson that fails as it stands, or whose output is not that of the page."""
    small = {"grid": ["--steps", "5"], "luck": ["--steps", "5"], "kl": ["--steps", "5"]}.get(name, [])
    one, two = lesson(name, *small), lesson(name, *small)
    assert one.exit_code == 0 and one.output == two.output and len(one.output.splitlines()) > 5


def test_a_row_for_each_probability() -> None:
    """Prevents: a sweep that leaves one out, or a probability of 0 that is found."""
    output = lesson("luck", "--probability", "0,0.5,1", "--steps", "5").output
    rows = {words[0]: words for line in output.splitlines() if (words := line.split()) and words[0] in ("0", "0.5", "1")}
    assert rows["0"][1:] == ["never", "0.0", "%", "never", "never", "never", "never"]
    assert rows["0.5"][1] == "2" and rows["1"][1] == "1"


def test_probability_one_needs_no_luck() -> None:
    """Prevents: a logarithm of 0."""
    assert "The first try brings it." in lesson("luck", "--probability", "1").output


@pytest.mark.parametrize(("words", "said"), [
    (("luck", "--probability", "1.5"), "between 0 and 1, but it is 1.5"),
    (("luck", "--probability", "often"), "numbers with commas between them"),
    (("group", "--rewards", "1,nan"), "finite numbers, but it is '1,nan'"),
    (("group", "--rewards", ""), "but it is ''"),
    (("kl", "--beta", "-1"), "must not be negative"),
    (("clip", "--loss", "grpoo"), 'Did you mean "grpo"'),
    (("clip", "--delta", "1.1"), "delta must exceed 1 + epsilon_high"),
    (("sum", "--right", "four"), "four"),
])
def test_refusals(words: tuple[str, ...], said: str) -> None:
    """Prevents: a traceback, or a figure made of nonsense."""
    error = lesson(*words).exception
    assert isinstance(error, HeronError), repr(error)
    assert said in str(error)


def test_unknown_names_and_options() -> None:
    """Prevents: a misspelt lesson that ends in silence or with success."""
    assert lesson("gird").exit_code == 2 and "grid" in lesson("gird").output
    assert lesson("grid", "--stepz", "3").exit_code == 2


def test_list_loads_no_torch() -> None:
    """Prevents: a list that takes seconds."""
    code = "import sys; from heron.cli.main import app; app(['lesson'], standalone_mode=False); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
