"""Answers of judges on disk: asked once, paid once.

The hard idea: the key is a hash of everything that the answer depends on (judge, prompt template, rubric, question, reference, reply),
which is the conversation itself with the judge's name and the schema. So nothing has to be invalidated, a resumed run repeats its scores,
and two runs may share the folder. Left out: a limit of its size; the folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heron.types import Message


class Cache:
    """Texts by key, each in a file of its own; a folder of None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, key: str) -> str | None:
        """None if there is none, also where the file cannot be read."""
        if self._folder is None:
            return None
        try:
            return self._file(self._folder, key).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def write(self, key: str, text: str) -> None:
        """Whole or not at all, whatever is killed meanwhile."""
        if self._folder is None:
            return
        file = self._file(self._folder, key)
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as half:
                half.write(text)
            os.replace(name, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    def _file(self, folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key[2:]}.txt"


def key_of(judge: str, messages: Sequence[Message], schema: Mapping[str, Any]) -> str:
    """Of one question to one judge."""
    whole = json.dumps([judge, list(messages), schema], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()
