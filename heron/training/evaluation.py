"""Held-out problems, measured the same way before, during and after: greedy accuracy, and pass@1 over samples.

Both come with 95 % intervals. An answer that cannot be read is not right, and is counted apart from a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from heron.engine.protocol import SamplingParams
from heron.rollout import Collector
from heron.rollout.verdicts import Verdicts
from heron.run.writer import asked_of
from heron.training.statistics import wilson
from heron.types import Prompt, Rollout

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """Measures the policy behind a collector on fixed problems with fixed seeds."""

    collector: Collector
    """Samples and scores."""
    prompts: tuple[Prompt, ...]
    """Held-out problems."""
    verdicts: Verdicts
    """Right or not."""
    samples: int
    """Sampled answers per problem."""
    temperature: float
    """Of the samples: the training one."""
    max_tokens: int
    """Longest answer."""
    seed: int
    """Of the samples; the same each time, so that before and after differ by the policy alone."""

    @property
    def num_answers(self) -> int:
        """That are asked for at once, at most."""
        return len(self.prompts) * max(self.samples, 1)

    def measure(self, on_progress: Progress | None = None) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """One row per problem, and the totals."""
        greedy = self._attempts(temperature=0.0, siblings=1, on_progress=on_progress)
        sampled = self._attempts(temperature=self.temperature, siblings=self.samples, on_progress=on_progress) if self.samples else [
            [] for _ in self.prompts]
        rows = [self._row(first, others) for (first,), others in zip(greedy, sampled, strict=True)]
        return rows, self._totals(rows)

    def _attempts(self, *, temperature: float, siblings: int, on_progress: Progress | None) -> list[list[Rollout]]:
        params = SamplingParams(max_tokens=self.max_tokens, temperature=temperature)
        rollouts = self.collector.sample(self.prompts, params, siblings=siblings, seed=self.seed, on_progress=on_progress)
        scored = iter(self.collector.rewarded([rollout for group in rollouts for rollout in group]))
        return [[next(scored) for _ in group] for group in rollouts]

    def _row(self, greedy: Rollout, sampled: Sequence[Rollout]) -> dict[str, Any]:
        return {
            "id": greedy.prompt.id, "question": greedy.prompt.question, "answer": greedy.prompt.answer, "text": greedy.text,
            "verdict": self.verdicts.of(greedy), "follows_format": self.verdicts.follows_format(greedy), "reward": greedy.reward,
            "length": greedy.length, "truncated": greedy.truncated,
            "sample_verdicts": [self.verdicts.of(rollout) for rollout in sampled], "sample_texts": [rollout.text for rollout in sampled],
            **asked_of(greedy), **({"conversation": greedy.said()} if len(greedy.turns) > 1 else {}),
        }

    def _totals(self, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
        totals: dict[str, float] = {
            "problems": len(rows), "samples": self.samples,
            "mean_length": fmean(row["length"] for row in rows), "truncated": fmean(row["truncated"] for row in rows),
        }
        totals["format_rate"] = fmean(row["follows_format"] for row in rows)
        rewards = [row["reward"] for row in rows if row["reward"] is not None]
        if rewards:
            totals["mean_reward"] = fmean(rewards)
        judged = [row for row in rows if row["verdict"] is not None]
        return totals | (self._accuracy(judged) if judged else {})

    def _accuracy(self, judged: Sequence[dict[str, Any]]) -> dict[str, float]:
        right = sum(row["verdict"] == "right" for row in judged)
        low, high = wilson(right, len(judged))
        totals = {
            "accuracy": right / len(judged), "accuracy_low": low, "accuracy_high": high,
            "unreadable": fmean(row["verdict"] == "unreadable" for row in judged),
        }
        if self.samples:
            rates = [fmean(verdict == "right" for verdict in row["sample_verdicts"]) for row in judged]
            low, high = wilson(sum(rates), len(rates))  # problems, not samples, are the independent trials
            totals |= {"pass_at_1": fmean(rates), "pass_at_1_low": low, "pass_at_1_high": high}
        return totals
