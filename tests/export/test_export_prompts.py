"""An export is asked what the run was asked: whole conversations, as they were trained on, and several of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finished_runs import make_run

from heron.compat.trl import GRPOConfig, GRPOTrainer
from heron.export.agreement import QUESTIONS, conversations
from heron.models.of_run import config_of
from heron.run import Run


def asked(number: int) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"What is {number}?"}]


def variety(completions: list[Any], **columns: Any) -> list[float]:
    """Tells nearly any two answers apart."""
    return [len(set(completion[-1]["content"])) / 10 for completion in completions]


def few_steps(folder: Path) -> GRPOConfig:
    """One prompt a step."""
    return GRPOConfig(output_dir=str(folder), max_steps=5, per_device_train_batch_size=4, num_generations=4, max_completion_length=6,
                      disable_tqdm=True, use_cpu=True)


def of_run(path: Path) -> list[list[dict[str, Any]]]:
    run = Run(path)
    return conversations(run, config_of(run))


def test_prompts_of_a_trl_run_are_whole_and_from_several_steps(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: an export checked on one question of the last step, without the system prompt that every row began with."""
    rows = [{"prompt": asked(number)} for number in range(8)]
    trainer = GRPOTrainer(str(tiny_folder("qwen3")), variety, few_steps(tmp_path), rows)
    trainer.train()
    assert trainer.run_dir is not None
    found = of_run(trainer.run_dir)
    assert len(found) == QUESTIONS == len({messages[-1]["content"] for messages in found})
    assert all(messages in [row["prompt"] for row in rows] for messages in found)


def test_held_out_conversations_are_asked_whole(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a system prompt of the row's own, or an earlier turn, that is left out when the export is checked."""
    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method="full")
    talk = [*asked(1), {"role": "assistant", "content": "1"}, {"role": "user", "content": "And 2?"}]
    write_evaluation(run_dir, [{"id": "0", "question": "And 2?", "asked": talk}, {"id": "1", "question": "And 3?"}])
    assert of_run(run_dir) == [talk, [{"role": "user", "content": "And 3?"}]]


def write_evaluation(run_dir: Path, rows: list[dict[str, Any]]) -> None:
    (run_dir / "evaluation" / "after.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
