"""Held-out measurement, assembled: for a run that is being trained, and for one that lies on disk.

The one hard idea: whatever is asked for later, no problem is measured that the run was trained on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from heron.config import Config, load_config
from heron.engine import NativeEngine
from heron.environments import Environment, resolve_rewards
from heron.errors import DataError
from heron.models.of_run import policy_of_run
from heron.rewards import Rubric, resolve_verifier
from heron.rollout import Collector
from heron.rollout.verdicts import Verdicts
from heron.run import Run
from heron.training.evaluation import Evaluator
from heron.training.growth import rows_of
from heron.training.judging import appoint_judge
from heron.training.prompts import environment_of, give_tools
from heron.types import Prompt


def make_evaluator(config: Config, collector: Collector, prompts: Sequence[Prompt]) -> Evaluator:
    """Held-out measurement as the config asks for it."""
    return Evaluator(
        collector=collector, prompts=tuple(prompts), verdicts=make_verdicts(config, collector.environment),
        samples=config.evaluation.samples, temperature=config.rollout.temperature,
        max_tokens=config.rollout.max_completion_length, seed=config.train.seed,
    )


def make_verdicts(config: Config, environment: Environment) -> Verdicts:
    """Right or not, as the config's evaluation sees it."""
    return Verdicts(environment=environment, verifier=resolve_verifier(config.evaluation.verifier), tags=config.tags)


def evaluator_of_run(run: Run, *, start: bool, size: int | None, samples: int | None) -> Evaluator:
    """Held-out measurement of a run's trained model, or of its start, with other numbers of problems and samples if given."""
    config = load_config(run.path / "config.toml")
    prompts = _never_trained_on(config, run, size)
    if samples is not None:
        config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, samples=samples))
    environment = environment_of(config)
    functions = resolve_rewards(config.rewards.functions, config.rewards.weights, environment, timeout=config.rewards.timeout)
    rubric = Rubric(functions, tags=config.tags, on_error=config.rewards.on_error) if functions else None  # none: they came from Python
    if rubric is not None:
        appoint_judge(rubric, config, start=lambda: policy_of_run(run, start=True))
    policy = policy_of_run(run, start=start)
    give_tools(policy, environment.tools)
    engine = NativeEngine(policy, max_concurrent=config.rollout.max_concurrent)  # whatever the run trained with: the same answers
    collector = Collector(policy=policy, engine=engine, environment=environment, rubric=rubric)
    return make_evaluator(config, collector, prompts)


def _never_trained_on(config: Config, run: Run, size: int | None) -> Sequence[Prompt]:
    """The run's held-out problems, or `size` problems of which none is among its training prompts."""
    own = rows_of(config, run.path)
    wanted = len(own.heldout) if size is None else size
    found = own.heldout[:wanted]
    if wanted > len(own.heldout):
        trained = {repr(prompt.messages) for prompt in own.train}
        more = rows_of(config, run.path, eval_size=wanted).heldout
        found = tuple(prompt for prompt in more if repr(prompt.messages) not in trained)
    if not found or len(found) < wanted:
        raise DataError(_too_few(run, max(len(found), len(own.heldout)), wanted))
    return found


def _too_few(run: Run, there: int, wanted: int) -> str:
    """What is missing, and where problems to measure with are to be given."""
    if there:
        return (f"{run.path} has only {there} problems that it was not trained on, not {wanted}. Ask for fewer with --size, or give the "
                "run an evaluation.size or a data.eval_dataset.")
    where = ("Its rewards came from a script, so it is measured there: with GRPOTrainer(eval_dataset=...) and trainer.evaluate()."
             if run.manifest.get("rewards_from_python") else "Begin a run with an evaluation.size or a data.eval_dataset.")
    return f"{run.path} has no problems that it was not trained on: none were held out when it began. {where}"
