"""Starts a command below a keeper, and ends it with all that it started."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEEPER = Path(__file__).with_name("keeper.py")


@dataclass(slots=True, kw_only=True)
class Child:
    """A command and its keeper, which ends as the command does: with its exit code, or by its signal."""

    process: subprocess.Popen[bytes]
    """The keeper. It passes on SIGINT, SIGTERM and SIGHUP."""
    lifeline: int
    """Everything ends when this is closed."""

    def kill(self) -> None:
        """At once, with all that it started."""
        with contextlib.suppress(OSError):  # it has ended already
            os.write(self.lifeline, b"!")

    def end(self) -> None:
        """The same; waits for it. Nothing more can be done with it."""
        self.kill()
        self.process.wait()
        os.close(self.lifeline)


def start(command: Sequence[str], *, grace: float = 0.0, pass_fds: Sequence[int] = (), **options: Any) -> Child:
    """Start a command that ends with this process.

    Args:
        command: its words.
        grace: seconds that what it leaves behind may take to clean up.
        pass_fds: descriptors that it inherits.
        options: of `subprocess.Popen`.
    """
    theirs, ours = os.pipe()
    try:
        words = [sys.executable, "-I", "-S", str(KEEPER), str(theirs), str(grace), *command]
        process = subprocess.Popen(words, pass_fds=(theirs, *pass_fds), **options)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return Child(process=process, lifeline=ours)
