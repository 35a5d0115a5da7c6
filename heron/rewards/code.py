"""Rewards for programs: the share of tests that a program passes, run in the sandbox.

The hard idea: the tests' expected outputs never leave this process (`heron.sandbox.grading`), so a program cannot print them, patch the
comparison or exit early and be paid. Which text is the program must be as plain: the answer, or the one fenced block in it; two blocks are
two programs, and none of them is run. Where the sandbox itself fails, that is an error and never a score.

Columns of a row: `tests`, a list of objects with `input` and `output`, and for `unit_tests` also `function`. Keep tests that do not stand
in the prompt, or the model learns to write them down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heron.errors import DataError
from heron.rewards.answers import said
from heron.rewards.verifying import checks_row, runs_programs
from heron.sandbox import CallTest, Grade, Limits, StreamTest, grade_calls, grade_streams
from heron.types import Tags

NO_PROGRAM = -1.0
"""Paid where the answer is not one program."""
LIMITS = Limits(seconds=5.0, memory_mb=512)
"""For all calls of a function together, and for each input of a program."""
TOTAL_SECONDS = 30.0
"""For all inputs of a program together."""
LONGEST = 50_000
"""Characters of a program."""

FENCE = "```"


def check_stream_tests(columns: Mapping[str, Any]) -> None:
    """Raises DataError for tests that cannot be run."""
    _stream_tests(columns["tests"])


def check_call_tests(columns: Mapping[str, Any]) -> None:
    """Raises DataError for tests that cannot be run."""
    _call_tests(columns["tests"])
    if not str(columns["function"]).isidentifier():
        raise DataError(f"The column function must be the name of a function, but it is {columns['function']!r}.")


@runs_programs
@checks_row(check_stream_tests)
def stdin_stdout(completion: str, tests: Sequence[Mapping[str, str]], tags: Tags, prefilled: str = "") -> float:
    """The share of tests whose `output` the program prints, given `input`; -1 if the answer is not one program.

    Blanks at the ends of lines and empty lines at the end are free; a program must end by itself, with exit code 0. It has 5 seconds for an
    input and 30 for all of them together; a test for which no time is left is failed.
    """
    return _paid(completion, tags, prefilled, lambda code: grade_streams(code, _stream_tests(tests), LIMITS, seconds=TOTAL_SECONDS))


@runs_programs
@checks_row(check_call_tests)
def unit_tests(completion: str, function: str, tests: Sequence[Mapping[str, Any]], tags: Tags, prefilled: str = "") -> float:
    """The share of tests in which `function`, called with the list `input`, returns `output`; -1 if the answer is not one program.

    Types count: 1.0 is not 1, True is not 1, a tuple is not a list.
    """
    return _paid(completion, tags, prefilled, lambda code: grade_calls(code, function, _call_tests(tests), LIMITS))


def program_of(text: str) -> str | None:
    """The only fenced block of a text, or the text if it has no fence; None for several, an open one, or nothing."""
    program = _fenced(text) if FENCE in text else text
    return program if program is not None and program.strip() and len(program) <= LONGEST else None


def _fenced(text: str) -> str | None:
    """What stands between the only two fences, each on a line of its own. Searched without patterns: in linear time on any text."""
    if text.count(FENCE) != 2:
        return None
    start, end = text.find(FENCE), text.rfind(FENCE)
    opening, _, block = text[start + len(FENCE) : end].partition("\n")
    closing = text[end + len(FENCE) :].partition("\n")[0]
    on_lines = all(at == 0 or text[at - 1] == "\n" for at in (start, end))
    return block if on_lines and "`" not in opening and not closing.strip(" \t") else None


def _paid(completion: str, tags: Tags, prefilled: str, grade: Callable[[str], Grade]) -> float:
    code = program_of(said(completion, tags, prefilled))
    return NO_PROGRAM if code is None else grade(code).share


def _stream_tests(tests: Any) -> list[StreamTest]:
    found = [StreamTest(stdin=test["input"], expected=test["output"]) for test in _checked(tests)]
    for test in found:
        if not isinstance(test.stdin, str) or not isinstance(test.expected, str):
            raise DataError(f"A test of code.stdin_stdout has a text as input and as output, but one is {_shown(test)}.")
    return found


def _call_tests(tests: Any) -> list[CallTest]:
    return [CallTest(arguments=_arguments(test["input"]), expected=test["output"]) for test in _checked(tests)]


def _arguments(given: Any) -> tuple[Any, ...]:
    if not isinstance(given, list | tuple):
        raise DataError(f"The input of a test of code.unit_tests is the list of arguments, but it is {_shown(given)}.")
    return tuple(given)


def _shown(value: Any) -> str:
    """Its beginning; a number of more than 4300 digits refuses to be shown."""
    try:
        return f"{value!r:.200}"
    except ValueError:
        return f"of type {type(value).__name__}, with a number that is too long to be shown"


def _checked(tests: Any) -> Sequence[Mapping[str, Any]]:
    """A list of tests that is not empty: nothing out of nothing would be everything."""
    is_list = isinstance(tests, list | tuple) and len(tests) > 0
    if not is_list or not all(isinstance(test, Mapping) and {"input", "output"} <= {*test} for test in tests):
        raise DataError(f'The column tests must be a list of {{"input": ..., "output": ...}}, but it is {_shown(tests)}.')
    return tests  # type: ignore[no-any-return]
