"""What a checkpoint says besides weights, moments and counters: settings, data and its cursor, judges, the record, the start.

Most of it follows from the settings and the step; it is written out so that a checkpoint can be read by itself, and so that what has
changed since is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heron.config import Config, to_toml
from heron.data import Dataset, GrowingCursor, PromptCursor
from heron.models import Policy
from heron.rewards import Rubric
from heron.rewards.judge.seat import seats
from heron.training.keeping.origin import Origin
from heron.training.keeping.state import TrainState
from heron.training.prompts import fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Of one sitting."""

    config: str
    """The run's settings, as TOML."""
    origin: Origin
    """The start of the run."""
    data_fingerprint: str
    """Changes with any row."""
    judges: tuple[Mapping[str, Any], ...]
    """Who is asked, and the folder where the answers are kept under names that are made of all that an answer depends on."""

    @classmethod
    def of_run(cls, config: Config, rubric: Rubric, policy: Policy, dataset: Dataset) -> Context:
        """Of a run with this policy."""
        judges = [seat.judge for seat in seats(function.function for function in rubric.functions) if not seat.is_empty]
        return cls(
            config=to_toml(config), origin=Origin(policy.source, revision=policy.revision, adapter=config.model.adapter),
            data_fingerprint=fingerprint(dataset),
            judges=tuple({"model": judge.model, "cache": judge.cache.folder and str(judge.cache.folder)} for judge in judges),
        )

    def about(self, config: Config, cursor: PromptCursor | GrowingCursor, state: TrainState, record: Mapping[str, Any]) -> dict[str, Any]:
        """All of it at one moment, but for the settings and the start, which have places of their own."""
        is_counted = bool(config.rollout.partial_tokens or config.rollout.resample_zero_signal)  # a step may take more or fewer
        consumed = state.prompts_begun if is_counted else state.step * cursor.batch_size
        train = config.train
        return {
            "data": {
                "fingerprint": self.data_fingerprint, "rows": cursor.num_rows, "seed": cursor.seed, "shuffle": cursor.shuffle,
                "prompts_consumed": consumed, "rows_in_flight": [flight.row for flight in state.in_flight],
            },
            "schedule": {
                "lr_scheduler_type": train.lr_scheduler_type, "warmup_steps": train.warmup_steps, "max_steps": train.max_steps,
                "next_step": state.step + 1,
            },
            "judges": list(self.judges),
            "record": dict(record),
        }
