"""From a config to a trainer that is ready: everything that can be wrong is found here, before time is spent.

Order of checks: device and packages, rewards, data, rewards against data, run directory, model, prompts against the model's context.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from heron import data
from heron.config import Config, load_config, to_toml
from heron.config.model import EMBEDDED
from heron.config.schema import RolloutConfig
from heron.engine import Engine, check_installed, is_exact, make_engine
from heron.environments import SingleTurn
from heron.errors import ConfigError, DataError, ModelError, RunError
from heron.kernels.matmul import Route, choose_route
from heron.models import Policy, load_policy
from heron.models.loading import find_device, locate
from heron.objective import find_estimator
from heron.rewards import Rubric, Verifier, check_reference, resolve, resolve_verifier
from heron.rollout import Collector
from heron.run import Run, RunWriter
from heron.training.anchor import anchored
from heron.training.checkpoint import Checkpoints, TrainState, load_state, restore_optimizer
from heron.training.compiled import advice_on, entropy_bonus_of, objective_of
from heron.training.cost import plan_of
from heron.training.held_out import make_evaluator
from heron.training.optimizer import make_optimizer
from heron.training.probing import check_estimator, moves_without_advantage
from heron.training.samples import weighing_of
from heron.training.trainer import Trainer
from heron.training.updater import Updater
from heron.training.warmup import warm_start
from heron.types import Prompt
from heron.version import VERSION

Listener = Callable[[str, Mapping[str, Any]], None]
RewardFunctions = Sequence[Any]


def assemble(
    config: Config, run_dir: Path, *, rewards: RewardFunctions | None = None, listeners: Sequence[Listener] = ()
) -> Trainer:
    """A trainer for a new run in `run_dir`, which must not exist yet or be empty."""
    find_device(config.model.device)
    check_installed(config.rollout.engine, vllm_url=config.rollout.vllm_url)
    if config.model.name != EMBEDDED:
        locate(config.model.name)
    _refuse_used_folder(run_dir)
    config = anchored(config)
    _check_objective(config)
    rubric, dataset = _rubric_and_data(config, rewards)
    policy = _policy_at_start(config, _start(config, listeners))
    estimate = _estimate(config, _longest_prompt([*dataset.train, *dataset.heldout], policy, config.rollout.max_completion_length))
    optimizer = make_optimizer(policy.trainable(), config.train, activations=policy.dtype)
    route = _route(policy)
    manifest = _manifest(config, rubric, rewards) | {
        "start_model": policy.source, "data_fingerprint": _fingerprint(dataset), "matmul": route.name,
        "host_kernels": policy.is_hosted,
    }
    run = RunWriter.create(run_dir, config_toml=to_toml(config), manifest=manifest)
    state = TrainState(entropy=entropy_bonus_of(config.objective))
    trainer = _trainer(config, rubric, dataset, policy, optimizer, run, state, {}, listeners, f"{estimate}; {route.verdict}")
    trainer.route = route
    return trainer


def reassemble(run_dir: Path, *, rewards: RewardFunctions | None = None, listeners: Sequence[Listener] = ()) -> Trainer:
    """The trainer of an interrupted run, as it was at its last complete checkpoint; at its start if it has none yet."""
    record = Run(run_dir)
    if record.status == "finished":
        raise RunError(f"{run_dir} is finished: there is nothing to resume. Start a new run, or raise train.max_steps in its config.toml "
                       'and set "status" in run.json to "interrupted".')
    config = load_config(run_dir / "config.toml")
    check_installed(config.rollout.engine, vllm_url=config.rollout.vllm_url)
    _check_objective(config)
    if rewards is None and record.manifest.get("rewards_from_python"):
        raise RunError(f"{run_dir} was started with reward functions from Python, which a run cannot store. "
                       "Resume it with heron.resume(run_dir, rewards=[...]).")
    checkpoints = Checkpoints(run_dir / "checkpoints", keep=config.train.save_total_limit)
    path = checkpoints.latest()
    rubric, dataset = _rubric_and_data(config, rewards)
    if _fingerprint(dataset) != record.manifest["data_fingerprint"]:
        raise RunError(f"The data of {run_dir} has changed since the run began, so it would not go on with the same prompts. "
                       "Restore it, or start a new run from the run's model.")
    given, before = dict(zip(rubric.names, rubric.weights, strict=True)), record.manifest["rewards"]
    if given != before:
        raise RunError(f"{run_dir} was trained with the rewards and weights {before}, but {given} are given. Resume it with the same "
                       "ones, or start a new run from its model.")
    start = str(record.manifest["start_model"])
    state = TrainState(entropy=entropy_bonus_of(config.objective)) if path is None else load_state(path)
    policy = _policy_at_start(config, start) if path is None else _policy_at(path, config, start)
    policy.version = state.policy_version
    optimizer = make_optimizer(policy.trainable(), config.train, activations=policy.dtype)
    if path is not None:
        restore_optimizer(path, optimizer, policy.device)
    evaluations = _past_evaluations(record, state.step)
    run = RunWriter.reopen(run_dir, last_step=state.step)
    trainer = _trainer(config, rubric, dataset, policy, optimizer, run, state, evaluations, listeners, f"resumed after step {state.step}")
    trainer.route = Route(name=record.manifest.get("matmul", Route().name))  # another route would round differently
    if (was_hosted := bool(record.manifest.get("host_kernels"))) != policy.is_hosted:
        run.event("message", text=_other_kernels(was_hosted))
    trainer.saved_step = None if path is None else state.step
    return trainer


def _policy_at_start(config: Config, source: str) -> Policy:
    """The policy as a new run begins with it, a new adapter drawn from the seed."""
    torch.manual_seed(config.train.seed)
    policy = load_policy(config.model, config.tags, source=source)
    if config.objective.beta > 0 and config.model.method == "full":
        policy.set_reference(copy.deepcopy(policy.model))
    return policy


def _policy_at(checkpoint: Path, config: Config, start: str) -> Policy:
    """The policy of a checkpoint, with the start of the run as its reference."""
    if config.model.has_adapter:
        policy = load_policy(config.model, config.tags, source=start, adapter=checkpoint / "model")
    else:
        policy = load_policy(config.model, config.tags, source=checkpoint / "model")
        if config.objective.beta > 0:
            policy.set_reference(load_policy(config.model, config.tags, source=start).model)
    policy.source = start
    return policy


def _rubric_and_data(config: Config, rewards: RewardFunctions | None) -> tuple[Rubric, data.Dataset]:
    functions = resolve(config.rewards.functions, config.rewards.weights) if rewards is None else list(rewards)
    if not functions:
        raise ConfigError("There are no reward functions, so nothing could be learnt. "
                          "Name some in rewards.functions, or pass rewards=[...].")
    rubric = Rubric(functions, tags=config.tags)
    dataset = data.load(config.data, config.tags, seed=config.train.seed, eval_size=config.evaluation.size)
    rubric.check([*dataset.train, *dataset.heldout])
    verifier = resolve_verifier(config.evaluation.verifier)
    for prompt in dataset.heldout:
        if prompt.answer is not None:
            _check_held_out(verifier, config, prompt)
    return rubric, dataset


def _check_held_out(verifier: Verifier, config: Config, prompt: Prompt) -> None:
    try:
        check_reference(verifier, prompt)
    except DataError as error:
        raise DataError(f"{error} The held-out problems are judged by evaluation.verifier={config.evaluation.verifier!r}: choose another "
                        "one, such as exact, or evaluation.size=0 for none.") from error


def _start(config: Config, listeners: Sequence[Listener]) -> str:
    """The folder or hub id that training starts from; warms up the embedded model the first time it is asked for."""
    if config.model.name != EMBEDDED:
        return config.model.name

    def report(done: int, total: int) -> None:
        for listener in listeners:
            listener("progress", {"phase": "warm-up", "done": done, "total": total})

    return str(warm_start(config, on_progress=report))


def _refuse_used_folder(run_dir: Path) -> None:
    """A run begins in a folder of its own, which can be made and written to."""
    if run_dir.exists() and not run_dir.is_dir():
        raise RunError(f"{run_dir} is a file. Choose another --run-dir.")
    existing = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
    try:
        os.rmdir(tempfile.mkdtemp(dir=existing))
    except OSError as error:
        raise RunError(f"Nothing can be written in {existing}: {error}. Choose another --run-dir.") from error
    if run_dir.exists() and any(run_dir.iterdir()):
        raise RunError(f"{run_dir} is not empty. Choose another --run-dir, or go on with an interrupted run: heron resume {run_dir}")


def _trainer(
    config: Config, rubric: Rubric, dataset: data.Dataset, policy: Policy, optimizer: torch.optim.Optimizer, run: RunWriter,
    state: TrainState, evaluations: dict[str, dict[str, float]], listeners: Sequence[Listener], estimate: str,
) -> Trainer:
    for listener in listeners:
        run.subscribe(listener)
    engine = _engine(config.rollout, policy)
    objective = objective_of(config.objective)
    collector = Collector(
        policy=policy, engine=engine, environment=SingleTurn(), rubric=rubric,
        estimator=find_estimator(config.objective.advantage_estimator), scale_rewards=config.objective.scale_rewards,
        overlap=config.rewards.overlap,
    )
    run.event(
        "start", max_steps=config.train.max_steps, first_step=state.step + 1, reward_names=list(rubric.names),
        model=config.model.name, method=config.model.method, parameters=policy.num_parameters(),
        trainable_parameters=policy.num_parameters(trainable=True), run_dir=str(run.path), prompts=len(dataset.train),
        heldout=len(dataset.heldout), dropped=dataset.dropped, estimate=estimate,
        rollouts_per_step=config.train.prompts_per_step * config.rollout.num_generations,
    )
    for sentence in advice_on(config.objective, objective):
        run.event("message", text=sentence)
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
        run=run, checkpoints=Checkpoints(run.path / "checkpoints", keep=config.train.save_total_limit), state=state,
        evaluations=evaluations,
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


def _longest_prompt(prompts: Sequence[Prompt], policy: Policy, max_completion_length: int) -> int:
    """Tokens of the longest prompt. Every prompt and a whole completion must fit into the context."""
    longest, prompt = max(((len(_tokens(prompt, policy)), prompt) for prompt in prompts), key=lambda pair: pair[0])
    if policy.context_length is not None and longest + max_completion_length > policy.context_length:
        raise DataError(
            f"The prompt {prompt.id} has {longest} tokens; with rollout.max_completion_length={max_completion_length} it exceeds the "
            f"model's context of {policy.context_length}. Shorten or remove the row, or lower rollout.max_completion_length."
        )
    return longest


def _tokens(prompt: Prompt, policy: Policy) -> tuple[int, ...]:
    """The prompt's tokens; the model must know them all."""
    ids = policy.render(prompt.messages)
    if max(ids) >= policy.vocabulary_size:
        raise ModelError(f"The prompt {prompt.id} holds the token {max(ids)}, but the vocabulary of {policy.source} has "
                         f"{policy.vocabulary_size} entries. Its tokenizer belongs to another model, or has tokens that were added without "
                         "resizing the embedding.")
    return ids


def _estimate(config: Config, prompt_tokens: int) -> str:
    """What the run will cost in memory, in one line; families that the planner does not know are said to be so."""
    try:
        return f"memory planned: {plan_of(config, prompt_tokens=prompt_tokens).headline}"
    except ModelError as error:
        return f"memory cannot be planned: {error}"


def _fingerprint(dataset: data.Dataset) -> str:
    """Changes with any row's id, conversation or columns, and with their order."""
    digest = hashlib.sha256()
    for prompt in (*dataset.train, *dataset.heldout):
        digest.update(repr((prompt.id, prompt.messages, sorted(prompt.columns.items(), key=lambda item: item[0]))).encode())
    return digest.hexdigest()[:16]


def _past_evaluations(record: Run, step: int) -> dict[str, dict[str, float]]:
    """Totals that were measured up to the checkpoint's step."""
    events = [event for event in record.events() if event["kind"] == "evaluation"]
    return {event["name"]: event["totals"] for event in events if event["totals"]["step"] <= step}


def _manifest(config: Config, rubric: Rubric, rewards: RewardFunctions | None) -> dict[str, Any]:
    return {
        "recipe": config.recipe, "model": config.model.name, "method": config.model.method, "argv": sys.argv,
        "rewards": dict(zip(rubric.names, rubric.weights, strict=True)), "rewards_from_python": rewards is not None,
        "tags": list(config.tags), "seed": config.train.seed, "threads": torch.get_num_threads(),
        "versions": {
            "heron": VERSION, "python": platform.python_version(), "torch": torch.__version__,
            **{name: importlib.metadata.version(name) for name in ("transformers", "peft")},
        },
        "machine": f"{platform.machine()} {platform.system()}",
    }
