"""The package `gguf`, imported here alone: its absence is an error that names the extra."""

from __future__ import annotations

from typing import Any

from heron.errors import MissingExtra


def gguf() -> Any:
    """The package."""
    try:
        import gguf as package
    except ImportError as error:
        raise MissingExtra("gguf", "gguf", "Writing a GGUF file") from error
    return package
