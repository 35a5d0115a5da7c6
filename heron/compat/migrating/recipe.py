"""A config of TRL's command line (`trl grpo --config config.yaml`) as a recipe of Heron's.

TRL's defaults are written into the recipe where Heron has other ones, and rewards that have no name here are left out and reported: the
recipe then needs a file of reward functions.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from heron.compat.migrating.finding import Finding, Migration, of_note
from heron.compat.notes import Kind
from heron.compat.trl.config import GRPOConfig, defaults, notes_on
from heron.compat.trl.translating import KNOWN
from heron.errors import ConfigError, did_you_mean

SETTINGS = {
    "model_name_or_path": "model.name", "model_revision": "model.revision", "dtype": "model.dtype", "torch_dtype": "model.dtype",
    "dataset_name": "data.dataset", "dataset_config": "data.subset", "dataset_train_split": "data.split",
    "dataset_test_split": "data.eval_split", "lora_r": "model.lora_rank", "lora_alpha": "model.lora_alpha",
    "lora_target_modules": "model.lora_target_modules", "use_rslora": "model.use_rslora", "use_dora": "model.use_dora",
    "use_bnb_nested_quant": "model.double_quantization",
}
"""Options of TRL's scripts that have a setting."""
REWARDS = {
    "get_soft_overlong_punishment": "shaping.overlong(most=1280, buffer=256)",
    "think_format_reward": "format.follows_format",
}
"""Rewards of TRL's scripts that have a name here."""
BITS = {"load_in_4bit": "nf4", "load_in_8bit": "int8"}
"""Options that quantise the base, and `model.quantization`."""
ADAPTER = ("model.method = 'lora'. An adapter has no dropout here, where TRL's scripts have 0.05, and is on all linear layers unless "
           "lora_target_modules names them, where PEFT chooses by the kind of model.")
LORA = ("lora_r", "lora_alpha", "lora_target_modules", "use_rslora", "use_dora", "lora_dropout")


def migrate_recipe(text: str, name: str = "config.yaml") -> Migration:
    """The config as a recipe, and what became of each of its lines."""
    given, lines = _read(text, name)
    options = {key: value for key, value in given.items() if key in defaults() or key in KNOWN}
    findings = [of_note(made, lines.get(made.field, 1)) for made in notes_on(options)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what differs is among the findings
        args = GRPOConfig(**{made.field: made.given for made in notes_on(options) if made.kind is not Kind.UNSUPPORTED})
    sections = args.settings(max_steps=args.max_steps if args.max_steps > 0 else 1)
    if args.max_steps <= 0:
        sections["train"].pop("max_steps")
        findings.append(Finding(line=lines.get("num_train_epochs", 1), what="max_steps", kind=Kind.UNSUPPORTED,
                                text="Heron counts steps, not epochs: set train.max_steps in the recipe."))
    sections.setdefault("model", {})["dtype"] = "float32"  # as in TRL's scripts, unless the file says otherwise
    for key in sorted(given.keys() - options.keys(), key=lambda key: key in BITS):  # 4 bits have the last word on the method
        findings.append(_set(key, given, sections, lines[key]))
    return Migration(findings=tuple(sorted(findings, key=lambda finding: finding.line)), text=_as_toml(sections, name))


def _read(text: str, name: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Values, and the lines that they stand in."""
    import yaml

    try:
        tree, values = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not YAML: {error}") from error
    if not isinstance(values, dict) or not isinstance(tree, yaml.MappingNode):
        raise ConfigError(f"{name} holds {type(values).__name__}, not options by name.")
    return values, {key.value: key.start_mark.line + 1 for key, _ in tree.value}


def _set(key: str, given: Mapping[str, Any], sections: dict[str, dict[str, Any]], line: int) -> Finding:
    """One option of TRL's scripts that is none of GRPOConfig's; it is put into the sections where it has a place."""
    value = given[key]
    if key in LORA and not given.get("use_peft"):
        return Finding(line=line, what=key, kind=Kind.SAME, text="Without effect in TRL too, while use_peft is off.")
    if key in SETTINGS and value is not None:
        section, _, setting = SETTINGS[key].partition(".")
        sections.setdefault(section, {})[setting] = value
        return Finding(line=line, what=key, kind=Kind.RENAMED, text=f"{SETTINGS[key]} = {value!r}.")
    if key == "use_peft":
        sections.setdefault("model", {})["method"] = "lora" if value else "full"
        kind, text = (Kind.DIFFERS, ADAPTER) if value else (Kind.RENAMED, "model.method = 'full'.")
        return Finding(line=line, what=key, kind=kind, text=text)
    if key in BITS and value and given.get("use_peft"):
        sections["model"] |= {"method": "qlora", "quantization": BITS[key]}
        return Finding(line=line, what=key, kind=Kind.RENAMED, text=f"model.method = 'qlora', model.quantization = {BITS[key]!r}.")
    if (key, value) in (("bnb_4bit_quant_type", "nf4"), ("lora_task_type", "CAUSAL_LM")):
        return Finding(line=line, what=key, kind=Kind.SAME, text="As here.")
    if key == "attn_implementation":
        return Finding(line=line, what=key, kind=Kind.DIFFERS, text="Heron has its own attention.")
    if key == "reward_funcs":
        return _rewards(value, sections, line)
    if value in (None, False, 0, 0.0):
        return Finding(line=line, what=key, kind=Kind.SAME, text="Off in both.")
    known = (*SETTINGS, *defaults(), "use_peft", "reward_funcs")
    return Finding(line=line, what=key, kind=Kind.UNSUPPORTED, text=f"It has no setting here.{did_you_mean(key, known)}")


def _rewards(value: Any, sections: dict[str, dict[str, Any]], line: int) -> Finding:
    names = [value] if isinstance(value, str) else list(value)
    found = [REWARDS[each] for each in names if each in REWARDS]
    left = [each for each in names if each not in REWARDS]
    if found:
        sections.setdefault("rewards", {})["functions"] = found
    if left:
        return Finding(line=line, what="reward_funcs", kind=Kind.UNSUPPORTED,
                       text=f"{', '.join(left)} has no name in a recipe: write a function and name it in rewards.functions, as in "
                            "rewards.py:correct.")
    return Finding(line=line, what="reward_funcs", kind=Kind.DIFFERS, text=f"rewards.functions = {found!r}, by Heron's own definitions.")


def _as_toml(sections: Mapping[str, Mapping[str, Any]], name: str) -> str:
    import tomli_w

    tables = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in {**sections, "evaluation": {"size": 0}}.items()
    }
    return f"# From {name}, a config of TRL's.\n" + tomli_w.dumps({section: values for section, values in tables.items() if values})
