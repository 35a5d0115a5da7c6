"""One thing out of a file of the user: what is found, how the file is run, what errors say."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from heron.errors import ConfigError
from heron.userfile import is_in_file, load_attribute

FILE = '''
from dataclasses import dataclass

@dataclass
class Point:
    x: float = 1.0

def first():
    return "first"

LIMIT = 3
_hidden = print
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "json.py"
    path.write_text(FILE)
    return path


def test_what_a_file_defines_is_found(file: Path) -> None:
    """Prevents: a file that shadows a module of its name, or whose classes cannot be pickled."""
    standard = sys.modules.get("json")
    assert load_attribute(f"{file}:first", purpose="a loss")() == "first"
    assert load_attribute(f"{file}:LIMIT", purpose="a limit") == 3
    point = load_attribute(f"{file}:Point", purpose="a point")(2.0)
    assert pickle.loads(pickle.dumps(point)) == point
    assert sys.modules.get("json") is standard


def test_a_path_is_relative_to_the_working_directory_or_to_home(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a name in a recipe that only works from one folder."""
    monkeypatch.chdir(file.parent)
    assert load_attribute("json.py:LIMIT", purpose="a limit") == 3
    monkeypatch.setenv("HOME", str(file.parent))
    assert load_attribute("~/json.py:LIMIT", purpose="a limit") == 3


def test_files_of_one_name_are_two_modules(file: Path, tmp_path: Path) -> None:
    """Prevents: the second file's loss being the first one's."""
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "json.py"
    other.write_text("def first():\n    return 'other'\n")
    mine, theirs = (load_attribute(f"{path}:first", purpose="a loss") for path in (file, other))
    assert (mine(), theirs()) == ("first", "other") and mine.__module__ != theirs.__module__


@pytest.mark.parametrize(("name", "is_one"), [
    ("losses.py:mine", True), ("/a/b.py:c", True), ("C:/a/b.py:c", True), ("losses.py:", True),
    ("dapo", False), ("losses.py", False), ("gsm8k.correctness", False), ("module:thing", False),
])
def test_names_of_files_are_told_from_other_names(name: str, is_one: bool) -> None:
    """Prevents: a built-in name looked for on disk."""
    assert is_in_file(name) is is_one


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.py:loss", r"no file 'absent\.py' with a loss \(looked in"),
        ("{file}:frist", r"has no 'frist', which should be a loss\. Did you mean \"first\"\? It has .*first"),
        ("{file}:", r"does not say where a loss is.*path/file\.py:name"),
        ("{folder}/broken.py:loss", "with a loss raised ZeroDivisionError: division by zero"),
        ("{folder}/empty.py:loss", "It has nothing of that kind"),
    ],
)
def test_errors_say_what_was_wanted_and_what_there_is(name: str, message: str, file: Path) -> None:
    """Prevents: a traceback of importlib instead of the user's own mistake."""
    (file.parent / "broken.py").write_text("1 / 0\n")
    (file.parent / "empty.py").write_text("")
    before = set(sys.modules)
    with pytest.raises(ConfigError, match=message) as caught:
        load_attribute(name.format(file=file, folder=file.parent), purpose="a loss")
    if "broken" in name:
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert set(sys.modules) == before, "a file that failed leaves no module behind"
