"""The one place that knows the `verifiers` package: loads an environment that was written for it, and its rows.

Its building installs handlers of its own for Ctrl-C, which would end a run without saving it; they are taken away again.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from heron.config.generated import VERIFIERS
from heron.errors import ConfigError, MissingExtra

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@functools.cache
def opened(name: str) -> Any:
    """The package's environment that `verifiers:ID` names, built once; a ConfigError if it is of a kind that is not run here."""
    library, short = _library(name), name.removeprefix(VERIFIERS)
    try:
        with _signals_kept():
            made = library.load_environment(short)
    except (ValueError, RuntimeError, AttributeError) as error:
        raise ConfigError(f"The environment {short!r} of the package verifiers cannot be loaded: {error}. It is a Python module that "
                          f"defines load_environment(); install its package, or put "
                          f"{short.replace('-', '_')}.py on the Python path.") from error
    if not isinstance(made, library.SingleTurnEnv):
        raise ConfigError(f"{name} is a {type(made).__name__}, but only environments of one turn (SingleTurnEnv) are taken from the "
                          "package verifiers. Write its replies as an environment of your own: environment.name = \"file.py:make\".")
    return made


def tables(name: str) -> Mapping[str, Any]:
    """Its rows by split: `train`, and `test` where it has rows to evaluate on."""
    made = opened(name)
    held_out = made.build_eval_dataset() if hasattr(made, "build_eval_dataset") else made.eval_dataset
    given = made.build_dataset() if hasattr(made, "build_dataset") else made.dataset
    return {split: table for split, table in (("train", given), ("test", held_out)) if table is not None}


def _library(name: str) -> Any:
    try:
        import verifiers
    except ImportError:
        raise MissingExtra("verifiers", "verifiers", f"The environment {name}") from None
    if not hasattr(verifiers, "load_environment"):
        raise ConfigError(f"verifiers {getattr(verifiers, '__version__', '?')} has no load_environment any more. "
                          'Install a version that has: pip install "heron-rl[verifiers]"')
    return verifiers


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Building an environment installs handlers of its own, which would end a run without saving it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
