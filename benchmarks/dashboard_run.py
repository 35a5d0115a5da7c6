"""A made-up run as large as it has to be, in the very form in which the writer leaves one.

The one hard idea: nothing here is special. The figures drift and jitter as those of a training do, one step has a spike, a group holds
what a pupil of arithmetic would write; so an index that is quick on it is quick on a real one.

Left out: the writer itself, which would sync a hundred thousand files to the disk.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

from heron.run.reader import rollout_file
from heron.run.records import Record, replace

METRICS = (
    "reward", "reward_std", "frac_reward_zero_std", "groups/with_signal", "groups/all_right", "groups/mixed", "groups/all_wrong", "pass@1",
    "pass@k", "completions/mean_length", "completions/min_length", "completions/max_length", "completions/p10_length",
    "completions/p90_length", "completions/clipped_ratio", "completions/mean_length_right", "completions/mean_length_wrong",
    "completions/format_rate", "completions/duplicates", "entropy", "advantages/abs_mean", "advantages/min", "advantages/max",
    "rewards/right/mean", "rewards/right/std", "rewards/format/mean", "rewards/format/std", "loss", "kl", "clip_ratio/low_mean",
    "clip_ratio/high_mean", "ratio/max", "ratio/min", "grad_norm", "grad_norm_clipped", "sampling/k3", "learning_rate", "num_tokens",
    "memory/peak_gib", "time/sample", "time/score", "time/train", "time/step", "throughput/sample_tokens_per_second", "packing/padding",
)  # fmt: skip
"""Of each step."""
GROUPS, SIBLINGS = 2, 5
"""Ten rollouts a step."""
PROMPTS = 5000
"""A row comes back as it does in the epochs of a data set."""
SPIKE = 9.0e6
"""The gradient norm of one step in the middle."""


def make_run(directory: Path, *, steps: int, seed: int = 0) -> Path:
    """Write the run and return its directory."""
    random_source = random.Random(seed)
    (directory / "rollouts").mkdir(parents=True)
    (directory / "evaluation").mkdir()
    (directory / "config.toml").write_text('recipe = "arithmetic"\n')
    manifest = {"id": directory.name, "created": "2026-01-01T00:00:00+00:00", "status": "finished", "model": "made up"}
    (directory / "run.json").write_text(json.dumps(manifest))
    (directory / "events.jsonl").write_text(json.dumps({"kind": "start", "time": 0.0, "max_steps": steps}) + "\n")
    with open(directory / "metrics.jsonl", "w", encoding="ascii") as metrics:
        for step in range(1, steps + 1):
            metrics.write(json.dumps(metrics_of(step, steps, random_source)) + "\n")
            lines = [json.dumps(row) for row in rollouts_of(step, steps, random_source)]
            rollout_file(directory, step).write_text("\n".join(lines) + "\n", encoding="ascii")
    replace(directory / "summary.json", json.dumps({"steps": steps}).encode())
    return directory


def metrics_of(step: int, steps: int, random_source: random.Random) -> Record:
    """A step's line: each figure climbs its own curve, and jitters."""
    learnt = 1 - math.exp(-4 * step / steps)
    record: Record = {"step": step, **{name: learnt * (place + 1) + random_source.gauss(0, 0.1) for place, name in enumerate(METRICS)}}
    return record | {"grad_norm": SPIKE} if step == steps // 2 else record


def rollouts_of(step: int, steps: int, random_source: random.Random) -> Iterator[Record]:
    """A step's rows, in the writer's order and with its fields."""
    for group in range(GROUPS):
        number = random_source.randrange(PROMPTS)
        first, second = 100 + number % 71, 100 + number // 71
        right = [random_source.random() < 0.1 + 0.8 * step / steps for _ in range(SIBLINGS)]
        mean = sum(right) / SIBLINGS
        for sibling, is_right in enumerate(right):
            yield {
                "step": step, "group": group, "sibling": sibling, "prompt": f"arithmetic:{first}+{second}",
                "question": f"What is {first} + {second}?", "answer": str(first + second), "prefilled": "",
                **_answer(first, second, is_right, random_source), "advantage": 2.0 * (is_right - mean),
            }  # fmt: skip


def _answer(first: int, second: int, is_right: bool, random_source: random.Random) -> Record:
    said = first + second if is_right else first + second + random_source.choice((-10, -1, 1, 10))
    pattern = "" if is_right else " ".join(random_source.choices(("carry", "wait", "again", "so", "then"), k=random_source.randrange(1, 9)))
    units = f"{first % 10}+{second % 10}={first % 10 + second % 10}"
    text = f"<start_working_out>{units}, {pattern}<end_working_out><SOLUTION>{said}</SOLUTION>"
    failed = {"error": "The judge was silent."} if random_source.random() < 0.001 else {}
    return {
        "text": text, "rewards": {"right": 3.0 * is_right, "format": 1.0}, "reward": 3.0 * is_right + 1.0,
        "verdict": "right" if is_right else "wrong", "extracted": str(said), "follows_format": True,
        "finish_reason": "length" if random_source.random() < 0.01 else "stop", "length": len(text) // 3, **failed,
    }  # fmt: skip
