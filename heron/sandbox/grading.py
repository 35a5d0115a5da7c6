"""Whether a program is right: it gets inputs, and what it answers is compared here, where the expected answers stay.

The hard idea: of programs that cheat (exit early with 0, print "passed", replace `==`, walk frames for the tests), those are caught whose
answer is compared outside, with exact types, all of it. So a share is counted over all tests, a missing answer is a wrong one, and no
tests at all are an error, since nothing out of nothing must not be everything. What this cannot catch: a program that has the answers to
tests that it was shown. Keep some that never stand in a prompt.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from heron.errors import DataError
from heron.sandbox.backends import BACKENDS
from heron.sandbox.choosing import backend_name, run
from heron.sandbox.limits import Limits, Result, Status
from heron.sandbox.running import run_in
from heron.sandbox.values import Unreadable, canonical, encode, is_comparable, read_answer

TOTAL_SECONDS = 30.0
"""Of a program with all its inputs: a completion that hangs at each of fifty would take minutes."""
SPARE = 1 << 13
"""Bytes that an answer may be longer than twice the expected one: what was raised is in there, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTest:
    """One call of the function."""

    arguments: tuple[Any, ...]
    """Plain values: numbers, strings, booleans, None, and lists, tuples, sets, dicts of them."""
    expected: Any
    """What it must return, of exactly this type; it never leaves this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTest:
    """One run with an input."""

    stdin: str
    """What the program may read."""
    expected: str
    """What it must print; blanks at the ends of lines and empty lines at the end are nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """What became of all tests of a program."""

    verdicts: tuple[str, ...]
    """One for each test: `passed`, `wrong`, `raised: ...`, `unreadable` for no honest answer; where there is none, since the program ended
    before: `timeout`, `limit`, `failed`."""
    results: tuple[Result, ...]
    """Of each run: one for all calls, one for each input for which there was time."""

    @property
    def passed(self) -> int:
        """Tests that were passed."""
        return self.verdicts.count("passed")

    @property
    def share(self) -> float:
        """Passed tests among all."""
        return self.passed / len(self.verdicts)


def grade_calls(code: str, function: str, tests: Sequence[CallTest], limits: Limits | None = None, *, backend: str = "auto") -> Grade:
    """Imports a program once, calls its function with the arguments of every test, and compares what it returned.

    What was answered counts, also if a later call hangs or ends the program; the tests after it have no answer.
    """
    _check(tests)
    held_by = BACKENDS[backend_name(backend)]
    arguments = [[_plain(argument) for argument in test.arguments] for test in tests]
    expected = [_plain(test.expected) for test in tests]
    result = run_in(held_by, code, "", limits or Limits(), {"function": function, "arguments": arguments})
    return Grade(verdicts=_verdicts(result, expected), results=(result,))


def grade_streams(
    code: str, tests: Sequence[StreamTest], limits: Limits | None = None, *, seconds: float = TOTAL_SECONDS, backend: str = "auto",
) -> Grade:
    """Runs a program once for each test, one after the other, and compares all that it printed. It must also exit with 0.

    `limits` are those of one run; all runs together have `seconds`. Tests that none of it is left for are not run, and are a `timeout`.
    """
    _check(tests)
    limits = limits or Limits()
    results: list[Result] = []
    for test in tests:
        if (left := seconds - sum(result.seconds for result in results)) <= 0:
            break
        results.append(run(code, test.stdin, replace(limits, seconds=min(limits.seconds, left)), backend=backend))
    verdicts = [_judge(result, test.expected) for result, test in zip(results, tests, strict=False)]
    return Grade(verdicts=(*verdicts, *(Status.TIMEOUT.value,) * (len(tests) - len(results))), results=tuple(results))


def _check(tests: Sequence[object]) -> None:
    if not tests:
        raise DataError("There are no tests, so no program can pass or fail them. Drop this row, or give it tests.")


def _plain(value: Any) -> Any:
    """Its form for the program; an error for what could never be compared."""
    form = encode(value)
    if not is_comparable(form):
        raise DataError(f"A test holds {json.dumps(form):.200}, which cannot be compared exactly. Use plain values without NaN.")
    return form


def _verdicts(result: Result, expected: Sequence[Any]) -> tuple[str, ...]:
    """One for each line that was ended; where there is more than one for each test, nobody knows which is whose."""
    *lines, rest = result.report.split(b"\n")
    if len(lines) + bool(rest) > len(expected):
        return ("unreadable",) * len(expected)
    absent = "unreadable" if result.status is Status.FINISHED else result.status.value
    return (*map(_verdict, lines, expected), *(absent,) * (len(expected) - len(lines)))


def _verdict(line: bytes, expected: Any) -> str:
    """Of one answer; one that is much longer than the expected one is not read, so that reading costs what a test's author chose."""
    if len(line) > SPARE + 2 * len(json.dumps(expected)):
        return "wrong"
    try:
        kind, content = read_answer(line)
        if kind == "raised":
            return f"raised: {content}"
        return "passed" if canonical(content) == canonical(expected) else "wrong"
    except (Unreadable, RecursionError):
        return "unreadable"


def _judge(result: Result, expected: str) -> str:
    if result.status is not Status.FINISHED:
        return result.status.value
    return "passed" if _lines(result.stdout) == _lines(expected) else "wrong"


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines
