"""Loads one thing from a Python file of the user: `rewards.py:correct`, `losses.py:my_loss`.

The hard idea: the file is run as a module of its own, under a name made from its path that no other module has, so it may be called
like any module of the standard library. It is run once for each call. A path is relative to the working directory; helper modules
beside the file are not put on the import path.
"""

from __future__ import annotations

import importlib.util
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

from heron.errors import ConfigError, did_you_mean


def load_attribute(name: str, *, purpose: str) -> Any:
    """What `path/file.py:name` stands for; `purpose` says in errors what is wanted, such as `a loss`."""
    path, colon, attribute = name.rpartition(":")
    if not (path.endswith(".py") and colon and attribute):
        raise ConfigError(f"{name!r} does not say where {purpose} is. Name the file and what to take of it, as in path/file.py:name.")
    return attribute_of(load_module(path, purpose=purpose), attribute, path=path, purpose=purpose)


def is_in_file(name: str) -> bool:
    """True for names such as `path/file.py:name`."""
    path, _, _ = name.rpartition(":")
    return path.endswith(".py")


def load_module(path: str, *, purpose: str) -> ModuleType:
    """Runs the file. What it raises is chained, with its traceback."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"There is no file {path!r} with {purpose} (looked in {Path.cwd()}). Check the path.")
    spec = importlib.util.spec_from_file_location(f"heron_file_{zlib.crc32(bytes(file.resolve())):08x}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up by its name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # boundary: a file that ends the process as it is run has failed like any other
        del sys.modules[module.__name__]
        raise ConfigError(f"The file {path} with {purpose} raised {type(error).__name__}: {error}") from error
    return module


def attribute_of(module: ModuleType, name: str, *, path: str, purpose: str) -> Any:
    """What the module calls `name`."""
    if not hasattr(module, name):
        known = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
        raise ConfigError(f"{path} has no {name!r}, which should be {purpose}.{did_you_mean(name, known)} "
                          f"It has {', '.join(known) or 'nothing of that kind'}.")
    return getattr(module, name)
