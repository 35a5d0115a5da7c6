"""Every number that a run logs has a registered definition, and every definition is of a number that some run logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from planted import break_gradients, little_memory
from small_runs import make_trainer, small_config, some_flat
from tinymodels import completion, prompt

from heron.run import Run
from heron.run.metrics import define, registered
from heron.training.outcomes import shares, solved
from heron.training.statistics import rollout_metrics
from heron.training.trainer import Trainer
from heron.types import Group, Rollout, Turn

KINDS: tuple[Mapping[str, Mapping[str, Any]], ...] = (
    {"objective": {"beta": 0.05, "num_iterations": 2, "off_policy_mask_threshold": 0.5}},
    {"objective": {"loss_type": "vespo", "num_minibatches": 2}},
    {"objective": {"entropy_coef": 0.01}, "rewards": {"overlap": True}},
    {"rollout": {"partial_tokens": 5}},
    {"rollout": {"engine": "hf"}, "objective": {"importance_sampling_correction": "token_mask"}},
    {"rewards": {"on_error": "exclude"}},
    {"rollout": {"resample_zero_signal": 1}},
    {"train": {"max_steps": 6, "save_steps": 1, "save_total_limit": 4, "micro_batch_tokens": 4000}},
)
FAULTY = len(KINDS) - 1
"""The run whose memory runs out, and whose gradients are not finite from its third step on."""


def picky(completion: str, log_metric: Any = None) -> float | None:
    """Fails at some answers, has nothing to say of others."""
    if len(completion) % 5 == 0:
        raise ValueError("an answer of such a length")
    return None if len(completion) % 3 == 0 else float(len(completion))


def noted(prompts: list[str], completions: list[str], log_metric: Callable[[str, float], None], **columns: Any) -> list[float]:
    log_metric("mine", 1.0)
    return [float(len(text)) for text in completions]


@contextmanager
def plant(trainer: Trainer) -> Iterator[None]:
    """Gradients that are not finite in the third to fifth step, and memory for about half of a step's tokens."""
    break_gradients(trainer, {3, 4, 5})
    with little_memory(trainer, tokens=120):
        yield


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> set[str]:
    """Every name that any of these runs logged."""
    names: set[str] = set()
    for number, sections in enumerate(KINDS):
        folder = tmp_path_factory.mktemp("runs") / str(number)
        rewards = [picky, noted] if "on_error" in sections.get("rewards", {}) else [some_flat]
        trainer = make_trainer(small_config(tiny_folder("qwen3"), **sections), folder, rewards=rewards)
        with plant(trainer) if number == FAULTY else nullcontext():
            trainer.train()
        names |= {name for record in Run(folder).metrics() for name in record}
    return names


def test_every_logged_number_is_defined(logged: set[str]) -> None:
    """Prevents: a curve on the page that nobody can explain."""
    assert sorted(name for name in logged if define(name) is None) == []


def test_every_definition_is_of_a_number_that_is_logged(logged: set[str]) -> None:
    """Prevents: definitions, and alerts, of numbers that no run has ever recorded."""
    used = {definition.name for name in logged if (definition := define(name)) is not None}
    by_tiny_models = {"completions/mean_length_right"}  # they are never right
    assert sorted({metric.name for metric in registered()} - used - by_tiny_models) == []


def test_every_definition_says_something() -> None:
    for metric in registered():
        assert metric.sentence.endswith(".") and metric.good and metric.formula, metric.name
        assert metric.otherwise == "-" or metric.otherwise.endswith((".", "?")), metric.name


def rollout(reward: float | None, *, verdict: str | None = None, text: str = "", **rewards: float | None) -> Rollout:
    return Rollout(prompt=prompt(), turns=(Turn(prompt_ids=(1,), completion=completion(range(2))),), text=text, reward=reward,
                   rewards=rewards, verdict=verdict)


def group(*rollouts: Rollout) -> Group:
    return Group(prompt=prompt(), rollouts=rollouts)


def test_solved_by_hand() -> None:
    """Prevents: groups without a verdict counted as wrong, and pass@k of all rollouts together."""
    judged = [group(*(rollout(0.0, verdict=each) for each in verdicts)) for verdicts in (
        ("right", "right"), ("right", "wrong"), ("wrong", "unreadable"), ("wrong", "wrong"))]
    found = solved([*judged, group(rollout(1.0), rollout(0.0))])
    assert found == {"groups/all_right": 0.25, "groups/mixed": 0.25, "groups/all_wrong": 0.5, "pass@1": 0.375, "pass@k": 0.5}
    assert solved([group(rollout(1.0), rollout(0.0))]) == {}


def test_shares_are_of_the_differences_within_groups() -> None:
    """Prevents: a function that only tells problems apart being named as what the model is taught."""
    by_answer = [group(rollout(2.0 + base, a=base, b=2.0), rollout(0.0 + base, a=base, b=0.0)) for base in (0.0, 10.0)]
    assert shares(by_answer, {"a": 1.0, "b": 1.0}) == {"rewards/a/share": 0.0, "rewards/b/share": 1.0}
    both = [group(rollout(4.0, a=1.0, b=1.0), rollout(0.0, a=0.0, b=0.0))]
    assert shares(both, {"a": 3.0, "b": 1.0}) == {"rewards/a/share": 0.75, "rewards/b/share": 0.25}
    assert shares([group(rollout(1.0, a=1.0), rollout(1.0, a=1.0))], {"a": 1.0}) == {}


def test_duplicates_and_lengths_by_verdict() -> None:
    found = rollout_metrics([group(rollout(1.0, text="x", verdict="right"), rollout(0.0, text="x", verdict="wrong"),
                                   rollout(0.0, text="y", verdict="unreadable"), rollout(None, text="x", verdict="wrong"))], {})
    assert found["completions/duplicates"] == 0.5 and found["completions/unreadable"] == 0.25
    assert found["completions/mean_length_right"] == found["completions/mean_length_wrong"] == 2
