"""Planned beside measured memory, at the end of a run's first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import save_tiny

from heron.config import load_config
from heron.run import Run
from heron.training.assemble import assemble, reassemble
from heron.training.footprint import Footprint, baseline_of


def settings(folder: Path, **model: Any) -> dict[str, Any]:
    return {
        "model": {"name": str(folder), "device": "cpu", **model}, "rollout": {"num_generations": 2, "max_completion_length": 4},
        "train": {"prompts_per_step": 1, "max_steps": 2, "save_steps": 1}, "evaluation": {"size": 0},
    }


def test_a_run_tells_both_figures_once(tmp_path: Path) -> None:
    """Prevents: a plan that nobody holds against what happened, and a line of it in every step or after every pause."""
    config = load_config("arithmetic", settings(save_tiny("qwen3", tmp_path / "model")))
    trainer = assemble(config, tmp_path / "run")
    trainer.train()
    (event,) = [event for event in Run(tmp_path / "run").events() if event["kind"] == "memory"]
    assert event["planned_gib"] == pytest.approx(trainer.footprint.planned.peak / 2**30) and event["place"] == "host"  # type: ignore[union-attr]
    assert 0 < event["measured_gib"] < 4
    (told,) = [event["text"] for event in Run(tmp_path / "run").events() if str(event.get("text")).startswith("Memory up to")]
    assert "measured" in told and "planned" in told
    (plan,) = Run(tmp_path / "run").events("memory_plan")
    sizes = [part["gib"] for part in plan["parts"]]
    assert sum(sizes) == pytest.approx(event["planned_gib"]) and sizes == sorted(sizes, reverse=True)
    assert plan["phase"] == "train" and {"weights", "activations"} <= {part["name"] for part in plan["parts"]}


def test_a_run_that_goes_on_compares_nothing(tmp_path: Path) -> None:
    """Prevents: a peak of another process, or of a step that was measured before."""
    config = load_config("arithmetic", settings(save_tiny("qwen3", tmp_path / "model")))
    first = assemble(config, tmp_path / "run")
    first.step()
    first._finish(0.0)  # as after Ctrl-C
    assert reassemble(tmp_path / "run").footprint is None


def test_what_is_measured_lies_above_what_was_there_before() -> None:
    """Prevents: libraries, or a large thing that was gone before the model came, counted as the model's memory."""
    gone = torch.ones(2**26)
    del gone
    baseline = baseline_of(torch.device("cpu"))
    assert baseline is not None
    told: list[dict[str, Any]] = []

    class Recorder:
        def event(self, kind: str, **fields: Any) -> None:
            told.append(fields)

    from heron.config import Config
    from heron.memory import plan

    made = plan(Config(), {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                           "intermediate_size": 8, "vocab_size": 8}, prompt_tokens=4, device="host")
    kept = torch.ones(2**25)  # 128 MiB
    Footprint(planned=made, estimate="", device=torch.device("cpu"), baseline=baseline).record(Recorder())  # type: ignore[arg-type]
    assert 127 / 1024 < told[0]["measured_gib"] < 200 / 1024 and len(kept)
