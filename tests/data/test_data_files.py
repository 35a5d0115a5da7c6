"""Files of every kind give the same rows, and what cannot be read is named with its line."""

import csv
import json
import sys

import pytest

from heron.data.files import read_file
from heron.errors import DataError, MissingExtra

ROWS = [
    {"question": "What is 2 + 2?", "answer": "4"},
    {"question": 'Say "no",\nplease.', "answer": "#### 1,000"},
    {"question": "Größe?", "answer": "9"},
]


def written(folder, name, data):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_csv(folder):
    path = folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["question", "answer"])
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def as_parquet(folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "rows.parquet")
    return folder / "rows.parquet"


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: written(folder, "rows.jsonl", jsonl(ROWS)),
        lambda folder: written(folder, "rows.json", json.dumps(ROWS, indent=1)),
        as_csv,
        as_parquet,
    ],
    ids=["jsonl", "json", "csv", "parquet"],
)
def test_every_kind_gives_the_same_rows(tmp_path, make):
    """A dataset must not mean something else when it is converted."""
    assert [row.columns for row in read_file(make(tmp_path))] == ROWS


def test_ids_are_the_lines_on_which_rows_stand(tmp_path):
    """An id that counts rows would point at the wrong line after a blank one."""
    path = written(tmp_path, "rows.jsonl", "\n" + jsonl(ROWS[:1]) + "  \r\n" + jsonl(ROWS[1:2]))
    assert [row.id for row in read_file(path)] == ["rows.jsonl:2", "rows.jsonl:4"]
    path = written(tmp_path, "rows.csv", 'question\n\n"one\ntwo"\nthree\n')
    assert [row.id for row in read_file(path)] == ["rows.csv:3", "rows.csv:5"]
    path = written(tmp_path, "rows.json", json.dumps(ROWS))
    assert [row.id for row in read_file(path)] == ["rows.json:1", "rows.json:2", "rows.json:3"]


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path):
    """Excel writes one; the first column would not be found."""
    mark = b"\xef\xbb\xbf"
    row = b'{"question": "2?"}'
    for name, text in (("a.csv", b"question\n2?"), ("a.jsonl", row), ("a.json", b"[" + row + b"]")):
        assert [row.columns for row in read_file(written(tmp_path, name, mark + text))] == [{"question": "2?"}]


def test_an_empty_cell_is_a_missing_value(tmp_path):
    path = written(tmp_path, "a.csv", "question,answer\n2?,\n")
    assert [row.columns for row in read_file(path)] == [{"question": "2?", "answer": None}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_an_empty_file_has_no_rows(tmp_path, name):
    assert list(read_file(written(tmp_path, name, ""))) == []


@pytest.mark.parametrize(
    ("name", "data", "line", "words"),
    [
        ("a.jsonl", '{"question": "2?"}\n{"question": 2?}\n', 2, "not valid JSON"),
        ("a.jsonl", '{"question": "2?"}\n\n{"question": "2', 3, "not valid JSON"),
        ("a.jsonl", '[\n{"question": "2?"}\n]\n', 1, "Each line must be one JSON object"),
        ("a.jsonl", '{"question": "2?"}\n["2?"]\n', 2, "a row must be an object"),
        ("a.jsonl", '{"question": "2?"}\n"2?"\n', 2, "a row must be an object"),
        ("a.jsonl", b'{"question": "2?"}\n{"question": "\xe9"}\n', 2, "not UTF-8"),
        ("a.jsonl", '{"question": "\\ud83d"}\n', 1, "half a character"),
        ("a.jsonl", "[" * 200_000 + "\n", 1, "cannot be read"),
        ("a.jsonl", '{"x": ' + "1" * 5000 + "}\n", 1, "cannot be read"),
        ("a.json", '[\n{"question": "2?"},\n{"question": 2?}]', 3, "not valid JSON"),
        ("a.json", '{"question": "2?"}\n{"question": "2?"}\n', 2, "name it .jsonl"),
        ("a.json", '[{"question": "2?"}, 4]', 2, "a row must be an object"),
        ("a.json", b'[\n{"question": "\xe9"}]', 2, "not UTF-8"),
        ("a.csv", "question,answer\n2?,4\n3?,4,5\n", 3, "3 cells, but the first line names 2 columns"),
        ("a.csv", "question,answer\n2?\n", 2, "1 cells, but the first line names 2 columns"),
        ("a.csv", 'question\n"2?"x\n', 2, "not valid CSV"),
        ("a.csv", b"question\n2?\n\xe9\n", 3, "not UTF-8"),
    ],
)
def test_malformed_files_name_file_and_line(tmp_path, name, data, line, words):
    """A row that is skipped silently, or a bare traceback, leaves the user to search."""
    path = written(tmp_path, name, data)
    with pytest.raises(DataError) as error:
        list(read_file(path))
    assert f"{path}:{line}: " in str(error.value)
    assert words in str(error.value)
    assert len(str(error.value)) < 400


def test_escaped_emoji_are_whole_characters(tmp_path):
    path = written(tmp_path, "a.jsonl", '{"question": "\\ud83d\\ude00"}\n')
    assert next(read_file(path)).columns == {"question": "😀"}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.json", '{"question": "2?"}', "holds dict, not an array"),
        ("a.csv", "question,question\n2?,3?\n", "must name every column once"),
        ("a.csv", "question,\n2?,3?\n", "must name every column once"),
        ("a.txt", "2?", "not of a kind that can be read. The kinds are .jsonl, .json, .csv, .parquet"),
    ],
)
def test_unusable_files_are_named(tmp_path, name, data, words):
    path = written(tmp_path, name, data)
    with pytest.raises(DataError) as error:
        list(read_file(path))
    assert str(path) in str(error.value) and words in str(error.value)


def test_damaged_parquet_is_a_data_error(tmp_path):
    """pyarrow's own traceback would not say which file is damaged."""
    pytest.importorskip("pyarrow")
    path = written(tmp_path, "a.parquet", b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"a\.parquet is not valid Parquet"):
        list(read_file(path))


def test_parquet_without_its_package_names_the_extra(tmp_path, monkeypatch):
    """`No module named pyarrow` does not say what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"heron-rl\[parquet\]"):
        list(read_file(written(tmp_path, "a.parquet", b"")))


def test_an_unreadable_file_is_a_data_error(tmp_path):
    """A file that vanishes between the look and the reading must not end in a traceback."""
    with pytest.raises(DataError, match=r"gone\.jsonl cannot be read"):
        list(read_file(tmp_path / "gone.jsonl"))
