"""What a dataset's name means: a file, a folder of files, a folder saved by `datasets`, an environment's rows, or a hub id.

The idea: each is a `Source`, a table of readers by split. A single file is one split, whatever it is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from heron.config.generated import ARITHMETIC, VERIFIERS
from heron.data.files import READERS, read_each
from heron.data.hub import Splits, hub_splits, saved_splits, tables_splits
from heron.data.rows import Row
from heron.data.verifiers_package import tables
from heron.errors import ConfigError, DataError, did_you_mean

WHOLE = ""
"""The split of a source that is not divided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A dataset whose rows can be read."""

    name: str
    """As it was given."""
    splits: Splits
    """Readers by split; `WHOLE` alone if the source is not divided."""

    @property
    def is_divided(self) -> bool:
        """False if all rows are one split, which has no name."""
        return WHOLE not in self.splits

    def has(self, split: str) -> bool:
        """True if the source is divided and this is one of its parts."""
        return split != WHOLE and split in self.splits

    def rows(self, split: str, limit: int | None = None) -> list[Row]:
        """The first `limit` rows of a split, at least one; the first that cannot be read is raised."""
        rows = []
        for row in self.each(split, limit):
            if isinstance(row, DataError):
                raise row
            rows.append(row)
        return rows

    def each(self, split: str, limit: int | None = None) -> list[Row | DataError]:
        """The same, with an error in place of each row that cannot be read."""
        read = self.splits.get(WHOLE) or self.splits.get(split)
        if read is None:
            raise self.lacks(split)
        rows = list(islice(read(), limit))
        if not rows:
            where = f' in its split "{split}"' if self.is_divided else ""
            raise DataError(f"The dataset {self.name} is empty: there is no row{where}.")
        return rows

    def lacks(self, split: str) -> DataError:
        """The error to raise about a split that a divided source does not have."""
        hint = did_you_mean(split, self.splits) or f" It has {', '.join(self.splits)}."
        return DataError(f'The dataset {self.name} has no split "{split}".{hint}')


def open_source(name: str, subset: str | None, *, section: str = "data", until: int | None = None) -> Source:
    """The dataset that `name` means. Nothing is read yet, but a hub dataset is fetched. Errors name the settings of `section`. Of a single
    file of JSON lines, `until` takes its first bytes alone."""
    path = Path(name).expanduser()
    if path.is_file():
        _refuse_subset(subset, f"{path} is a single file", section)
        return Source(name=name, splits={WHOLE: partial(read_each, path, until)})
    if name and path.is_dir():
        return Source(name=name, splits=_folder_splits(path, subset, section))
    if name.startswith(VERIFIERS):
        _refuse_subset(subset, f"{name} is an environment's dataset", section)
        return Source(name=name, splits=tables_splits(tables(name)))
    if _is_hub_id(name):
        return Source(name=name, splits=hub_splits(name, subset, section=section))
    raise DataError(f'There is no dataset "{name}": no such file or folder.{_hint(path)}')


def _is_hub_id(name: str) -> bool:
    is_path = name[:1] in ("/", ".", "~") or Path(name).suffix.lower() in READERS
    return not is_path and re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def _hint(path: Path) -> str:
    beside = (other.name for other in path.parent.iterdir()) if path.parent.is_dir() else ()
    near = did_you_mean(path.name, [ARITHMETIC, *beside])
    return near or f' Generated problems are called "{ARITHMETIC}" or "tasks.NAME"; a hub id has the form owner/name.'


def _refuse_subset(subset: str | None, what: str, section: str) -> None:
    if subset is not None:
        raise ConfigError(f"{section}.subset is {subset!r}, but {what}, which has no subsets. Leave it out, or say {section}.subset = "
                          '"none".')


def _folder_splits(path: Path, subset: str | None, section: str) -> Splits:
    """A subset is a folder in the folder."""
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        _refuse_subset(subset, f"{path} is a saved dataset", section)
        return saved_splits(path)
    for folder in (path, path / "data") if subset is None else (path / subset,):
        if files := _files(folder):
            return _splits_of_files(files)
    subsets = sorted(folder.name for folder in path.iterdir() if folder.is_dir() and _files(folder))
    listed = f" Its subsets are {', '.join(subsets)} ({section}.subset)." if subsets else ""
    if subset is None:
        raise DataError(f"The folder {path} has no file that can be read. The kinds are {', '.join(READERS)}.{listed}")
    near = did_you_mean(subset, subsets) or listed or f' Its own files are read with {section}.subset = "none".'
    raise DataError(f'The folder {path} has no subset "{subset}": no folder of that name with files that can be read.{near}')


def _files(folder: Path) -> list[Path]:
    """Those that can be read; none if there is no such folder."""
    return sorted(file for file in folder.glob("*") if file.is_file() and file.suffix.lower() in READERS)


def _splits_of_files(files: Sequence[Path]) -> Splits:
    """`train.jsonl` is the split `train`, and so are `train-00000-of-00002.parquet` and its siblings together."""
    parts: dict[str, list[Path]] = {}
    for file in files:
        parts.setdefault(re.sub(r"-\d+-of-\d+$", "", file.stem), []).append(file)
    for split, members in parts.items():
        if len({(member.stem == split, member.suffix) for member in members}) > 1:
            names = ", ".join(member.name for member in members)
            raise DataError(
                f'{names} in {files[0].parent} all claim to be the split "{split}". Give the path of the right one.'
            )
    return {split: partial(_read_all, members) for split, members in parts.items()}


def _read_all(files: Sequence[Path]) -> Iterator[Row | DataError]:
    for file in files:
        yield from read_each(file)
