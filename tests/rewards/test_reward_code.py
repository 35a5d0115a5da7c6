"""Programs as answers: which text is the program, what is paid, and which rows cannot be scored."""

import time

import pytest

from heron.errors import DataError, SandboxError
from heron.rewards import Rubric, rubric
from heron.rewards.code import program_of, stdin_stdout, unit_tests
from heron.rewards.graders import grader
from heron.types import Tags

STREAMS = [{"input": "1\n", "output": "2\n"}, {"input": "2\n", "output": "3\n"}]
CALLS = [{"input": [1], "output": 2}, {"input": [2], "output": 3}]


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("print(1)", "print(1)"), ("Here:\n```python\nprint(1)\n```\nDone.", "print(1)\n"), ("```\nprint(1)\n```", "print(1)\n"),
        ("```\na\n```\n```\nb\n```", None), ("```\nprint(1)", None), ("", None), ("```\n```", None), ("x" * 60_000, None),
        ("```py\nprint(1)\n```  ", "print(1)\n"), ("a ```\nprint(1)\n```", None), ("```\nprint(1)```", None), ("```print(1)\n```", None),
        ("````\nprint(1)\n```", None), ("```\nprint(1)\n````", None), ("```\nprint(1)\n``` x", None), ("``````", None),
        ("```\nprint('`')\n```", "print('`')\n"), ("```a`b\nprint(1)\n```", None), ("x```y```z", None),
    ],
)  # fmt: skip
def test_the_program_of_an_answer(text: str, program: str | None) -> None:
    """Prevents: two programs of which the better one counts, and a cut one that is run."""
    assert program_of(text) == program


@pytest.mark.parametrize("piece", ["```\n", "```", "\n```a", "```\n\n", "`", "``\n```"])
def test_a_text_of_fences_is_read_in_linear_time(piece: str) -> None:
    """Prevents: a minute of searching in an answer that is nothing but openings of blocks."""
    begun = time.perf_counter()
    assert program_of(piece * 200_000) is None
    assert time.perf_counter() - begun < 1


def paid(scorer, make_rollout, text, **columns):
    rubric = Rubric([scorer], tags=Tags())
    rollout = make_rollout(f"<SOLUTION>{text}</SOLUTION>", **columns)
    rubric.check([rollout.prompt])
    return rubric.score([rollout])[0].reward


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("print(int(input()) + 1)", 1.0), ("print(2)", 0.5), ("print('passed'); raise SystemExit(0)", 0.0), ("import os; os._exit(0)", 0.0),
        ("```\nprint(2)\n```\n```\nprint(3)\n```", -1.0),
    ],
)
def test_streams(make_rollout, text: str, score: float) -> None:
    """Prevents: an early exit, or the first right line alone, that is paid in full."""
    assert paid(stdin_stdout, make_rollout, text, tests=STREAMS) == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("def f(n):\n    return n + 1", 1.0), ("def f(n):\n    return 2", 0.5), ("def f(n):\n    return n + 1.0", 0.0),
        ("class Same(int):\n    __eq__ = lambda a, b: True\ndef f(n):\n    return Same()", 0.0), ("def g(n):\n    return n + 1", 0.0),
        ("def f(n):\n    return n + 1\nif __name__ == '__main__':\n    print(f(int(input())))", 1.0),
        ("import os\ndef f(n):\n    return n + 1 if n == 1 else os._exit(0)", 0.5),
    ],
)
def test_calls(make_rollout, text: str, score: float) -> None:
    """Prevents: a value that calls itself equal to everything, and another function that is called."""
    assert paid(unit_tests, make_rollout, text, tests=CALLS, function="f") == score


@pytest.mark.parametrize(
    ("function", "columns"),
    [
        (stdin_stdout, {"tests": []}), (stdin_stdout, {"tests": "x"}), (stdin_stdout, {"tests": [{"input": "1"}]}),
        (stdin_stdout, {"tests": [{"input": 1, "output": "2"}]}), (unit_tests, {"tests": [{"input": 1, "output": 2}], "function": "f"}),
        (unit_tests, {"tests": CALLS, "function": "f()"}), (unit_tests, {"tests": [{"input": 10**5000, "output": 2}], "function": "f"}),
        (stdin_stdout, {"tests": [{"input": 10**5000, "output": "2"}]}), (unit_tests, {"tests": 10**5000, "function": "f"}),
    ],
)
def test_rows_that_cannot_be_scored_are_found_before_training(make_rollout, function, columns) -> None:
    """Prevents: no tests that everything passes, and a test that nothing can."""
    with pytest.raises(DataError, match=r"rows\.jsonl:1 cannot be scored"):
        Rubric([function], tags=Tags()).check([make_rollout(**columns).prompt])


def test_a_rubric_knows_its_sandbox_and_does_not_begin_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a run of programs whose record does not say what held them, and one that finds out at its first step that nothing does."""
    assert Rubric([unit_tests], tags=Tags()).sandbox in ("bubblewrap", "landlock")
    python = {"type": "python", "source": "def grade(sample, item): return 1.0"}
    nested = grader({"type": "multi", "graders": {"a": python}, "calculate_output": "a"}, name="g", place="here")
    assert Rubric([nested], tags=Tags()).sandbox is not None
    assert Rubric([lambda completion: 1.0], tags=Tags()).sandbox is None

    def refuse() -> str:
        raise SandboxError("nothing holds here")

    monkeypatch.setattr(rubric, "backend_name", refuse)
    with pytest.raises(SandboxError):
        Rubric([stdin_stdout], tags=Tags())
