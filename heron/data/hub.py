"""The one place that knows the `datasets` library: hub ids, and folders that it has saved.

Downloads, caches, tokens and offline mode are the library's own. It leaves out streaming: a dataset is read from the
library's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from heron.data.rows import Row
from heron.errors import DataError, MissingExtra

Splits = Mapping[str, Callable[[], Iterator[Row | DataError]]]
"""What reads the rows of each split, an error in place of each that cannot be read."""


def hub_splits(name: str, subset: str | None, *, section: str = "data") -> Splits:
    """Readers of a hub dataset, by split."""
    library = _library(f'Reading the hub dataset "{name}"')
    try:
        loaded = library.load_dataset(name, subset)
    except (OSError, ValueError, RuntimeError, library.exceptions.DatasetsError) as error:
        raise DataError(
            f'The dataset "{name}" ({section}.subset {subset!r}) is not a file or folder here, '
            f"and could not be had from the hub: {error}. Give a folder with the rows instead (--{section}.dataset=FOLDER), or look "
            "at the name, the network, and HF_HUB_OFFLINE."
        ) from error
    return _splits(loaded, name)


def saved_splits(path: Path) -> Splits:
    """Readers of a folder that `save_to_disk` wrote, by split; a single dataset has the one split ''."""
    library = _library(f"Reading the saved dataset {path}")
    try:
        loaded = library.load_from_disk(str(path))
    except (OSError, ValueError, library.exceptions.DatasetsError) as error:
        raise DataError(f"The saved dataset {path} cannot be read: {error}") from error
    return _splits(loaded, path.name)


def tables_splits(tables: Mapping[str, Any]) -> Splits:
    """Readers of tables that are in memory, by split."""
    return {split: partial(_rows, table, split) for split, table in tables.items()}


def _library(purpose: str) -> ModuleType:
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "hub", purpose) from None
    return datasets


def _splits(loaded: Any, name: str) -> Splits:
    if isinstance(loaded, dict):
        return tables_splits(loaded)
    return {"": partial(_rows, loaded, name)}


def _rows(table: Any, name: str) -> Iterator[Row]:
    for number, columns in enumerate(table, start=1):
        yield Row(id=f"{name}:{number}", columns=columns)
