"""Runs programs that a model wrote, apart from this process; `limits()` says what that does not stop."""

from heron.sandbox.python import Outcome, Status, limits, run_python

__all__ = ["Outcome", "Status", "limits", "run_python"]
