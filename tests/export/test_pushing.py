"""Nothing is uploaded that was not asked for, and nothing becomes public by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finished_runs import make_run
from typer.testing import CliRunner

from heron.cli.main import app
from heron.errors import ConfigError, RunError
from heron.export import push, pushing


class FakeHub:
    """Remembers what it was asked."""

    def __init__(self, *, is_private: bool = True, error: Exception | None = None) -> None:
        self.is_private, self.error = is_private, error
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def create_repo(self, repo_id: str, **settings: Any) -> None:
        self.calls.append(("create", {"repo_id": repo_id} | settings))
        if self.error is not None:
            raise self.error

    def repo_info(self, repo_id: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.is_private)

    def upload_folder(self, **settings: Any) -> SimpleNamespace:
        self.calls.append(("upload", settings))
        return SimpleNamespace(commit_url="https://hub/commit/1")


def test_a_folder_is_pushed_private_unless_told_otherwise(tmp_path: Path) -> None:
    """Prevents: a model that its trainer did not mean to publish."""
    hub = FakeHub()
    assert push(tmp_path, "me/heron", hub=hub) == "https://hub/commit/1"
    assert hub.calls[0] == ("create", {"repo_id": "me/heron", "private": True, "exist_ok": True})
    assert hub.calls[1][1]["repo_id"] == "me/heron" and hub.calls[1][1]["folder_path"] == str(tmp_path)
    public = FakeHub(is_private=False)
    push(tmp_path, "me/heron", public=True, hub=public)
    assert public.calls[0][1]["private"] is False


def test_a_public_repository_is_left_alone(tmp_path: Path) -> None:
    """Prevents: `exist_ok` quietly publishing into a repository that was public before."""
    hub = FakeHub(is_private=False)
    with pytest.raises(RunError, match="is public, so nothing was uploaded"):
        push(tmp_path, "me/heron", hub=hub)
    assert [name for name, _ in hub.calls] == ["create"]


def test_what_the_hub_refuses_says_where_the_export_is(tmp_path: Path) -> None:
    """Prevents: an hour of export lost to a traceback."""
    with pytest.raises(RunError, match=rf"no token.*whole in {tmp_path}.*hf auth login"):
        push(tmp_path, "me/heron", hub=FakeHub(error=RuntimeError("no token")))


def test_the_command_pushes_only_when_asked(tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: an upload without a request; a name that is found wrong after the work; --public alone."""
    pushed: list[tuple[Path, str, bool]] = []

    def remember(folder: Path, repository: str, *, public: bool) -> str:
        pushed.append((folder, repository, public))
        return "https://hub/commit/1"

    monkeypatch.setattr(pushing, "push", remember)
    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method="full")

    def command(*options: str) -> Any:
        return CliRunner().invoke(app, ["export", str(run_dir), *options])

    assert command("--out", str(tmp_path / "one")).exit_code == 0 and pushed == []
    done = command("--out", str(tmp_path / "two"), "--push", "me/heron")
    assert done.exit_code == 0 and pushed == [(tmp_path / "two", "me/heron", False)] and "pushed https://hub" in done.output
    wrong = command("--out", str(tmp_path / "three"), "--push", "me/heron/x")
    assert isinstance(wrong.exception, ConfigError) or wrong.exit_code == 2
    assert not (tmp_path / "three").exists()
    assert command("--out", str(tmp_path / "three"), "--public").exit_code != 0 and len(pushed) == 1
