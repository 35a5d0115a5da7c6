"""The model card: what the model is, what it was rewarded for, and what that changed on problems it never saw."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from heron.config import Config
from heron.config.model import EMBEDDED
from heron.export.agreement import Agreement
from heron.export.naming import IN_PYTHON, base_name, base_of, data_of, hub_id, public, title_of
from heron.export.origin import known_flaws, license_of
from heron.export.trained import Trained
from heron.export.using import using
from heron.models.of_run import newest_model
from heron.run import Run
from heron.run.about import about
from heron.run.averages import finite


def model_card(trained: Trained, *, format: str, what: str, agreement: Agreement, notes: Sequence[str]) -> str:
    """README.md of an exported model, as Markdown with the front matter that model hubs read.

    Args:
        trained: whose card it is.
        format: `hf`, `adapter` or `gguf`.
        what: the weights, in a sentence.
        agreement: with the trained model.
        notes: what its user should know.
    """
    run, config = trained.run, trained.config
    export = "\n".join([f"{what} Compared with the trained model: {agreement.sentence}", *(f"\n- {note}" for note in notes)])
    parts = [
        _front_matter(run, config, format), f"# {title_of(run, config)}", _what(run, config), using(trained, format),
        _before_and_after(run, config), _rewards(run), known_flaws(run), _settings(run, config), f"## Export\n\n{export}",
    ]
    return "\n\n".join(parts) + "\n"


LIBRARIES = {"hf": "transformers", "adapter": "peft", "gguf": "gguf"}


def _front_matter(run: Run, config: Config, format: str) -> str:
    base, license = hub_id(run, config), license_of(run.start_model, base_name(run, config), revision=config.model.revision)
    lines = [f"library_name: {LIBRARIES[format]}", "pipeline_tag: text-generation",
             *([] if base is None else [f"base_model: {json.dumps(base)}"]), *([] if license is None else [f"license: {license}"]),
             "tags: [heron, grpo, reinforcement-learning]"]
    return "\n".join(["---", *lines, "---"])


def _what(run: Run, config: Config) -> str:
    """Base, training, and how far it came."""
    model, steps = config.model, _steps(run)
    after = "" if steps is None else f" after {steps} {'step' if steps == 1 else 'steps'} of reinforcement learning"
    by = "a training script" if config.recipe == IN_PYTHON else f"the recipe `{public(config.recipe)}`"
    return " ".join([
        f"This is {base_of(run, config)}{', built from scratch,' if model.name == EMBEDDED else ''}{after}, trained with "
        f"Heron by {by} (loss `{public(config.objective.loss_type)}`).",
        *(["It began with a warm-up on demonstrations."] if run.manifest.get("warmup") else []),
        f"A LoRA adapter of rank {model.lora_rank} was trained{f' on weights of {model.quantization}' if model.method == 'qlora' else ''}."
        if model.has_adapter else "All weights were trained.",
        *([] if run.status == "finished" else [f"The run had not ended when this was exported: it is {run.status}."]),
    ])


def _steps(run: Run) -> int | None:
    """Steps that the weights had seen; None where that is not known."""
    name = newest_model(run).parent.name
    if name.startswith("step-"):
        return int(name.removeprefix("step-"))
    steps = (run.summary or {}).get("steps")
    return None if steps is None else int(steps)


def _before_and_after(run: Run, config: Config) -> str:
    """What was measured on problems that were held out, and what the training itself paid."""
    measured = (run.summary or {}).get("evaluation") or {}
    before, after = measured.get("before") or {}, measured.get("after") or {}
    rows = [_row(words, before, after, key) for key, words in _measures(config).items() if key in before or key in after]
    head = "## Before and after"
    if not rows:
        why = " No problems were held out." if config.evaluation.size == 0 and config.recipe != IN_PYTHON else ""
        return "\n\n".join([head, f"Not measured.{why}", *_paid(run)])
    count = after.get("problems", before.get("problems"))
    table = "\n".join(["| | before | after |", "|---|---|---|", *rows])
    told = f"{count} held-out {'problem' if count == 1 else 'problems'}, none of them trained on; 95 % intervals in brackets."
    return "\n\n".join([head, told, table, *_paid(run)])


def _measures(config: Config) -> dict[str, str]:
    """Figures of an evaluation, in words."""
    return {
        "accuracy": f"accuracy, greedy (verifier `{public(config.evaluation.verifier)}`)", "pass_at_1": "pass@1, sampled",
        "mean_reward": "mean reward, greedy", "truncated": "answers cut off at the longest length, greedy",
    }


def _row(words: str, before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> str:
    return f"| {words} | {_figure(before, key)} | {_figure(after, key)} |"


def _figure(totals: Mapping[str, Any], key: str) -> str:
    if totals.get(key) is None:
        return "not measured"
    if key == "mean_reward":
        return f"{totals[key]:.2f}"
    interval = f" [{totals[f'{key}_low']:.1%}, {totals[f'{key}_high']:.1%}]" if f"{key}_low" in totals else ""
    return f"{totals[key]:.1%}{interval}"


FEW = 10
"""Steps at the beginning and at the end that a mean reward is of, at most."""


def _paid(run: Run) -> list[str]:
    """The mean reward in training, early and late: a sentence, or none where it was not recorded."""
    rewards = finite([record.get("reward") for record in run.metrics()])
    few = min(FEW, len(rewards) // 2)
    if not few:
        return []
    of = f"{few} steps" if few > 1 else "step"
    return [f"In training, the mean reward of an answer was {fmean(rewards[:few]):.2f} in the first {of} and {fmean(rewards[-few:]):.2f} "
            f"in the last {of}."]


def _rewards(run: Run) -> str:
    rewards = run.manifest.get("rewards") or {}
    rows = [f"| `{name}` | {weight:g} |" for name, weight in rewards.items()]
    return "\n".join(["## Rewards", "", "| function | weight |", "|---|---|", *rows])


def _settings(run: Run, config: Config) -> str:
    told, print_of_data = about(run), run.manifest.get("data_fingerprint")
    asked = {"environment": f"`{public(config.environment.name)}`"} if config.environment.name != "single_turn" else {}
    judge = {"judge": f"`{public(config.judge.name)}`"} if config.judge.name else {}
    settings = {
        "data": data_of(config) + (f", fingerprint `{print_of_data}`" if print_of_data else ""), **asked, **judge,
        "prompts per step": config.train.prompts_per_step, "answers per prompt": config.rollout.num_generations,
        "temperature": f"{config.rollout.temperature:g}", "longest answer": f"{config.rollout.max_completion_length} tokens",
        "learning rate": f"{config.train.learning_rate:g}", "seed": config.train.seed,
        "hardware": told.get("on", "not recorded"), "took": told.get("took", "not recorded"),
        "run": f"`{run.manifest.get('id', run.path.name)}`",
    }
    rows = [f"| {name} | {value} |" for name, value in settings.items()]
    return "\n".join(["## Settings", "", "| setting | value |", "|---|---|", *rows])
