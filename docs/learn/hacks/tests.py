"""The program and its tests run in one process, and exit code 0 is a pass. The program ends before the tests begin.

Don't give `flawed` to a training run: it executes what a model wrote, without a sandbox.
"""

import subprocess
import sys
from typing import Any

from heron.rewards.answers import said
from heron.rewards.code import unit_tests
from heron.types import Tags


def flawed(completion: str, function: str, tests: list[dict[str, Any]], tags: Tags, prefilled: str = "") -> float:
    """1 if the program with its tests behind it ends with exit code 0."""
    lines = [f"assert {function}(*{test['input']!r}) == {test['output']!r}" for test in tests]
    source = "\n".join([said(completion, tags, prefilled), *lines])
    ran = subprocess.run([sys.executable, "-I", "-c", source], capture_output=True, timeout=10, check=False)
    return 1.0 if ran.returncode == 0 else 0.0


def mended(completion: str, function: str, tests: list[dict[str, Any]], tags: Tags, prefilled: str = "") -> float:
    """The share of tests passed in the sandbox; what is expected never comes near the program."""
    return unit_tests(completion, function, tests, tags, prefilled)
