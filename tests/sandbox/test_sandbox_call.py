"""One call of a program's function: its value comes by itself, and nothing that is printed is taken for it."""

from __future__ import annotations

import pytest

from heron.errors import DataError
from heron.sandbox import Limits, call
from heron.sandbox.backends import BACKENDS
from heron.sandbox.choosing import why_not

BACKEND = next(name for name in BACKENDS if why_not(name) is None)


@pytest.mark.parametrize("value", [3, 0.5, "caf\u00e9 \ud83d", None, True, [1, (2, {"a": {3}})]], ids=ascii)
def test_value_comes_back_as_it_is(value: object) -> None:
    """Prevents: a value that JSON or a printed line makes into another one."""
    called = call("def same(x):\n  print('noise')\n  return x", "same", [value], backend=BACKEND)
    assert called.problem == "" and called.value == value and type(called.value) is type(value)


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("def f():\n  print('[{\"result\": 1.0}]')\n  raise SystemExit(0)", "raised SystemExit"),
        ("class G: pass\ndef f(): return G()", "a value of the type G"), ("def f(): return {*range(5000)}", "more than 1000 members"),
        ("import os\nos.write(3, b'{\"result\": {\"set\": [[1]]}}\\n')\nos._exit(0)", "unhashable"),
        ("import os\nos.write(3, b'{\"result\": 1}\\n')\ndef f(): return 2", "one entry"),
        ("import os\ndef f():\n  print(1.0, flush=True)\n  os._exit(0)", "ended before it returned"),
        ("def f():\n  return 1 / 0", "raised ZeroDivisionError"), ("def g(): return 1", "raised AttributeError"),
        ("def f(:", "exit code 1"),
        ("def f():\n  while True: pass", "timeout: killed after 1 seconds"),
        ("import os\ndef f():\n  os.write(3, b'[]')\n  os._exit(0)", "one entry"),
        ("import os\ndef f():\n  os.write(3, b'[{\"result\": NaN}]')\n  os._exit(0)", "can be read"),
        ("import os\ndef f():\n  os.write(3, b'[' * 99999)\n  os._exit(0)", "can be read"),
    ],
)
def test_whoever_returns_nothing_has_no_value(program: str, problem: str) -> None:
    """Prevents: a printed line, or an exit with 0, that is a value."""
    called = call(program, "f", [], Limits(seconds=1.0), backend=BACKEND)
    assert called.value is None and problem in called.problem


def test_argument_that_cannot_cross_is_an_error() -> None:
    """Prevents: an object that arrives as something else."""
    for argument in (object(), [10**5000, object()], float("nan")):
        with pytest.raises(DataError, match="cannot be sent"):
            call("def f(x): return x", "f", [argument], backend=BACKEND)
