"""From a config to a trainer that is ready: everything that can be wrong is found here, before time is spent.

Order of checks: device and packages, rewards, data, rewards against data, run directory, model, prompts against the model's context.
"""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from heron import data
from heron.config import Config, to_toml
from heron.config.model import EMBEDDED
from heron.config.schema import RolloutConfig
from heron.engine import Engine, check_installed, is_exact, make_engine
from heron.environments import resolve_rewards, sandbox_of
from heron.errors import ConfigError, RunError
from heron.kernels.matmul import Route, choose_route
from heron.models import Policy, load_policy
from heron.models.adapters import check_adapter
from heron.models.loading import find_device
from heron.models.locating import commit_of, locate
from heron.models.of_run import at_hand
from heron.models.quantized import check_bitsandbytes
from heron.objective import find_estimator
from heron.rewards import Rubric
from heron.rollout import Collector
from heron.run import Run, RunWriter, Watchman
from heron.run.sinks import check_sinks, subscribe_sinks
from heron.training.anchor import anchored
from heron.training.compiled import advice_on, entropy_bonus_of, objective_of
from heron.training.footprint import Footprint, baseline_of
from heron.training.growth import let_grow, remember_steps, rows_of
from heron.training.guarding.rescue import Rescue
from heron.training.held_out import make_evaluator, make_verdicts
from heron.training.inheriting import inheritance
from heron.training.judging import appoint_judge, lend_start
from heron.training.keeping import Draws, Keeper, TrainState, find, load_state, restore_optimizer
from heron.training.keeping.changes import going_on
from heron.training.keeping.context import Context
from heron.training.keeping.draws import begin_at
from heron.training.keeping.returning import check_record, check_start, refuse_second_trainer
from heron.training.optimizer import check_optimizer, make_optimizer, tables_of
from heron.training.present import shortage
from heron.training.probing import check_estimator, moves_without_advantage
from heron.training.prompts import check_rows, environment_of, fingerprint, give_tools, longest_prompt, without_longest
from heron.training.samples import weighing_of
from heron.training.start import begin, keep_if_begun
from heron.training.trainer import Trainer
from heron.training.updater import Updater
from heron.training.warmup import PARTIAL
from heron.version import VERSION

Listener = Callable[[str, Mapping[str, Any]], None]
RewardFunctions = Sequence[Any]


def assemble(
    config: Config, run_dir: Path, *, rewards: RewardFunctions | None = None, listeners: Sequence[Listener] = (),
    start_from: Path | None = None,
) -> Trainer:
    """A trainer for a new run in `run_dir`, which must not exist yet or be empty. With `start_from` it begins with that run's model."""
    heir = None if start_from is None else inheritance(config, start_from, has_rewards=rewards is not None)
    config = config if heir is None else heir.config
    check_optimizer(config.train, find_device(config.model.device))
    check_bitsandbytes(config.model)
    check_sinks(config.train.report_to)
    check_adapter(config.model)
    check_installed(config.rollout.engine, vllm_url=config.rollout.vllm_url)
    if config.model.name != EMBEDDED and heir is None:
        locate(config.model.name)
    _refuse_used_folder(run_dir)
    config = anchored(config)
    _check_objective(config)
    rubric, dataset = _rubric_and_data(config, rewards, run_dir)
    warning = _forewarn(config, listeners)
    with keep_if_begun(run_dir):
        start = begin(config, run_dir, listeners, measured=dataset.heldout) if heir is None else heir.begin(run_dir)
        config = start.config
        device = find_device(config.model.device)
        baseline = baseline_of(device)
        policy = _policy_at_start(config, start.source, start.kept)
        config = _pinned(config, policy)
        give_tools(policy, environment_of(config).tools)
        short, trimmed = without_longest(dataset, policy, environment_of(config), config.data.prompt_quantile)
        longest = longest_prompt([*short.train, *short.heldout], policy, environment_of(config), config.rollout.max_completion_length)
        footprint = Footprint.foreseen(config, prompt_tokens=longest, device=device, baseline=baseline)
        optimizer = make_optimizer(policy.trainable(), config.train, activations=policy.dtype, tables=tables_of(policy.model))
        route = _route(policy)
        manifest = _manifest(config, rubric, rewards) | start.record | {
            "start_model": policy.source, "model_revision": policy.revision, "data_fingerprint": fingerprint(dataset), "matmul": route.name,
            "host_kernels": policy.is_hosted, "quantization_kept": list(policy.quantization_kept),
        }
        run = RunWriter.create(run_dir, config_toml=to_toml(config), manifest=manifest)
    if warning is not None:
        run.event("message", text=warning)  # the listeners, who are not subscribed yet, have heard it
    state = TrainState(entropy=entropy_bonus_of(config.objective))
    trainer = _trainer(config, rubric, short, policy, optimizer, run, state, {}, listeners, f"{footprint.estimate}; {route.verdict}")
    trainer.footprint = footprint
    let_grow(trainer, short)
    footprint.announce(run)
    for sentence in (*start.sentences, *([trimmed] if trimmed else [])):
        run.event("message", text=sentence)
    trainer.route = route
    return trainer


def reassemble(
    run_dir: Path, *, settings: Mapping[str, Mapping[str, Any]] | None = None, rewards: RewardFunctions | None = None,
    listeners: Sequence[Listener] = (),
) -> Trainer:
    """The trainer of a run as it was at its last complete checkpoint; at its start if it has none yet. `settings` are laid on the run's."""
    record = Run(run_dir)
    refuse_second_trainer(run_dir)
    going = going_on(record, find(run_dir / "checkpoints"), settings or {})
    config, path = at_hand(going.config, record), going.found.path
    check_optimizer(config.train, find_device(config.model.device))
    check_bitsandbytes(config.model)
    check_sinks(config.train.report_to)
    check_installed(config.rollout.engine, vllm_url=config.rollout.vllm_url)
    _check_objective(config)
    if rewards is None and record.manifest.get("rewards_from_python"):
        raise RunError(f"{run_dir} was started with reward functions from Python, which a run cannot store. "
                       "Resume it with heron.resume(run_dir, rewards=[...]).")
    rubric, dataset = _rubric_and_data(config, rewards, run_dir)
    if fingerprint(dataset) != record.manifest["data_fingerprint"]:
        raise RunError(f"The data of {run_dir} has changed since the run began, so it would not go on with the same prompts. "
                       f"Restore it, or begin a new run with the run's model: heron train --from {run_dir}")
    given, before = dict(zip(rubric.names, rubric.weights, strict=True)), record.manifest["rewards"]
    if given != before:
        raise RunError(f"{run_dir} was trained with the rewards and weights {before}, but {given} are given. Resume it with the same "
                       f"ones, or begin a new run with its model: heron train --from {run_dir}")
    start = record.start_model
    check_start(record, path, config)
    state = TrainState(entropy=entropy_bonus_of(config.objective)) if path is None else load_state(path)
    kept = record.manifest.get("quantization_kept")
    policy = _policy_at_start(config, start, kept) if path is None else _policy_at(path, config, start, kept)
    give_tools(policy, environment_of(config).tools)
    dataset, _ = without_longest(dataset, policy, environment_of(config), config.data.prompt_quantile)
    policy.version = state.policy_version
    optimizer = make_optimizer(policy.trainable(), config.train, activations=policy.dtype, tables=tables_of(policy.model))
    if path is not None:
        restore_optimizer(path, optimizer, policy.device)
    is_over = state.step >= config.train.last_step
    last_step = None if path is None else state.step
    remember_steps(config, record)
    run = RunWriter.reopen(run_dir, last_step=last_step, config_toml=going.toml, was_last=is_over)
    evaluations = {name: dict(totals) for name, totals in record.evaluations().items()}
    trainer = _trainer(config, rubric, dataset, policy, optimizer, run, state, evaluations, listeners, f"resumed after step {state.step}")
    going.announce(run)
    let_grow(trainer, dataset)
    check_record(run, path)
    trainer.route = Route(name=record.manifest.get("matmul", Route().name))  # another route would round differently
    if (was_hosted := bool(record.manifest.get("host_kernels"))) != policy.is_hosted:
        run.event("message", text=_other_kernels(was_hosted))
    trainer.keeper.saved_step = last_step
    draws = None if path is None else Draws.load(path)
    if draws is not None:
        draws.put()
        trainer.draws = draws
    return trainer


def _policy_at_start(config: Config, source: str, kept: Sequence[str] | None = None) -> Policy:
    """The policy as a new run begins with it, a new adapter drawn from the seed."""
    torch.manual_seed(config.train.seed)
    policy = load_policy(config.model, config.tags, source=source, reference=config.objective.beta > 0, kept=kept)
    if config.objective.beta > 0 and config.model.method == "full":
        policy.set_reference(copy.deepcopy(policy.model))
    return policy


def _pinned(config: Config, policy: Policy) -> Config:
    """The run's own config names the commit that a hub id stood for: a resumed run goes on from the same weights, whatever is new there."""
    return config if policy.revision is None else replace(config, model=replace(config.model, revision=policy.revision))


def _policy_at(checkpoint: Path, config: Config, start: str, kept: Sequence[str] | None) -> Policy:
    """The policy of a checkpoint, with the start of the run as its reference."""
    if config.model.has_adapter:
        adapter, reference = checkpoint / "model", config.objective.beta > 0
        policy = load_policy(config.model, config.tags, source=start, adapter=adapter, reference=reference, kept=kept)
    else:
        policy = load_policy(config.model, config.tags, source=checkpoint / "model")
        if config.objective.beta > 0:
            policy.set_reference(load_policy(config.model, config.tags, source=start).model)
    policy.source, policy.revision = start, commit_of(start, config.model.revision)
    return policy


def _rubric_and_data(config: Config, rewards: RewardFunctions | None, run_dir: Path) -> tuple[Rubric, data.Dataset]:
    environment = environment_of(config)
    sandbox_of(environment)  # an error if there must be one and is none
    functions = resolve_rewards(
        config.rewards.functions if rewards is None else rewards, () if rewards is not None else config.rewards.weights, environment,
        timeout=config.rewards.timeout,
    )
    if not functions:
        raise ConfigError("There are no reward functions, so nothing could be learnt. "
                          "Name some in rewards.functions, or pass rewards=[...].")
    rubric = Rubric(functions, tags=config.tags, on_error=config.rewards.on_error)
    appoint_judge(rubric, config)
    dataset = rows_of(config, run_dir)
    rubric.check([*dataset.train, *dataset.heldout])
    check_rows(config, dataset, environment)
    return rubric, dataset


def _refuse_used_folder(run_dir: Path) -> None:
    """A run begins in a folder of its own, which can be made and written to."""
    if run_dir.exists() and not run_dir.is_dir():
        raise RunError(f"{run_dir} is a file. Choose another --run-dir.")
    existing = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
    try:
        os.rmdir(tempfile.mkdtemp(dir=existing))
    except OSError as error:
        raise RunError(f"Nothing can be written in {existing}: {error}. Choose another --run-dir.") from error
    if run_dir.exists() and any(not path.name.startswith(PARTIAL) for path in run_dir.iterdir()):
        raise RunError(f"{run_dir} is not empty. Choose another --run-dir, or go on with an interrupted run: heron resume {run_dir}")


def _trainer(
    config: Config, rubric: Rubric, dataset: data.Dataset, policy: Policy, optimizer: torch.optim.Optimizer, run: RunWriter,
    state: TrainState, evaluations: dict[str, dict[str, float]], listeners: Sequence[Listener], estimate: str,
) -> Trainer:
    watchman = Watchman(run, stop_at=config.train.strict)
    for listener in listeners:
        run.subscribe(listener)
    subscribe_sinks(run, config.train.report_to, config.as_dict())
    run.subscribe(watchman)
    lend_start(rubric, policy)
    environment = environment_of(config)
    give_tools(policy, environment.tools)
    engine = _engine(config.rollout, policy)
    objective = objective_of(config.objective)
    collector = Collector(
        policy=policy, engine=engine, environment=environment, rubric=rubric,
        estimator=find_estimator(config.objective.advantage_estimator), scale_rewards=config.objective.scale_rewards,
        verdicts=make_verdicts(config, environment), overlap=config.rewards.overlap,
    )
    run.event(
        "start", max_steps=0 if config.train.forever else config.train.max_steps, first_step=state.step + 1,
        reward_names=list(rubric.names), model=config.model.name, method=config.model.method, parameters=policy.num_parameters(),
        trainable_parameters=policy.num_parameters(trainable=True), run_dir=str(run.path), prompts=len(dataset.train),
        heldout=len(dataset.heldout), dropped=dataset.dropped, estimate=estimate,
        rollouts_per_step=config.train.prompts_per_step * config.rollout.num_generations,
    )
    for sentence in (*advice_on(config.objective, objective), *_kept_layers(policy)):
        run.event("message", text=sentence)
    begin_at(config.train.seed)
    return Trainer(
        config=config, prompts=dataset.train, cursor=_cursor(config, len(dataset.train)), policy=policy, collector=collector,
        updater=Updater(
            policy=policy, optimizer=optimizer, objective=objective, temperature=config.rollout.temperature,
            max_grad_norm=config.train.max_grad_norm, num_iterations=config.objective.num_iterations,
            engine_is_exact=engine.exact_logprobs,
        ),
        weighing=weighing_of(
            config.objective, scheme=objective.loss.weights, max_completion_length=config.rollout.max_completion_length,
            moves_without_advantage=moves_without_advantage(objective),
        ),
        evaluator=make_evaluator(config, collector, dataset.heldout) if dataset.heldout else None,
        run=run, keeper=Keeper(run, keep=config.train.save_total_limit), state=state, evaluations=evaluations, watchman=watchman,
        context=Context.of_run(config, rubric, policy, dataset), rescue=Rescue(config, run, functools.partial(
            longest_prompt, [*dataset.train, *dataset.heldout], policy, environment, config.rollout.max_completion_length,
        )),
    )


def _route(policy: Policy) -> Route:
    """The route of float32 products on this CPU, measured on the model's own layers for a few rows and for many."""
    if policy.device.type != "cpu" or policy.dtype is not torch.float32:
        return Route()
    return choose_route([(rows, *shape) for rows in (16, 256) for shape in policy.linear_shapes()])


def _other_kernels(was_hosted: bool) -> str:
    """What a resumed run is told if compiled kernels have come or gone."""
    before, now = ("with", "without") if was_hosted else ("without", "with")
    return (f"This run began {before} compiled kernels for the CPU and goes on {now} them: its results are those of a run without a pause "
            "up to rounding, not bit for bit. `heron doctor` says whether the kernels are there, and why not.")


def _kept_layers(policy: Policy) -> list[str]:
    """What a run is told of the layers that 4 bits would have hurt most."""
    kept = policy.quantization_kept
    return [f"{len(kept)} linear layers keep 16 bits, as measured: {', '.join(kept)}."] if kept else []


def _engine(rollout: RolloutConfig, policy: Policy) -> Engine:
    return make_engine(
        rollout.engine, policy, max_concurrent=rollout.max_concurrent, cache_gib=rollout.cache_gib, vllm_url=rollout.vllm_url,
        vllm_folder=rollout.vllm_folder,
    )


def _check_objective(config: Config) -> None:
    """The functions that it names are there, and fit their settings and the engine."""
    moves_without_advantage(objective_of(config.objective))
    entropy_bonus_of(config.objective)
    check_estimator(find_estimator(config.objective.advantage_estimator), scale_rewards=config.objective.scale_rewards)
    correction = config.objective.importance_sampling_correction
    if is_exact(config.rollout.engine) and correction != "none":
        raise ConfigError(f"objective.importance_sampling_correction is {correction!r}, but the engine samples with the very weights that "
                          "are trained: its log-probs are the trainer's, and there is nothing to correct. Leave it out.")


def _cursor(config: Config, num_prompts: int) -> data.PromptCursor:
    return data.PromptCursor(num_prompts, config.train.prompts_per_step, seed=config.train.seed, shuffle=config.data.shuffle)


def _forewarn(config: Config, listeners: Sequence[Listener]) -> str | None:
    """Say before anything is loaded that memory will not suffice."""
    warning = shortage(config)
    for listener in listeners if warning is not None else ():
        listener("message", {"text": warning})
    return warning


def _manifest(config: Config, rubric: Rubric, rewards: RewardFunctions | None) -> dict[str, Any]:
    return {
        "recipe": config.recipe, "model": config.model.name, "method": config.model.method, "argv": sys.argv,
        "rewards": dict(zip(rubric.names, rubric.weights, strict=True)), "rewards_from_python": rewards is not None,
        "penalties": list(rubric.penalties),
        "sandbox": rubric.sandbox or sandbox_of(environment_of(config)),
        "tags": list(config.tags), "seed": config.train.seed, "threads": torch.get_num_threads(),
        "versions": {
            "heron": VERSION, "python": platform.python_version(), "torch": torch.__version__,
            **{name: importlib.metadata.version(name) for name in ("transformers", "peft")},
        },
        "machine": f"{platform.machine()} {platform.system()}",
    }
