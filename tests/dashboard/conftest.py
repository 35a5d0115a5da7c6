"""A dashboard over a folder with one finished run, and a way to ask it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from recorded import record

from heron.dashboard.server import Dashboard


@dataclass
class Asking:
    """Asks a dashboard with the token, unless told otherwise."""

    dashboard: Dashboard
    folder: Path

    def raw(self, path: str, *, method: str = "GET", token: str | None = "secret", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.dashboard.port, timeout=10)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), body

    def get(self, path: str) -> Any:
        """The data; a number that JSON does not know would leave the page empty."""
        status, _, body = self.raw(path)
        assert status == 200, body
        return json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes lie in the test's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Asking]:
    """The dashboard, serving `first run` of thirty steps."""
    record(tmp_path / "runs" / "first run", steps=30)
    made = Dashboard(tmp_path / "runs", token="secret")
    made.start()
    yield Asking(made, tmp_path / "runs")
    made.close()
