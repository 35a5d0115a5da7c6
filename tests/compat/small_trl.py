"""A tiny model and options for runs of `GRPOTrainer` that take a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heron.compat.trl import GRPOConfig

SMALL: dict[str, Any] = {
    "max_steps": 2, "per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 6, "logging_steps": 1,
    "learning_rate": 1e-3, "disable_tqdm": True, "use_cpu": True,
}


def small_args(folder: Path, **options: Any) -> GRPOConfig:
    return GRPOConfig(output_dir=str(folder), **{**SMALL, **options})


def sayings(count: int = 8, **columns: Any) -> list[dict[str, Any]]:
    """Rows with a text as prompt."""
    return [{"prompt": f"Number {number} is", "number": number, **columns} for number in range(count)]


def questions(count: int = 8) -> list[dict[str, Any]]:
    """Rows with a conversation as prompt."""
    return [{"prompt": [{"role": "user", "content": f"What is {number} + 1?"}], "answer": str(number + 1)} for number in range(count)]


def variety(completions: list[Any], **kwargs: Any) -> list[float]:
    """Tells nearly any two answers apart."""
    texts = [each if isinstance(each, str) else each[-1]["content"] for each in completions]
    return [len(set(text)) / 10 for text in texts]
