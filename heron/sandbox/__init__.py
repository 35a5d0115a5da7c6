"""Runs programs that a model wrote, apart from this process; `heron sandbox status` says what is enforced here and what is not.

    result = run("print(int(input()) + 1)", "41", Limits(seconds=2))
    grade = grade_calls(code, "add", [CallTest(arguments=(1, 2), expected=3)])

What no backend stops: bugs of the kernel, what can be learnt from timing on a shared processor, and a program that knows the answers since
it was shown the tests. Each backend's `leaves` names what it leaves besides; `docs/sandbox.md` has them all.
"""

from heron.sandbox.calling import Called, call
from heron.sandbox.choosing import backend_name, run
from heron.sandbox.grading import CallTest, Grade, StreamTest, grade_calls, grade_streams
from heron.sandbox.limits import Limits, Result, Status

__all__ = [
    "CallTest", "Called", "Grade", "Limits", "Result", "Status", "StreamTest", "backend_name", "call", "grade_calls", "grade_streams",
    "run",
]  # fmt: skip
