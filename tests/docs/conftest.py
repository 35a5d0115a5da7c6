"""What a reader has before the pages are followed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.workplace import furnish


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> Path:
    """A folder with everything that the pages name; each test module has its own."""
    folder = tmp_path_factory.mktemp("reader")
    furnish(folder, tiny_folder("qwen3"))
    return folder
