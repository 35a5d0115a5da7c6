"""A run in plain words: what was trained, on what, with which rewards, for how long; and the figures that it ended with.

The one hard idea: a run that is alive, was killed, or was recorded by an earlier version knows only a part of this. What is not known is
left out, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heron.run.alerts.history import WINDOW
from heron.run.averages import finite, mean
from heron.run.reader import Run
from heron.run.text import clean, count, duration, number, share, share_with_interval

METHODS = {"full": "all of its weights are trained", "lora": "an adapter (LoRA) is trained beside its weights",
           "qlora": "an adapter is trained beside weights of a few bits (QLoRA)"}


def about(run: Run) -> dict[str, str]:
    """Label to words, in the order in which they are best read."""
    manifest, settings = run.manifest, run.known_settings
    start = next(iter(run.events("start")), {})
    told = {
        "model": _model(manifest, start),
        "task": _task(manifest, settings, start),
        "rewards": ", ".join(f"{name.replace('_', ' ')} (weight {weight:g})" for name, weight in manifest.get("rewards", {}).items()),
        "training": _training(run, settings),
        "took": _took(run),
        "on": _machine(manifest),
        "status": run.status + (f": {run.error}" if run.error else ""),
        "started": str(manifest.get("created", "")),
        "directory": str(run.path),
    }
    return {label: clean(words) for label, words in told.items() if words}


def versions(run: Run) -> dict[str, str]:
    """The packages that it was trained with."""
    return {name: str(version) for name, version in run.manifest.get("versions", {}).items()}


def end_figures(run: Run) -> dict[str, Any]:
    """What the run came to; a figure that it does not have is absent. The reward is a mean over the newest steps."""
    metrics, evaluations, summary = run.metrics(), run.evaluations(), run.summary or {}
    figures: dict[str, Any] = {"status": run.status, "steps": len(metrics)}
    for name in ("before", "after"):
        totals = evaluations.get(name, {})
        figures |= {f"{name}/{key}": totals[key] for key in _TOTALS if totals.get(key) is not None}
    for key in ("reward", "pass@1", "groups/with_signal", "completions/mean_length", "entropy"):
        newest = finite([record.get(key) for record in metrics[-WINDOW:]])
        figures |= {key: mean(newest)} if newest else {}
    peaks = finite([record.get("memory/peak_gib") for record in metrics])
    figures |= {"memory/peak_gib": max(peaks)} if peaks else {}
    return figures | {key: summary[key] for key in ("num_tokens", "seconds") if summary.get(key) is not None}


_TOTALS = (
    "problems", "accuracy", "accuracy_low", "accuracy_high", "pass_at_1", "pass_at_1_low", "pass_at_1_high", "mean_reward", "truncated")


def figures_in_words(figures: Mapping[str, Any]) -> dict[str, str]:
    """The same for a reader, a share with its interval; a dash where there is none."""
    measured = {
        f"{words}, {name}": share_with_interval({key.removeprefix(f"{name}/"): value for key, value in figures.items()}, key)
        for key, words in (("accuracy", "held-out accuracy"), ("pass_at_1", "held-out pass@1")) for name in ("before", "after")
    }
    return {
        "status": str(figures["status"]), "steps": count(figures["steps"]), **measured,
        "reward, newest steps": number(figures.get("reward")),
        "pass@1, newest steps": share(figures.get("pass@1")),
        "groups with a signal": share(figures.get("groups/with_signal")),
        "answer, tokens": number(figures.get("completions/mean_length"), 1),
        "entropy, nats": number(figures.get("entropy"), 4),
        "memory at the peak, GiB": number(figures.get("memory/peak_gib")),
        "tokens sampled": count(figures.get("num_tokens")),
        "took": duration(figures["seconds"]) if "seconds" in figures else "-",
    }


def _model(manifest: Mapping[str, Any], start: Mapping[str, Any]) -> str:
    if not manifest.get("model"):
        return ""
    total, trained = start.get("parameters"), start.get("trainable_parameters")
    size = f" of {_millions(total)} weights" if total else ""
    part = f", {_millions(trained)} trained" if trained and trained != total else ""
    method = METHODS.get(str(manifest.get("method")), "")
    return f"{manifest['model']}{size}{part}" + (f"; {method}" if method else "")


def _task(manifest: Mapping[str, Any], settings: Mapping[str, Any], start: Mapping[str, Any]) -> str:
    words = [f"recipe {manifest.get('recipe') or settings.get('recipe') or '?'}"]
    dataset = settings.get("data", {}).get("dataset")
    words += [f"data {dataset}"] if dataset else []
    words += [f"{count(start['prompts'])} problems to practise on"] if start.get("prompts") else []
    words += [f"{count(start['heldout'])} held out"] if start.get("heldout") else []
    return ", ".join(words)


def _training(run: Run, settings: Mapping[str, Any]) -> str:
    steps, train, rollout = len(run.metrics()), settings.get("train", {}), settings.get("rollout", {})
    of = f" of {count(train['max_steps'])}" if train.get("max_steps") and not train.get("forever") else ""
    words = [f"{count(steps)}{of} steps"]
    if train.get("prompts_per_step") and rollout.get("num_generations"):
        words.append(f"in each {train['prompts_per_step']} problems answered {rollout['num_generations']} times")
    words += [f"loss {settings['objective']['loss_type']}"] if settings.get("objective", {}).get("loss_type") else []
    words += [f"learning rate {train['learning_rate']:g}"] if train.get("learning_rate") else []
    words += [f"seed {train['seed']}"] if "seed" in train else []
    return ", ".join(words)


def _took(run: Run) -> str:
    summary = run.summary or {}
    words = [duration(summary["seconds"])] if summary.get("seconds") else []
    words += [f"{count(summary['num_tokens'])} tokens written by the model"] if summary.get("num_tokens") else []
    peak = finite([record.get("memory/peak_gib") for record in run.metrics()])
    words += [f"{number(max(peak))} GiB of memory at the peak"] if peak else []
    return ", ".join(words)


def _machine(manifest: Mapping[str, Any]) -> str:
    words = [str(manifest["machine"])] if manifest.get("machine") else []
    words += [f"{manifest['threads']} {'thread' if manifest['threads'] == 1 else 'threads'}"] if manifest.get("threads") else []
    words += [f"programs held by {manifest['sandbox']}"] if manifest.get("sandbox") else []
    return ", ".join(words)


def _millions(value: float) -> str:
    return f"{value / 1e9:.2f} billion" if value >= 1e9 else f"{value / 1e6:.2f} million"
