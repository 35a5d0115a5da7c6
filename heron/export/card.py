"""The model card: what the model is, what it was rewarded for, and what that changed on problems it never saw."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heron.config import Config
from heron.config.model import EMBEDDED
from heron.data.rows import fill_tags
from heron.export.agreement import Agreement
from heron.export.origin import known_flaws, license_of
from heron.run import Run
from heron.run.about import about


def model_card(
    run: Run, config: Config, *, format: str, what: str, agreement: Agreement, notes: Sequence[str], license_source: str
) -> str:
    """README.md of an exported model, as Markdown with the front matter that model hubs read.

    Args:
        run: that trained it.
        config: of the run.
        format: `hf`, `adapter` or `gguf`.
        what: the weights, in a sentence.
        agreement: with the trained model.
        notes: what its user should know.
        license_source: folder or hub id of the base, whose own card names a license.
    """
    export = "\n".join([f"{what} Compared with the trained model: {agreement.sentence}", *(f"\n- {note}" for note in notes)])
    parts = [
        _front_matter(config, format, license_of(license_source, config.model.revision)), f"# {run.manifest.get('id', run.path.name)}",
        _what(run, config), _before_and_after(run.summary or {}), _rewards(run.manifest.get("rewards") or {}), known_flaws(run),
        _settings(run, config), _use(config), f"## Export\n\n{export}",
    ]
    return "\n\n".join(parts) + "\n"


LIBRARIES = {"hf": "transformers", "adapter": "peft", "gguf": "gguf"}


def _front_matter(config: Config, format: str, license: str | None) -> str:
    base = [f"base_model: {json.dumps(config.model.name)}"] if _is_of_a_hub(config.model.name) else []
    known = [] if license is None else [f"license: {license}"]
    lines = [f"library_name: {LIBRARIES[format]}", "pipeline_tag: text-generation", *base, *known,
             "tags: [heron, grpo, reinforcement-learning]"]
    return "\n".join(["---", *lines, "---"])


def _what(run: Run, config: Config) -> str:
    name = config.model.name
    folder = f"the model in a folder `{Path(name).name}`"  # no more of the path: it says who somebody is, and leads nowhere elsewhere
    base = "the embedded model, built from scratch," if name == EMBEDDED else f"`{name}`" if _is_of_a_hub(name) else folder
    on = f" on a base of {config.model.quantization}" if config.model.method == "qlora" else ""
    method = f"a LoRA adapter of rank {config.model.lora_rank}{on}" if config.model.has_adapter else "every weight"
    steps = (run.summary or {}).get("steps", "an unknown number of")
    return (f"This is {base} after {steps} steps of reinforcement learning with verifiable rewards (recipe `{config.recipe}`, "
            f"loss `{config.objective.loss_type}`), trained with Heron. Trained was {method}. The run is {run.status}.")


def _is_of_a_hub(name: str) -> bool:
    """The base is to be found by its name; hubs refuse a card that names a folder."""
    return name != EMBEDDED and not Path(name).exists() and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None


def _before_and_after(summary: Mapping[str, Any]) -> str:
    measured = summary.get("evaluation") or {}
    before, after = measured.get("before") or {}, measured.get("after") or {}
    rows = [_row(label, before, after, key) for key, label in (("accuracy", "accuracy, greedy"), ("pass_at_1", "pass@1, sampled"))]
    known = [row for row in rows if row]
    if not known:
        return "## Before and after\n\nNot measured."
    problems = after.get("problems", before.get("problems"))
    return "\n".join([
        "## Before and after", "", f"{problems} held-out problems, none of them trained on; 95 % intervals in brackets.", "",
        "| | before | after |", "|---|---|---|", *known,
    ])


def _row(label: str, before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> str:
    if key not in before and key not in after:
        return ""
    return f"| {label} | {_share(before, key)} | {_share(after, key)} |"


def _share(totals: Mapping[str, Any], key: str) -> str:
    if key not in totals:
        return "not measured"
    low, high = totals[f"{key}_low"], totals[f"{key}_high"]
    return f"{totals[key]:.1%} [{low:.1%}, {high:.1%}]"


def _rewards(rewards: Mapping[str, float]) -> str:
    rows = [f"| `{name}` | {weight:g} |" for name, weight in rewards.items()]
    return "\n".join(["## Rewards", "", "| function | weight |", "|---|---|", *rows])


def _settings(run: Run, config: Config) -> str:
    told, print_of_data = about(run), run.manifest.get("data_fingerprint")
    settings = {
        "seed": config.train.seed, "learning rate": f"{config.train.learning_rate:g}",
        "prompts per step": config.train.prompts_per_step, "answers per prompt": config.rollout.num_generations,
        "temperature": config.rollout.temperature, "longest answer": f"{config.rollout.max_completion_length} tokens",
        "data": f"`{config.data.dataset}`" + (f", fingerprint `{print_of_data}`" if print_of_data else ""),
        "hardware": told.get("on", "not recorded"), "took": told.get("took", "not recorded"),
    }
    rows = [f"| {name} | {value} |" for name, value in settings.items()]
    return "\n".join(["## Settings", "", "| setting | value |", "|---|---|", *rows])


def _fenced(text: str) -> str:
    """Text as it is, behind more backticks than it has in a row."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}\n{text}\n{fence}"


def _use(config: Config) -> str:
    system = config.data.system_prompt
    prompt = "" if system is None else f"Use the system prompt it was trained with:\n\n{_fenced(fill_tags(system, config.tags))}\n\n"
    tags = config.tags
    return (f"## Use\n\n{prompt}The answer stands between `{tags.solution_start}` and `{tags.solution_end}`, the reasoning between "
            f"`{tags.reasoning_start}` and `{tags.reasoning_end}`.")
