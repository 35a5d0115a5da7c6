"""How far a sampler's log-probs are from the trainer's, measured in whole steps, with an engine that is off by known amounts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import in_float64, naive_logprobs
from small_runs import Engine, make_trainer, remember, small_config, use_engine
from torch import Tensor

from heron.objective import find_correction
from heron.run import Run
from heron.types import Completion, Group


class Off(Engine):
    """Reports log-probs that are too high for every second token and too low for the others."""

    def reported(self, completion: Completion) -> Completion:
        return replace(
            completion, logprobs=tuple(value + (0.2 if place % 2 else -0.1) for place, value in enumerate(completion.logprobs))
        )


def variety(completion: str) -> float:
    return len(set(completion)) / 10


@pytest.mark.parametrize("minibatches", [1, 2])
def test_it_is_that_of_the_policy_that_sampled(tiny_folder: Callable[[str], Path], tmp_path: Path, minibatches: int) -> None:
    """Prevents: a gap that grows because the weights have moved, one of the first minibatch alone, or means of means."""
    trainer = make_trainer(
        small_config(tiny_folder("qwen3"), objective={"num_minibatches": minibatches, "num_iterations": 2}, train={"learning_rate": 0.05}),
        tmp_path / "run", rewards=[variety],
    )
    use_engine(trainer, Off(trainer.policy))
    correction = find_correction("token_truncate", high=1.05)
    trainer.updater = replace(trainer.updater, objective=replace(trainer.updater.objective, correction=correction))
    groups: list[Group] = []
    remember(trainer, groups)
    start = in_float64(trainer.policy.model)
    trainer.step()
    gap = gaps(start, [replace(g, rollouts=tuple(r for r in g.rollouts if r.advantage)) for g in groups])
    seen = Run(trainer.run.path).metrics()[0]
    assert seen["sampling/logp_difference_mean"] == pytest.approx(float(gap.abs().mean()), abs=1e-5)
    assert seen["sampling/logp_difference_max"] == pytest.approx(float(gap.abs().max()), abs=1e-5)
    assert seen["sampling/k3"] == pytest.approx(float((gap.exp() - gap - 1).mean()), abs=1e-5)
    if minibatches == 1:
        rho = gap.exp().clamp(max=1.05)
        assert seen["sampling/ess"] == pytest.approx(float(rho.sum() ** 2 / (len(rho) * rho.square().sum())), abs=1e-5)
        assert seen["sampling/importance_raw/max"] == pytest.approx(float(gap.exp().max()), abs=1e-5)


@torch.no_grad()
def gaps(model: Any, groups: Sequence[Group]) -> Tensor:
    """Trainer - sampler, of every token."""
    reported = [value for group in groups for r in group.rollouts for value in r.turns[0].completion.logprobs]
    return torch.cat(naive_logprobs(model, groups)) - torch.tensor(reported, dtype=torch.float64)


def test_the_native_engine_is_the_trainer(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Guards the test above, and the claim that no second pass is needed."""
    trainer = make_trainer(small_config(tiny_folder("qwen3")), tmp_path / "run", rewards=[variety])
    trainer.step()
    seen = Run(trainer.run.path).metrics()[0]
    assert seen["sampling/logp_difference_max"] < 1e-5 and seen["sampling/k3"] < 1e-9
    assert "sampling/ess" not in seen
