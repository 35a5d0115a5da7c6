"""Answers of judges on disk: asked once, paid once.

The hard idea: the key is a hash of everything that the answer depends on (judge, prompt template, rubric, question, reference, reply),
which is the conversation itself with the judge's name and the schema. So nothing has to be invalidated, a resumed run repeats its scores,
and two runs may share the folder. A folder that cannot be written costs money, not verdicts: that is told once. Left out: a limit of its
size; the folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heron.types import Message


class Cache:
    """Texts by key, each in a file of its own; a folder of None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._is_told = False

    def read(self, key: str) -> str | None:
        """None if there is none, also where the file cannot be read."""
        if self.folder is None:
            return None
        try:
            return self._file(self.folder, key).read_bytes().decode("utf-8", "surrogatepass")
        except (OSError, UnicodeDecodeError):
            return None

    def write(self, key: str, text: str) -> None:
        """Whole or not at all, whatever is killed meanwhile; a warning where it cannot be."""
        if self.folder is None:
            return
        try:
            _replace(self._file(self.folder, key), text.encode("utf-8", "surrogatepass"))
        except OSError as error:
            if not self._is_told:
                self._is_told = True
                warnings.warn(f"The judge's answers cannot be kept in {self.folder}: {error}. The run goes on, but an answer that is "
                              "needed again is asked for, and paid, again. Make room there, or set judge.cache = false.", stacklevel=2)

    def _file(self, folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key[2:]}.txt"


def key_of(judge: str, messages: Sequence[Message], schema: Mapping[str, Any]) -> str:
    """Of one question to one judge."""
    whole = json.dumps([judge, list(messages), schema], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def _replace(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as half:
            half.write(content)
        os.replace(name, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
