"""An engine, or a tracker, whose package is absent is refused before a model is loaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import make_trainer, small_config

from heron.config import to_toml
from heron.errors import MissingExtra
from heron.run import RunWriter
from heron.training import assemble as module
from heron.training.assemble import reassemble


class Loaded(Exception):
    """A model would have been loaded."""


@pytest.fixture(autouse=True)
def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM and Weights & Biases are absent, and loading a model ends the test."""
    find = importlib.util.find_spec

    def load(*_: Any, **__: Any) -> None:
        raise Loaded

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in ("vllm", "wandb") else find(name, *rest))
    monkeypatch.setattr(module, "load_policy", load)
    monkeypatch.setattr(module, "begin", load)


def test_vllm_that_is_not_installed(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Prevents: minutes of loading, or of warming up the embedded model, before the first step says what to install."""
    for name in (tiny_folder("qwen3"), Path("embedded")):
        with pytest.raises(MissingExtra, match=r"docs/vllm.md.*heron-rl\[vllm\]"):
            make_trainer(small_config(name, rollout={"engine": "vllm"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_resumed_without_vllm(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Prevents: the same wait on another machine."""
    config = small_config(tiny_folder("qwen3"), rollout={"engine": "vllm"})
    RunWriter.create(tmp_path / "run", config_toml=to_toml(config), manifest={}).close()
    with pytest.raises(MissingExtra, match=r"heron-rl\[vllm\]"):
        reassemble(tmp_path / "run")


def test_a_tracker_that_is_not_installed(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Prevents: a run that says only after it has loaded, or has been taken back to its checkpoint, what it misses."""
    config = small_config(tiny_folder("qwen3"), train={"report_to": ["wandb"]})
    with pytest.raises(MissingExtra, match=r"heron-rl\[wandb\]"):
        make_trainer(config, tmp_path / "new")
    RunWriter.create(tmp_path / "run", config_toml=to_toml(config), manifest={}).close()
    with pytest.raises(MissingExtra, match=r"heron-rl\[wandb\]"):
        reassemble(tmp_path / "run")


@pytest.mark.parametrize(
    "rollout", [{"engine": "native"}, {"engine": "vllm", "vllm_url": "http://localhost:8000", "vllm_folder": "adapters"}]
)
def test_what_needs_no_vllm_here(tiny_folder: Callable[[str], Path], tmp_path: Path, rollout: dict[str, str]) -> None:
    """Prevents: a server's client that asks for the server's packages."""
    with pytest.raises(Loaded):
        make_trainer(small_config(tiny_folder("qwen3"), rollout=rollout), tmp_path / "run")
