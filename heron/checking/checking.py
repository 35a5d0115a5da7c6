"""`heron check`: whether a recipe is worth a run, found out without one.

The one hard idea: nothing is checked in a way of its own. Rows, rewards, environment, model, engine and estimator are those that a run
would have, so what passes here is what a run meets; but where a run stops at the first fault, a check goes on and gathers all of them.
Nothing is written, but the embedded model into its cache.

What it leaves out: memory (`heron plan`), and a warm-up that the recipe begins with: what the model is before it says nothing about the
run, so it is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from heron.checking import signal, trials
from heron.checking.cost import words_of_cost
from heron.checking.findings import Finding, Lengths, Level, Report, Signal, Trial
from heron.checking.lengths import measure
from heron.checking.rows import read_rows, unscorable
from heron.config import Config
from heron.config.warmup import WarmupConfig
from heron.engine import SamplingParams, check_installed, make_engine
from heron.environments import Environment, resolve_rewards
from heron.errors import ConfigError
from heron.models import Policy, load_policy
from heron.models.adapters import check_adapter
from heron.models.quantized import check_bitsandbytes
from heron.objective import find_estimator
from heron.rewards import Rubric, Verifier, resolve_verifier
from heron.rollout import Collector
from heron.rollout.verdicts import Verdicts
from heron.training.judging import appoint_judge
from heron.training.prompts import environment_of, give_tools, without_longest
from heron.training.start import begin
from heron.types import Prompt

Listener = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What a run of the config would score with."""

    functions: list[tuple[Any, float]]
    rubric: Rubric
    environment: Environment
    verifier: Verifier


def check(
    config: Config, *, rewards: Sequence[Any] | None = None, prompts: int = 16, samples: int = 8, listener: Listener = lambda *_: None
) -> Report:
    """Everything that can be known of a run before it begins.

    Args:
        config: of the run.
        rewards: `(function, weight)` pairs instead of the config's.
        prompts: that the start of the run is asked; 0 asks none.
        samples: answers to each, at least 2.
        listener: hears of messages and progress, as those of a run do.
    """
    _refuse_settings(config, prompts, samples)
    parts = _parts(config, rewards)
    listener("message", {"text": f"Reading the rows of {config.data.dataset} ..."})
    dataset, counts, findings = read_rows(config, question_is_all=parts.environment.uses_verifier)
    if dataset is None:
        return Report(recipe=config.recipe, findings=tuple(findings))
    bad, found = unscorable(dataset, parts.rubric, parts.environment, parts.verifier)
    findings += [*found, *_of_warmup(config)]
    policy = _start(config, parts, listener)
    dataset, trimmed = without_longest(dataset, policy, parts.environment, config.data.prompt_quantile)
    findings += [Finding(level=Level.NOTE, topic="prompts", text=trimmed)] if trimmed else []
    good = [prompt for prompt in (*dataset.train, *dataset.heldout) if prompt.id not in bad]
    if not good:
        return Report(recipe=config.recipe, findings=tuple(findings), rows=counts)
    lengths, too_long, found = measure(good, policy, parts.environment, config.rollout.max_completion_length)
    usable = [prompt for prompt in dataset.train if prompt.id not in bad | too_long]
    made_up, of_rewards = _try(usable, parts, policy, stops=config.rewards.on_error == "stop")
    asked = signal.chosen(usable, prompts) if config.warmup.dataset is None else []
    seen, of_signal = _ask(config, policy, parts, asked, samples, made_up, lengths, listener) if asked else (None, [])
    findings += [*found, *of_rewards, *of_signal]
    return Report(recipe=config.recipe, findings=tuple(findings), rows=counts, lengths=lengths, trials=tuple(made_up), signal=seen)


def _refuse_settings(config: Config, prompts: int, samples: int) -> None:
    """What cannot be begun with here."""
    if prompts < 0 or samples < 2:
        raise ConfigError(f"The probe was to ask {prompts} prompts for {samples} answers each. It needs at least 2 answers to compare; "
                          "--no-probe asks nothing.")
    check_bitsandbytes(config.model)
    check_adapter(config.model)
    check_installed(config.rollout.engine, vllm_url=config.rollout.vllm_url)


def _parts(config: Config, rewards: Sequence[Any] | None) -> _Parts:
    environment = environment_of(config)
    given, weights = (config.rewards.functions, config.rewards.weights) if rewards is None else (rewards, ())
    functions = resolve_rewards(given, weights, environment, timeout=config.rewards.timeout)
    if not functions:
        raise ConfigError("There are no reward functions, so nothing could be learnt. Name some in rewards.functions.")
    rubric = Rubric(functions, tags=config.tags, on_error="exclude")  # a failure is a finding here, whatever it would be in a run
    return _Parts(functions=functions, rubric=rubric, environment=environment, verifier=resolve_verifier(config.evaluation.verifier))


def _of_warmup(config: Config) -> list[Finding]:
    if config.warmup.dataset is None:
        return []
    return [Finding(
        level=Level.NOTE, topic="start", text="The recipe begins with a warm-up, so the model as it is now was not asked.",
        advice="`heron warmup` makes the start and prints the command that trains from there; with check in place of train it asks it.",
    )]


def _start(config: Config, parts: _Parts, listener: Listener) -> Policy:
    """The model that a run would begin with, but for its own warm-up; drawn from the seed as a run's. It knows the tools, and may judge."""
    before = config if config.warmup.dataset is None else replace(config, warmup=WarmupConfig())
    source = begin(before, Path(), [listener], measured=()).source
    torch.manual_seed(config.train.seed)
    policy = load_policy(config.model, config.tags, source=source, reference=False)
    appoint_judge(parts.rubric, config, start=lambda: policy)
    give_tools(policy, parts.environment.tools)
    return policy


def _try(prompts: Sequence[Prompt], parts: _Parts, policy: Policy, *, stops: bool) -> tuple[list[Trial], list[Finding]]:
    """Made-up answers, where an answer is all that there is to say."""
    if parts.environment.max_turns > 1:
        return [], [Finding(level=Level.NOTE, topic="rewards", text="The environment has several turns, so no answers were made up to try "
                            "the rewards on.")]
    made_up = trials.tried(prompts, parts.functions, policy, parts.environment)
    return made_up, trials.findings_of(made_up, stops=stops)


def _ask(
    config: Config, policy: Policy, parts: _Parts, prompts: Sequence[Prompt], samples: int, made_up: Sequence[Trial], lengths: Lengths,
    listener: Listener,
) -> tuple[Signal, list[Finding]]:
    """The signal probe, announced with its cost."""
    listener("message", {"text": words_of_cost(config, prompts=len(prompts), samples=samples, prompt_tokens=lengths.percentiles["100"])})
    rollout = config.rollout
    engine = make_engine(
        rollout.engine, policy, max_concurrent=rollout.max_concurrent, cache_gib=rollout.cache_gib, vllm_url=rollout.vllm_url,
        vllm_folder=rollout.vllm_folder,
    )
    collector = Collector(
        policy=policy, engine=engine, environment=parts.environment, rubric=parts.rubric,
        estimator=find_estimator(config.objective.advantage_estimator), scale_rewards=config.objective.scale_rewards,
        verdicts=Verdicts(environment=parts.environment, verifier=parts.verifier, tags=config.tags),
    )
    seen = signal.probe(
        collector, prompts, SamplingParams(max_tokens=rollout.max_completion_length, temperature=rollout.temperature), samples=samples,
        seed=config.train.seed,
        report=lambda phase, done, total: listener("progress", {"phase": phase, "done": done, "total": total}),
    )
    return seen, signal.findings_of(seen, made_up, stops=config.rewards.on_error == "stop")
