"""Finished runs with tiny models, written without training: what an export begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinymodels import load_tiny, stir_adapter

from heron.config import load_config, to_toml
from heron.run import RunWriter

TOTALS = {"accuracy": 0.25, "accuracy_low": 0.15, "accuracy_high": 0.4, "problems": 8, "samples": 0, "step": 0}
QUESTIONS = ["What is 1 + 2?", "What is 30 + 4?", "What is 7 + 7?"]


def make_run(
    folder: Path, base: Path, *, method: str, dtype: str = "auto", scale: float = 0.3, alerts: tuple[dict[str, Any], ...] = (),
    **sections: Any,
) -> Path:
    """A finished run whose trained model differs from its start."""
    model = {"name": str(base), "method": method, "lora_rank": 4, "device": "cpu", "dtype": dtype}
    config = load_config("arithmetic", {"model": model, "rollout": {"max_completion_length": 12}, "train": {"seed": 7}} | sections)
    rewards = {"number_right": 1.0, "follows_format": 0.5}
    manifest = {
        "start_model": str(base), "model": str(base), "rewards": rewards, "data_fingerprint": "abc123", "machine": "x86_64 Linux",
    }
    writer = RunWriter.create(folder, config_toml=to_toml(config), manifest=manifest)
    for name, accuracy in (("before", 0.25), ("after", 0.75)):
        rows = [{"id": str(number), "question": question} for number, question in enumerate(QUESTIONS)]
        writer.evaluation(name, rows, TOTALS | {"accuracy": accuracy})
    for alert in alerts:
        writer.event("alert", **alert)
    policy = load_tiny(base, method=method, lora_rank=4, dtype=dtype)
    stir_adapter(policy, scale=scale)
    policy.save(folder / "model")
    evaluation = {"before": TOTALS, "after": TOTALS | {"accuracy": 0.75}}
    writer.finish("finished", {"steps": 5, "evaluation": evaluation})
    return folder
