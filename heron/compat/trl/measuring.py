"""`trainer.evaluate()` as TRL means it: the reward functions on sampled answers to held-out prompts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from heron.compat.trl.naming import with_endings
from heron.data.rows import Row, to_prompt
from heron.engine import SamplingParams
from heron.training.statistics import rollout_metrics

SEED = 20_260_101
"""Of every evaluation: two of them differ by the weights alone."""


def measured(trainer: Any, rows: Sequence[Mapping[str, Any]], args: Any) -> dict[str, float]:
    """Means over the answers, by TRL's names and without its prefix, and how long it took. There is no `loss`: nothing is computed that
    nobody trains on."""
    prompts = [to_prompt(Row(id=f"eval:{number}", columns=row), prompt_column="prompt") for number, row in enumerate(rows)]
    params = SamplingParams(max_tokens=args.max_completion_length, temperature=args.temperature)
    began = time.perf_counter()
    groups = trainer.collector.collect(prompts, params, siblings=args.num_generations_eval or args.num_generations, seed=SEED)
    seconds = time.perf_counter() - began
    times = {"runtime": seconds, "samples_per_second": len(rows) / seconds}
    return with_endings({name.removeprefix("logged/"): value for name, value in rollout_metrics(groups, trainer.weights).items()}) | times
