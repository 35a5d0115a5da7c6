"""Grading: programs that cheat gain nothing, right ones lose nothing, and what a program reports is read strictly."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heron.errors import DataError
from heron.sandbox import CallTest, Limits, StreamTest, grade_calls, grade_streams
from heron.sandbox.backends import BACKENDS
from heron.sandbox.choosing import why_not
from heron.sandbox.grading import _verdicts
from heron.sandbox.values import DEEPEST, Unreadable, canonical, decode, encode, read_json

BACKEND = next(name for name in BACKENDS if why_not(name) is None)
TESTS = [CallTest(arguments=(n, 2 * n), expected=3 * n) for n in (1, 4, 7)]
RIGHT = "def add(a, b): return a + b\n"
CHEATS = {
    "always_equal": "class E:\n  def __eq__(self, o): return True\n  def __hash__(self): return 3\ndef add(a, b): return E()",
    "int_subclass_eq": "class I(int):\n  def __eq__(self, o): return True\n  __hash__ = int.__hash__\ndef add(a, b): return I(3)",
    "ne_hash_contains": "class E:\n  def __ne__(self, o): return False\n  def __contains__(self, o): return True\n"
    "def add(a, b): return E()",
    "nan_inf_negzero": "def add(a, b): return {3: float('nan'), 12: float('inf')}.get(a + b, -0.0)",
    "float_for_int": "def add(a, b): return float(a + b)",
    "str_subclass": "class S(str): pass\ndef add(a, b): return S(a + b)",
    "os_exit0": "import os\nos._exit(0)",
    "sys_exit0": "import sys\ndef add(a, b): sys.exit(0)",
    "raise_systemexit_in_import": "raise SystemExit(0)",
    "print_verdict": "print('{\"passed\": 3}\\n3 passed')\ndef add(a, b): return None",
    "write_fd3_verdict": "import os\nos.write(3, b'{\"result\": true}\\n' * 3)\nos._exit(0)",
    "write_fd3_then_answer": "import os\nos.write(3, b'[]\\n')\n" + RIGHT,
    "atexit_verdict": "import atexit, os\nd = os.dup(3)\natexit.register(lambda: os.write(d, b'{\"passed\": 3}'))\n" + RIGHT,
    "patch_json_dumps": "import json\njson.dumps = lambda *a, **k: '{\"passed\": 3}'\n" + RIGHT,
    "patch_builtins_all_sum_isinstance": "import builtins\n"
    "builtins.all = builtins.isinstance = lambda *a: True\nbuiltins.sum = lambda *a: 3\ndef add(a, b): return 0",
    "patch_assert_unittest_pytest": "open('conftest.py', 'w').write('import os; os._exit(0)')\nimport unittest\n"
    "unittest.TestCase.assertEqual = lambda *a: None\ndef add(a, b): return 0",
    "pickle_gadget_result": "class G:\n  def __reduce__(self): return (print, ('gadget',))\ndef add(a, b): return G()",
    "json_depth_bomb": "import os\nos.write(3, b'[' * 60000 + b'\\n')\nos._exit(0)",
    "json_dup_keys": "import os\n"
    "os.write(3, b'{\"raised\": \"x\", \"raised\": \"y\"}\\n' * 3)\nos._exit(0)",
    "json_nan": "import os\nos.write(3, b'{\"result\": NaN}\\n{\"result\": Infinity}\\n{\"result\": 1e999}\\n')\nos._exit(0)",
    "json_long_number": "import os\nos.write(3, b'{\"result\": ' + b'9' * 60000 + b'}\\n')\nos._exit(0)",
    "too_few_answers": "import os\nos.write(3, b'{\"result\": 4}\\n')\nos._exit(0)",
    "too_many_answers": "import os\nos.write(3, b'{\"result\": 3}\\n' * 2)\n" + RIGHT,
    "answer_without_an_end": "import os\nos.write(3, b'{\"result\": 3}')\nos._exit(0)",
    "answer_after_an_end": "import os, signal\nos.write(3, b'{\"result\": 0}\\n' * 3)\nos.kill(os.getpid(), signal.SIGKILL)",
    "deep_result": "def add(a, b):\n  x = []\n  for _ in range(5000): x = [x]\n  return x",
    "cyclic_result": "def add(a, b):\n  x = []\n  x.append(x)\n  return x",
    "flood_of_results": "def add(a, b): return 'x' * 10**7",
    "missing_function": "def sub(a, b): return a - b",
    "hook_import_of_tests": "import sys\n"
    "class H:\n  def find_spec(self, *a): return None\nsys.meta_path.insert(0, H())\ndef add(a, b): return 0",
}
SEARCHES = {
    "frame_walk_expected": "import sys\n"
    "f = sys._getframe()\nfound = ''\nwhile f: found += repr(f.f_locals) + repr(f.f_globals); f = f.f_back\n",
    "gc_walk_expected": "import gc\nfound = ''.join(repr(x)[:2000] for x in gc.get_objects() if isinstance(x, (dict, list, tuple)))\n",
    "read_cmdline_tests": "import os\n"
    "found = repr(__import__('sys').orig_argv)\ntry: found += open('/proc/self/cmdline').read()\nexcept OSError: pass\n",
    "read_test_file": "import os\nfound = repr([open(os.path.join(d, n)).read() for d, _, ns in os.walk('.') for n in ns])\n",
    "early_stdin_consume": "import sys\nfound = sys.stdin.read()\n",
}


def grade(code: str) -> tuple[str, ...]:
    return grade_calls(code, "add", TESTS, Limits(seconds=10, output_bytes=1 << 18), backend=BACKEND).verdicts


def test_right_program_passes() -> None:
    """Guards the rest of this file: a grader that passes nobody would pass it."""
    assert grade(RIGHT) == ("passed",) * 3
    assert grade("print('chatter')\nimport sys\nsys.setrecursionlimit(10**6)\n" + RIGHT) == ("passed",) * 3


@pytest.mark.parametrize("name", CHEATS)
def test_cheat_passes_nothing(name: str) -> None:
    """Prevents: a reward for a program that does not solve the task."""
    assert "passed" not in grade(CHEATS[name])


@pytest.mark.parametrize("name", SEARCHES)
def test_expected_values_are_not_there(name: str) -> None:
    """Prevents: a program that finds what it should answer in its frames, memory, command line, files or input."""
    expected = "krissel" + "4711x"
    code = SEARCHES[name] + "import re\ndef look(n): return (re.findall('kr[i]ssel....x', found) or ['none'])[0]\n"
    found = grade_calls(code, "look", [CallTest(arguments=(1,), expected=expected)], backend=BACKEND)
    assert found.verdicts == ("wrong",), found.results[0]


def test_one_failing_call_leaves_the_others() -> None:
    """Prevents: all or nothing where a share was wanted."""
    assert grade("def add(a, b):\n  if a == 4: raise KeyError('x' * 9999)\n  return a + b")[::2] == ("passed", "passed")
    assert grade("def add(a, b):\n  if a == 4: raise KeyError('k')\n  return a + b")[1] == "raised: KeyError: 'k'"
    silent = "class Silent(Exception):\n  def __str__(self): raise ValueError\n"
    for error in ("SystemExit", "SystemExit(0)", "KeyboardInterrupt", "Silent"):
        assert grade(f"{silent}def add(a, b):\n  if a == 4: raise {error}\n  return a + b")[::2] == ("passed", "passed"), error


@pytest.mark.parametrize(("last", "verdict"), [
    ("while True: pass", "timeout"), ("import os; os._exit(0)", "unreadable"), ("import os; os._exit(3)", "failed"),
    ("import ctypes; ctypes.string_at(0)", "failed"), ("print('x' * 10**6)", "limit"), ("return 'x' * 10**6", "limit"),
])
def test_what_ends_the_program_leaves_the_calls_before(last: str, verdict: str) -> None:
    """Prevents: a right answer to nine tests that is paid like none, since the tenth hangs or ends the process."""
    code = f"def add(a, b):\n  if a == 7:\n    {last}\n  return a + b"
    found = grade_calls(code, "add", TESTS, Limits(seconds=1, output_bytes=1 << 18), backend=BACKEND).verdicts
    assert found == ("passed", "passed", verdict)


@pytest.mark.parametrize("main", [
    "n = int(input())\n  print(add(n, n))", "import sys\n  sys.exit(add(1, 1))", "import unittest\n  unittest.main()",
])
def test_a_guarded_main_is_not_run_before_calls(main: str) -> None:
    """Prevents: an honest program with a main part for people that is paid nothing, since it waits for input or exits."""
    assert grade(f"{RIGHT}if __name__ == '__main__':\n  {main}") == ("passed",) * 3


def test_a_program_that_is_called_is_a_module() -> None:
    """Prevents: classes that cannot find their module, for want of `__main__`."""
    code = (
        "import dataclasses, pickle, sys, typing\n@dataclasses.dataclass\nclass P:\n  x: 'int'\n"
        "def add(a, b):\n  assert sys.modules[__name__].P is sys.modules['__main__'].P and typing.get_type_hints(P) == {'x': int}\n"
        "  return pickle.loads(pickle.dumps(P(a + b))).x"
    )
    assert grade(code) == ("passed",) * 3


def test_hardcoded_answers_pass_what_they_were_shown() -> None:
    """Says what no sandbox can catch: hidden tests do."""
    code = "def add(a, b): return {1: 3, 4: 12}.get(a)"
    assert grade_calls(code, "add", TESTS, backend=BACKEND).passed == 2
    assert grade_calls(code, "add", TESTS[2:], backend=BACKEND).share == 0.0


def test_bool_for_int() -> None:
    """Prevents: True that counts as 1."""
    assert grade_calls("def one(): return True", "one", [CallTest(arguments=(), expected=1)], backend=BACKEND).verdicts == ("wrong",)


def test_empty_test_list() -> None:
    """Prevents: 0 of 0 as everything."""
    with pytest.raises(DataError, match="no tests"):
        grade_calls(RIGHT, "add", [], backend=BACKEND)
    with pytest.raises(DataError, match="no tests"):
        grade_streams("print(1)", [], backend=BACKEND)


@pytest.mark.parametrize("value", [float("nan"), object(), [float("nan")], True.__class__])
def test_tests_that_cannot_be_compared_are_refused(value: object) -> None:
    """Prevents: a row on which every program is wrong."""
    with pytest.raises(DataError, match="cannot be compared"):
        grade_calls(RIGHT, "add", [CallTest(arguments=(1, 2), expected=value)], backend=BACKEND)


def test_streams_compare_all_lines() -> None:
    """Prevents: `truncated_lines_zip`, the first right line that passes for all; and blanks at ends that fail an honest program."""
    tests = [StreamTest(stdin="2\n", expected="1\n2\n"), StreamTest(stdin="3\n", expected="1\n2\n3")]
    assert grade_streams("print(1)", tests, backend=BACKEND).passed == 0
    assert grade_streams("for i in range(int(input())): print(i + 1, '')\nprint()", tests, backend=BACKEND).verdicts == ("passed",) * 2
    assert grade_streams("for i in range(9): print(i + 1)", tests, backend=BACKEND).verdicts == ("wrong",) * 2
    assert grade_streams("print(1); print(2); 1/0", tests[:1], backend=BACKEND).verdicts == ("failed",)
    assert grade_streams("print(' 1'); print(2)", tests[:1], backend=BACKEND).verdicts == ("wrong",)


@pytest.mark.parametrize(("code", "verdicts", "runs"), [
    ("while True: pass", {"timeout"}, 3), ("import time; time.sleep(0.3); print(input())", {"passed", "timeout"}, 4),
    ("print(input())", {"passed"}, 12),
])
def test_all_inputs_together_have_a_deadline(code: str, verdicts: set[str], runs: int) -> None:
    """Prevents: a completion that hangs at each of a hundred inputs and holds up a step for minutes."""
    found = grade_streams(code, [StreamTest(stdin="1", expected="1")] * 12, Limits(seconds=0.5), seconds=1.2, backend=BACKEND)
    assert {*found.verdicts} == verdicts and len(found.verdicts) == 12 and len(found.results) <= runs
    assert sum(result.seconds for result in found.results) < 2.5


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    | st.sets(st.integers(), max_size=3) | st.frozensets(st.text(), max_size=3), max_leaves=12)


@settings(max_examples=200, deadline=None)
@given(plain)
def test_values_come_back_as_they_were(value: object) -> None:
    """Prevents: a right answer that is wrong since it travelled, and arguments that are others for the program."""
    form = encode(value)
    assert canonical(read_json(json.dumps(form).encode())) == canonical(form) == canonical(encode(decode(form)))
    assert decode(form) == value


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet='[]{}":,0123456789.eE-+ntrufalsIyN\\', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    """Prevents: a report that raises something else than `Unreadable` in the trainer."""
    with contextlib.suppress(Unreadable):
        canonical(read_json(content))


@pytest.mark.parametrize("form", [
    {"int": "3"}, {"int": "0x" + "F" * 3500}, {"int": "0x0" + "f" * 3500}, {"tuple": 3}, float("inf"), float("nan"),
    {"set": [1, 1]}, {"dict": [[1]]}, {"dict": [[1, 2], [1, 3]]}, {"float": "1.5"}, {"other": 3},
    {}, {"tuple": [], "set": []}, [{"list": []}],
])
def test_forms_that_our_writer_cannot_have_written_are_refused(form: object) -> None:
    """Prevents: two forms of one value, of which only one was thought of."""
    with pytest.raises(Unreadable):
        canonical(form)


def test_types_are_compared_all_the_way_down() -> None:
    """Prevents: 1 that equals True and 1.0 in a list, as a key or in a set."""
    for one, other in (
        (1, True), (1, 1.0), (1, "1"), ([1], [True]), ((1,), [1]), ({1: 2}, {True: 2}), ({1}, {1.0}), ({1}, frozenset({1})), ([], {}),
        ({"a": 1}, {"a": 1.0}), ("inf", float("inf")), (["a,b"], ["a", "b"]), ({"a": 1}, {"a": 1, "b": 1}), ({"a:1"}, {"a": 1}),
        (10**4000, -(10**4000)),
    ):
        assert canonical(encode(one)) != canonical(encode(other))
    shuffled = ({1: {2, (3, 1)}, "x": 1}, {"x": 1, 1: {(3, 1), 2}})
    assert canonical(encode(shuffled[0])) == canonical(encode(shuffled[1]))


def test_zero_has_no_sign() -> None:
    """Prevents: `round(-0.4)` as a wrong answer where it stands by itself and a right one in a set, or the other way round."""
    for one, other in ((0.0, -0.0), ([0.0], [-0.0]), ({0.0}, {-0.0}), ({0.0: -0.0}, {-0.0: 0.0})):
        assert one == other and canonical(encode(one)) == canonical(encode(other))
    assert canonical(encode(0)) != canonical(encode(-0.0))


def test_long_numbers_and_deep_containers_are_values() -> None:
    """Prevents: a ValueError in the trainer for a long argument, and a right factorial or tree that is wrong since it is long or deep."""
    deep: object = 1
    for _ in range(DEEPEST):
        deep = {"k": deep}
    for value in (10**5000, -(10**5000), 2**12000 - 1, 2**12000, [10**50_000], deep):
        test = CallTest(arguments=(value,), expected=value)
        assert grade_calls("def same(a): return a", "same", [test], backend=BACKEND).verdicts == ("passed",)
    with pytest.raises(DataError, match="cannot be compared"):
        grade_calls(RIGHT, "add", [CallTest(arguments=(10**5000, float("nan")), expected=1)], backend=BACKEND)


COLLIDING = [n * (2**61 - 1) for n in range(3000)]
"""They all have the hash 0."""


@pytest.mark.parametrize(("code", "expected", "verdict"), [
    ("def f(): return {n * (2**61 - 1) for n in range(3000)}", {*COLLIDING}, "passed"),
    ("def f(): return {n: {n} for n in range(20000)}", {n: {n} for n in range(20000)}, "passed"),
    ("def f(): return {n: frozenset({n}) for n in range(20000)}", {n: {n} for n in range(20000)}, "wrong"),
    ("import os\nos.write(3, b'{\"result\": {\"set\": [' + b', '.join(b'%d' % (n * (2**61 - 1)) for n in range(30000)) + b']}}\\n')\n"
     "os._exit(0)", [0] * 300_000, "wrong"),
    ("import os\nos.write(3, b'{\"result\": ' + b'[1, 2.5, {}], ' * 60000 + b'}\\n')\nos._exit(0)", 1, "wrong"),
    ("import os\nos.write(3, b'\"' + b'\\\\\"' * 200000 + b'\\n')\nos._exit(0)", [0] * 300_000, "unreadable"),
])
def test_reading_an_answer_takes_no_longer_than_it_is(code: str, expected: object, verdict: str) -> None:
    """Prevents: a training run that stands still for minutes since a program's answer is slow to compare: equal hashes, many members,
    quotes that never end."""
    found = grade_calls(code, "f", [CallTest(arguments=(), expected=expected)], Limits(seconds=20), backend=BACKEND)
    assert found.verdicts == (verdict,), found.results[0].stderr
    began = time.process_time()
    _verdicts(found.results[0], [encode(expected)])
    assert time.process_time() - began < 3
