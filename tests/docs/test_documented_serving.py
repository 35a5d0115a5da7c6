"""The page on serving: its client's lines run against a server, and its table of fields is what the server takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from heron.serving.model import open_model
from heron.serving.requests import CHAT, IGNORED, TEXT, USED
from heron.serving.server import MAX_WAITING, make_server
from tests.docs.documents import ROOT, python_of

PATH = ROOT / "docs" / "serving.md"
PAGE = PATH.read_text(encoding="utf-8")


def test_the_clients_lines_run(tiny_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: an example that a reader pastes and that does not work."""
    (block,) = python_of(PATH)
    model = replace(open_model(tiny_folder("qwen3")), name="first", max_tokens=8)
    with make_server(model, port=0) as server:
        server.start()
        exec(compile(block.text.replace("http://127.0.0.1:8000", server.url), "<docs/serving.md>", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_every_field_is_in_the_table() -> None:
    """Prevents: a field that works and that nobody knows of, or one that is promised and refused."""
    (table,) = re.findall(r"### Fields\n\n(.*?)\n\n", PAGE, re.DOTALL)
    named = {name.partition(".")[0] for row in table.splitlines()[2:] for name in re.findall(r"`([a-z_.]+)`", row.split("|")[1])}
    assert named == {*USED, *CHAT, *TEXT, *IGNORED} - {"model"}


def test_limits_are_those_that_are_told() -> None:
    """Prevents: a page that names other numbers than the server has."""
    from heron.serving.http import BODY_S, MAX_BODY, SEND_S
    from heron.serving.model import MAX_CONCURRENT, MAX_TOKENS
    from heron.serving.requests import MOST_ANSWERS, MOST_STOPS

    assert (MAX_CONCURRENT, MAX_WAITING, MAX_BODY, BODY_S, SEND_S) == (64, 256, 4 * 2**20, 60, 60)
    for told in (
        f"`--max-concurrent` | {MAX_CONCURRENT} |", f"`--max-waiting` | {MAX_WAITING} |", f"({MAX_TOKENS} for a model",
        f"up to {MOST_ANSWERS} answers", f"up to {MOST_STOPS} strings",
    ):
        assert told in PAGE, told
