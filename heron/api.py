"""What `import heron` offers: train, warmup, check, resume, evaluate, chat, load.

Each builds a config, calls one function below, and shows it.

The command line calls these same functions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heron.config import Config, WarmupConfig, load_config
from heron.errors import ConfigError, HeronError, did_you_mean
from heron.rewards import resolve
from heron.run import Run

if TYPE_CHECKING:
    from heron.checking import Report
    from heron.inference import LoadedModel
    from heron.training.trainer import Trainer
    from heron.training.warmup import Warmed

Reward = str | Callable[..., Any] | tuple[str | Callable[..., Any], float]


def train(
    recipe: str | Path | None = None, *, model: str | Path | Mapping[str, Any] | None = None,
    data: str | Path | Mapping[str, Any] | None = None,
    rewards: Sequence[Reward] | None = None, run_dir: str | Path | None = None, seed: int | None = None,
    start_from: str | Path | None = None, quiet: bool = False, **sections: Mapping[str, Any],
) -> Run:
    """Train a model and return its run directory.

    Args:
        recipe: a built-in recipe (`arithmetic`, `gsm8k`), a TOML file, or None for `arithmetic`.
        model: a folder, a hub id, or settings of the section `model`.
        data: a dataset (file, folder, hub id), or settings of the section `data`.
        rewards: reward functions, names of built-in ones, or `(function, weight)` pairs, instead of the recipe's.
        run_dir: where the run is recorded; must not exist yet or be empty. None: `runs/<recipe>-<time>`.
        seed: decides everything that is drawn.
        start_from: a run whose trained model this one begins with, and whose settings it takes over; of a recipe's, with its model alone.
        quiet: no live view.
        sections: settings by section, such as `train={"max_steps": 50}`.

    Raises:
        ConfigError, DataError, ModelError: before anything is trained.
        RewardError: a reward function raised or returned something that is not a finite number.
    """
    overrides, named = _overrides(model, data, seed, sections), _named_rewards(rewards)
    start = None if start_from is None else Path(start_from)
    config = load_config(recipe, overrides, named) if start is None else config_from(start, recipe, overrides, named)
    path = Path(run_dir) if run_dir is not None else default_run_dir(config)
    functions = None if rewards is None or _all_names(rewards) else resolve(_pairs(rewards))
    return train_config(config, path, rewards=functions, quiet=quiet, start_from=start)


def warmup(
    recipe: str | Path | None = None, *, out: str | Path, model: str | Path | Mapping[str, Any] | None = None,
    data: str | Path | Mapping[str, Any] | None = None, seed: int | None = None, quiet: bool = False, **sections: Mapping[str, Any],
) -> Warmed:
    """Fine-tune a model on demonstrations before it is trained by rewards: `heron.warmup("gsm8k", out="start", warmup={"dataset": ...})`.

    Args:
        recipe, model, data, seed, sections: as for `train`; the section `warmup` names the demonstrations.
        out: folder for the model (or the adapter); must not exist yet.
        quiet: no live view.

    Raises:
        ConfigError, DataError, ModelError: before anything is trained.
    """
    config = load_config(recipe, _overrides(model, data, seed, sections))
    return warmup_config(config, Path(out), quiet=quiet)


def check(
    recipe: str | Path | None = None, *, model: str | Path | Mapping[str, Any] | None = None,
    data: str | Path | Mapping[str, Any] | None = None, rewards: Sequence[Reward] | None = None, seed: int | None = None,
    prompts: int = 16, samples: int = 8, quiet: bool = False, **sections: Mapping[str, Any],
) -> Report:
    """Find out whether a recipe is worth training, without training: `heron.check("gsm8k", model=..., rewards=[...]).refuses`.

    Args:
        recipe, model, data, rewards, seed, sections: as for `train`.
        prompts: that the model is asked; 0 asks none.
        samples: answers to each, at least 2.
        quiet: print nothing.

    Raises:
        ConfigError, ModelError: the settings are wrong, or the model cannot be loaded. Wrong rows and rewards are findings.
    """
    config = load_config(recipe, _overrides(model, data, seed, sections), _named_rewards(rewards))
    functions = None if rewards is None or _all_names(rewards) else _pairs(rewards)
    return check_config(config, rewards=functions, prompts=prompts, samples=samples, quiet=quiet)


def resume(
    run_dir: str | Path, *, rewards: Sequence[Reward] | None = None, quiet: bool = False, **sections: Mapping[str, Any],
) -> Run:
    """Go on with a run from its last complete checkpoint, to the weights that it would have had without a pause (bit for bit on a CPU).

    Args:
        run_dir: an interrupted run; or a finished one that is given more steps: `train={"max_steps": 600}`.
        rewards: only if it was started with Python functions: the same ones.
        quiet: no live view.
        sections: settings that may change in the middle of a run, such as `train={"save_steps": 20}`; others are refused.

    Raises:
        RunError, ConfigError: it cannot go on, or not as the same run.
    """
    pairs = None if rewards is None else resolve(_pairs(rewards))
    return resume_config(Path(run_dir), _overrides(None, None, None, sections), rewards=pairs, quiet=quiet)


def evaluate(
    run_dir: str | Path, *, start: bool = False, size: int | None = None, samples: int | None = None
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure a run's model (or its start) on held-out problems; returns a row per problem, and the totals."""
    from heron.training.held_out import evaluator_of_run

    return evaluator_of_run(Run(Path(run_dir)), start=start, size=size, samples=samples).measure()


def chat(run_dir: str | Path, question: str, *, start: bool = False, temperature: float = 0.0, max_tokens: int | None = None) -> str:
    """One answer of a run's model (or of its start) to one question. `heron chat` keeps the model loaded between questions."""
    from heron.serving.conversation import Conversation

    return Conversation.of_run(Run(Path(run_dir)), start=start, temperature=temperature, max_tokens=max_tokens).ask(question)


def load(
    path: str | Path, *, fast_inference: bool = True, dtype: Any = "auto", device: str = "auto", max_concurrent: int = 256,
    chat_template: str | None = None,
) -> LoadedModel:
    """A model to generate with, without training: `heron.load("runs/first").fast_generate(["2 + 2 ="])`.

    Args:
        path: a run, a model folder (whole, or an adapter), or a hub id.
        fast_inference: sample with Heron's own engine; False takes `generate` of transformers, slow and plain.
        dtype: `auto` keeps the checkpoint's (or the run's); else `float32` or `bfloat16`, as a name or as torch's.
        device: `auto` takes CUDA when there is one; or a torch device such as `cpu`.
        max_concurrent: most completions that are sampled at once.
        chat_template: name of a built-in template, for a base model that has none of its own.
    """
    from heron.inference import load

    return load(
        path, fast_inference=fast_inference, dtype=dtype, device=device, max_concurrent=max_concurrent, chat_template=chat_template
    )


def train_config(
    config: Config, run_dir: Path, *, rewards: Sequence[Any] | None = None, quiet: bool = False, start_from: Path | None = None
) -> Run:
    """Train as a loaded config says; `rewards` replaces its reward functions with `(function, weight)` pairs."""
    return _run(config, quiet=quiet, make=lambda listeners: _assembled(config, run_dir, rewards, listeners, start_from))


def config_from(run_dir: Path, recipe: str | Path | None, *overrides: Mapping[str, Any]) -> Config:
    """The config of a new run that begins with the model of this one: its settings, or the recipe's, with `overrides` on top."""
    for key in ("name", "adapter", "revision"):
        if any(key in override.get("model", {}) for override in overrides):
            raise ConfigError(f"model.{key} is given, but the new run begins with the model of {run_dir}. Leave out one of the two.")
    own = Run(run_dir).path / "config.toml"
    without_warmup = {"warmup": dataclasses.asdict(WarmupConfig())}
    if recipe is None:
        return load_config(own, without_warmup, *overrides)
    return load_config(recipe, without_warmup | {"model": load_config(own).as_dict()["model"]}, *overrides)


def resume_config(
    run_dir: Path, settings: Mapping[str, Mapping[str, Any]], *, rewards: Sequence[Any] | None = None, quiet: bool = False
) -> Run:
    """Go on with a run, `settings` laid on its own."""
    config = load_config(Run(run_dir).path / "config.toml", settings)
    return _run(config, quiet=quiet, make=lambda listeners: _reassembled(run_dir, rewards, settings, listeners))


def warmup_config(config: Config, out: Path, *, quiet: bool = False) -> Warmed:
    """Warm up as a loaded config says."""
    from heron.run import TerminalView

    with contextlib.ExitStack() as stack:
        stack.enter_context(_cpu_threads(config.train.num_threads))
        listeners = [] if quiet else [stack.enter_context(TerminalView())]
        from heron.training.start import warm_up_alone

        return warm_up_alone(config, out, listeners)


def check_config(
    config: Config, *, rewards: Sequence[Any] | None = None, prompts: int = 16, samples: int = 8, quiet: bool = False
) -> Report:
    """Check a loaded config; `rewards` replaces its reward functions with `(function, weight)` pairs."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_cpu_threads(config.train.num_threads))
        from heron.checking import CheckView, check, print_report

        listener = {} if quiet else {"listener": stack.enter_context(CheckView())}
        report = check(config, rewards=rewards, prompts=prompts, samples=samples, **listener)
    if not quiet:
        print_report(report)
    return report


def default_run_dir(config: Config) -> Path:
    """`runs/<recipe>-<local time>`, with a number behind it for the second one of a second."""
    name = f"{Path(config.recipe).name.removesuffix('.toml')}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folders = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return next(folder for folder in folders if not folder.exists())


def _run(config: Config, *, quiet: bool, make: Callable[[Sequence[Any]], Trainer]) -> Run:
    """Assemble, train, and report, with the live view around it all."""
    from heron.run import TerminalView, print_report

    with contextlib.ExitStack() as stack:
        stack.enter_context(_cpu_threads(config.train.num_threads))
        trainer = make([] if quiet else [stack.enter_context(TerminalView())])
        trainer.train()
    run = Run(trainer.run.path)
    if not quiet:
        print_report(run, show=config.evaluation.show)
    return run


@contextlib.contextmanager
def _cpu_threads(count: int) -> Iterator[None]:
    """So many threads for torch inside, as many as before afterwards; 0 changes nothing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _assembled(
    config: Config, path: Path, rewards: Sequence[Any] | None, listeners: Sequence[Any], start_from: Path | None
) -> Trainer:
    """Loading torch and transformers takes seconds, so it happens under the view."""
    from heron.training.assemble import assemble

    return assemble(config, path, rewards=rewards, listeners=listeners, start_from=start_from)


def _reassembled(
    path: Path, rewards: Sequence[Any] | None, settings: Mapping[str, Mapping[str, Any]], listeners: Sequence[Any]
) -> Trainer:
    from heron.training.assemble import reassemble

    return reassemble(path, rewards=rewards, settings=settings, listeners=listeners)


def _overrides(
    model: str | Path | Mapping[str, Any] | None, data: str | Path | Mapping[str, Any] | None, seed: int | None,
    sections: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The keyword arguments of `train` as one nested mapping."""
    for name, values in sections.items():
        if not isinstance(values, Mapping):
            raise ConfigError(f"heron.train has no argument {name!r}, and a section of settings must be a mapping, not {values!r}."
                              f"{did_you_mean(name, ('recipe', 'model', 'data', 'rewards', 'run_dir', 'seed', 'start_from', 'quiet'))}")
    merged: dict[str, Any] = {name: dict(values) for name, values in sections.items()}
    if model is not None:
        merged["model"] = {"name": str(model)} if isinstance(model, str | Path) else dict(model)
    if data is not None:
        merged["data"] = {"dataset": str(data)} if isinstance(data, str | Path) else dict(data)
    if seed is not None:
        merged.setdefault("train", {})["seed"] = seed
    return merged


def _pairs(rewards: Sequence[Reward]) -> list[tuple[Any, float]]:
    if isinstance(rewards, str) or not isinstance(rewards, Sequence):
        raise ConfigError(f"rewards must be a list, but it is {rewards!r}. Write rewards=[...], also for a single one.")
    pairs = [reward if isinstance(reward, tuple) else (reward, 1.0) for reward in rewards]
    for pair in pairs:
        if len(pair) != 2 or not (callable(pair[0]) or isinstance(pair[0], str)):
            raise ConfigError(f"{pair!r} is not a reward. Give a function, the name of a built-in one, or a pair of either and a weight.")
    return pairs


def _all_names(rewards: Sequence[Reward]) -> bool:
    return all(isinstance(function, str) for function, _ in _pairs(rewards))


def _named_rewards(rewards: Sequence[Reward] | None) -> dict[str, Any]:
    """Rewards that are given by name belong into the config; functions cannot be written there."""
    if rewards is None:
        return {}
    pairs: list[tuple[Any, float]] = _pairs(rewards) if _all_names(rewards) else []
    return {"rewards": {"functions": [name for name, _ in pairs], "weights": [weight for _, weight in pairs]}}


def print_error(error: HeronError) -> None:
    """An error of ours on one line, without a traceback; the cause's traceback where a user's function raised."""
    import traceback

    print(f"heron: {error}", file=sys.stderr)
    if error.__cause__ is not None and type(error).__name__ == "RewardError":
        traceback.print_exception(error.__cause__, file=sys.stderr)
