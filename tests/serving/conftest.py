"""A tiny model that is served, and servers that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Start

from heron.serving.model import ServedModel, open_model
from heron.serving.server import Server, make_server


@pytest.fixture(scope="session")
def model(tiny_folder: Callable[[str], Path]) -> ServedModel:
    return open_model(tiny_folder("qwen3"))


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers and ends them after the test."""
    started: list[Server] = []

    def run(model: ServedModel, **options: Any) -> Server:
        server = make_server(model, port=0, **options)
        started.append(server)
        server.start()
        return server

    yield run
    for server in started:
        server.close()


@pytest.fixture(scope="module")
def shared(model: ServedModel) -> Iterator[Server]:
    """A server of the tiny model that several tests ask."""
    with make_server(model, port=0) as server:
        server.start()
        yield server
