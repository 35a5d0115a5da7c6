"""Names to functions: built in, from a file, and what a wrong name says."""

import inspect
import subprocess
import sys

import pytest

import heron.rewards
from heron.errors import ConfigError, RewardError
from heron.rewards import BUILT_IN, Rubric, Verdict, load_functions, resolve, resolve_verifier
from heron.rewards.calling import RewardFunction
from heron.types import Tags

FILE = '''
from __future__ import annotations
from dataclasses import dataclass
from math import sqrt

@dataclass
class Grade:
    points: float = 1.0

def second(completion):
    return Grade().points

def first(completions):
    return [0.0 for _ in completions]

def same(answer, reference):
    return answer == reference

def _helper(completion):
    return sqrt(2)
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "json.py"  # a file's name may be that of a module
    path.write_text(FILE)
    return str(path)


def test_every_builtin_resolves_documents_itself_and_can_be_called() -> None:
    """Prevents: a name in the table that leads elsewhere, or a built-in that asks for what rows don't have."""
    for name, function in BUILT_IN.items():
        module, short = name.split(".")
        assert getattr(getattr(heron.rewards, module), short) is function
        assert load_functions(name) == (function,) and function.__name__ == short and function.__doc__
        columns = {"answer", "keywords", "recipient", "phone", "email", "address", "schema", "tests", "function", "verifier"}
        assert RewardFunction.of(function).missing(columns) == []


def test_names_functions_and_pairs_resolve_with_weights(file: str) -> None:
    """Prevents: weights that slide when a file holds several functions."""

    def own(completion):
        return 0.0

    found = resolve([f"{file}:first", "gsm8k.integer", own, (own, 0.2)], [2.0, 3.0, 4.0, 5.0])
    assert [(function.__name__, weight) for function, weight in found] == [
        ("first", 2.0), ("integer", 3.0), ("own", 4.0), ("own", 0.2),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="1 weights for 2"):
        resolve(["gsm8k.integer", "gsm8k.tag_count"], [1.0])


def test_a_file_gives_its_public_functions_in_order(file: str, make_rollout) -> None:
    """Prevents: helpers and imported functions taken for rewards; dataclasses that break in a loaded file."""
    functions = load_functions(file)
    assert [function.__name__ for function in functions] == ["second", "first", "same"]
    (scored,) = Rubric(list(functions[:2]), tags=Tags()).score([make_rollout()])
    assert scored.rewards == {"second": 1.0, "first": 0.0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gsm8k.corectness", 'Did you mean "gsm8k.correctness"'),
        ("nonsense", "Built in are"),
        ("missing.py:f", "no file 'missing.py'"),
        ("missing.py", "no file 'missing.py'"),
    ],
)
def test_wrong_names_say_what_to_do(name: str, message: str) -> None:
    """Prevents: a bare KeyError or FileNotFoundError."""
    with pytest.raises(ConfigError, match=message):
        resolve([name])


def test_wrong_functions_and_broken_files_say_what_to_do(file: str, tmp_path) -> None:
    """Prevents: a traceback of importlib instead of the user's own mistake."""
    with pytest.raises(ConfigError, match='Did you mean "first"'):
        load_functions(f"{file}:frist")
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module_here")
    with pytest.raises(ConfigError, match="ModuleNotFoundError") as caught:
        load_functions(str(broken))
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    empty = tmp_path / "empty.py"
    empty.write_text("from math import sqrt")
    with pytest.raises(ConfigError, match="no public function"):
        load_functions(str(empty))


def test_verifiers_resolve_by_name_and_from_files(file: str, tmp_path) -> None:
    """Prevents: a verifier of one's own whose bool is taken for a verdict of its own kind."""
    assert resolve_verifier("number")("$5", "5") is Verdict.RIGHT
    own = resolve_verifier(f"{file}:same")
    assert own("a", "a") is Verdict.RIGHT and own("a", "b") is Verdict.WRONG
    with pytest.raises(ConfigError, match='Did you mean "number"'):
        resolve_verifier("numbr")
    bad = tmp_path / "bad.py"
    bad.write_text("def odd(answer, reference):\n    return 1.0\n")
    with pytest.raises(RewardError, match=r"odd returned 1\.0"):
        resolve_verifier(f"{bad}:odd")("a", "a")


def test_rewards_load_no_torch() -> None:
    """Prevents: `heron --help` or a reward test that waits for torch."""
    heavy = ("torch", "transformers", "numpy", "asyncio")
    code = f"import sys, heron.rewards, heron.environments; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_public_names_are_exact_and_documented() -> None:
    """Prevents: a public name that is exported but gone, or there without an explanation."""
    for name in heron.rewards.__all__:
        value = getattr(heron.rewards, name)
        assert not (inspect.isfunction(value) or inspect.isclass(value)) or inspect.getdoc(value)
    assert heron.rewards.__all__ == sorted(heron.rewards.__all__)


@pytest.mark.parametrize("line", ["sys.exit()", "1 / 0"])
def test_a_verifier_that_raises_is_named(tmp_path, line) -> None:
    """Prevents: a command that ends with 0 and without a verdict, because a verifier calls sys.exit."""
    (tmp_path / "mine.py").write_text(f"import sys\n\ndef same(answer, reference):\n    {line}\n")
    with pytest.raises(RewardError, match=r"same raised (SystemExit|ZeroDivisionError).*'5'"):
        resolve_verifier(f"{tmp_path / 'mine.py'}:same")("5", "6")


def test_a_file_that_ends_the_process_is_an_error(tmp_path) -> None:
    """Prevents: a training run that ends with 0 and without a word, because its file of rewards calls sys.exit."""
    (tmp_path / "mine.py").write_text("import sys\n\nsys.exit()\n")
    with pytest.raises(ConfigError, match="SystemExit"):
        load_functions(f"{tmp_path / 'mine.py'}:correct")
