"""Rows of one local file: JSON lines, a JSON array, CSV or Parquet, by its suffix.

The idea: a row's id is the place in the file where it stands, and so is every complaint. Blank lines are skipped and
nothing else is: a row that cannot be read is an error, which stands in its place for those who want to hear of all of them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from heron.data.rows import Row
from heron.errors import DataError, MissingExtra

Made = TypeVar("Made")


def read_file(path: Path) -> Iterator[Row]:
    """The rows of a file, in order; the first one that cannot be read is raised."""
    for row in read_each(path):
        if isinstance(row, DataError):
            raise row
        yield row


def read_each(path: Path, until: int | None = None) -> Iterator[Row | DataError]:
    """The rows of a file, in order, with an error in place of each that cannot be read. What spoils the whole file is raised. Of JSON lines
    that are still being written, only those in the first `until` bytes are read."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} is not of a kind that can be read. The kinds are {', '.join(READERS)}.")
    try:
        yield from reader(path) if until is None else read_jsonl(path, until)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


def read_jsonl(path: Path, until: int | None = None) -> Iterator[Row | DataError]:
    """The rows of JSON lines, or of those in the first `until` bytes."""
    read = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            read += len(line)
            if until is not None and read > until:
                return
            row = _or_error(row_of, line, path, number)
            if row is not None:
                yield row


def row_of(line: bytes, path: Path, number: int) -> Row | None:
    """The row on a line; None on a blank one."""
    text = _decode(line, path, number).rstrip()
    if not text:
        return None
    columns = _object(_loads(text, path, number, "Each line must be one JSON object."), path, number)
    return Row(id=f"{path.name}:{number}", columns=columns)


def _read_json(path: Path) -> Iterator[Row | DataError]:
    hint = "The file must be one JSON array of objects; name it .jsonl if it has an object on each line."
    text = _decode(path.read_bytes(), path, 1)
    array = _loads(text, path, 1, hint) if text.strip() else []
    if not isinstance(array, list):
        raise DataError(f"{path} holds {type(array).__name__}, not an array. {hint}")
    for number, value in enumerate(array, start=1):
        columns = _or_error(_object, value, path, number)
        yield columns if isinstance(columns, DataError) else Row(id=f"{path.name}:{number}", columns=columns)


def _read_csv(path: Path) -> Iterator[Row | DataError]:
    """CSV cannot tell an empty text from a missing one; an empty cell is read as missing."""
    text = _decode(path.read_bytes(), path, 1)
    records = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    line = 1
    try:
        for record in records:
            if record and not header:
                header = _header(record, path)
            elif record:
                columns = _or_error(_cells, header, record, path, line)
                yield columns if isinstance(columns, DataError) else Row(id=f"{path.name}:{line}", columns=columns)
            line = records.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{line}: this row is not valid CSV: {error}.") from error


def _read_parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("pyarrow", "parquet", f"Reading {path}") from None
    try:
        batches = pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024)
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, columns in enumerate(rows, start=1):
            yield Row(id=f"{path.name}:{number}", columns=columns)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is not valid Parquet: {error}.") from error


READERS: dict[str, Callable[[Path], Iterator[Row | DataError]]] = {
    ".jsonl": read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _or_error(make: Callable[..., Made], *arguments: Any) -> Made | DataError:
    """What is made of one row, or why it cannot be."""
    try:
        return make(*arguments)
    except DataError as error:
        return error


def _decode(data: bytes, path: Path, first_line: int) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise DataError(f"{path}:{line}: this is not UTF-8 text ({error.reason}). Save the file as UTF-8.") from error


def _loads(text: str, path: Path, first_line: int, hint: str) -> Any:
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        place = f"{path}:{first_line + error.lineno - 1}"
        raise DataError(f"{place}: this is not valid JSON: {error.msg} at column {error.colno}. {hint}") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path}:{first_line}: an escape stands for half a character. Write both halves.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{first_line}: this JSON cannot be read: {error}.") from error
    return value


def _object(value: Any, path: Path, number: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f'{path}:{number}: a row must be an object such as {{"question": "..."}}, but it is {repr(value)[:80]}.'
        )
    return value


def _header(names: list[str], path: Path) -> list[str]:
    if "" in names or len(set(names)) < len(names):
        raise DataError(f"{path}: the first line must name every column once, but it is {names}.")
    return names


def _cells(header: list[str], record: list[str], path: Path, line: int) -> dict[str, Any]:
    if len(record) != len(header):
        raise DataError(
            f"{path}:{line}: this row has {len(record)} cells, but the first line names {len(header)} columns "
            f"({', '.join(header)}). Quote cells that contain commas or line breaks."
        )
    return {name: cell or None for name, cell in zip(header, record, strict=True)}
