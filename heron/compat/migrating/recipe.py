"""A config of TRL's command line (`trl grpo --config config.yaml`) as a recipe of Heron's.

TRL's defaults are written into the recipe where Heron has other ones (`options`), and rewards under the names that they have here
(`rewards`). What has no place in a recipe is left out and reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heron.compat.migrating.finding import Finding, Migration, of_note
from heron.compat.migrating.options import options_as_settings
from heron.compat.migrating.rewards import rewards_of
from heron.compat.notes import Kind
from heron.compat.trl.config import TAGS, defaults
from heron.compat.trl.translating import KNOWN
from heron.errors import ConfigError, did_you_mean

SETTINGS = {
    "model_name_or_path": "model.name", "model_revision": "model.revision", "dtype": "model.dtype", "torch_dtype": "model.dtype",
    "dataset_name": "data.dataset", "dataset_config": "data.subset", "dataset_train_split": "data.split",
    "dataset_test_split": "data.eval_split", "lora_r": "model.lora_rank", "lora_alpha": "model.lora_alpha",
    "lora_target_modules": "model.lora_target_modules", "use_rslora": "model.use_rslora", "use_dora": "model.use_dora",
    "use_bnb_nested_quant": "model.double_quantization", "dataset_prompt_column": "data.prompt_column",
    "system_prompt": "data.system_prompt",
}
"""Options of TRL's scripts, and of scripts that are made from them (open-r1), that have a setting."""
TEXTS = "A prompt that is a text is asked through the chat template here, where TRL has it continued as it is; a conversation is the same."
BITS = {"load_in_4bit": "nf4", "load_in_8bit": "int8"}
"""Options that quantise the base, and `model.quantization`."""
ADAPTER = ("model.method = 'lora'. An adapter has no dropout here, where TRL's scripts have 0.05, and is on all linear layers unless "
           "lora_target_modules names them, where PEFT chooses by the kind of model.")
OF_SCRIPT: Mapping[str, Mapping[str, Any]] = {
    "use_peft": {"lora_rank": 16, "lora_alpha": 32}, "load_in_4bit": {"double_quantization": False},
}
"""Defaults of TRL's scripts beside an option that is on, of the section `model`."""
LORA = ("lora_r", "lora_alpha", "lora_target_modules", "use_rslora", "use_dora", "lora_dropout")


def migrate_recipe(text: str, name: str = "config.yaml", out: Path = Path("recipe.toml")) -> Migration:
    """The config as the recipe `out`, and what became of each of its lines."""
    given, lines = _read(text, name)
    options = {key: value for key, value in given.items() if key in defaults() or key in KNOWN}
    sections, notes = options_as_settings(options)
    rewards = rewards_of(given, out.with_name(f"{out.stem}_rewards.py"))
    sections |= {"tags": dict(TAGS), "rewards": dict(rewards.settings)}
    sections["model"] = {"dtype": "float32", **_defaults(given), **(own := sections.get("model", {}))}
    others = [key for key in given if key not in options and key not in rewards.told]
    findings = [of_note(made, lines.get(made.field, 1)) for made in notes if made.field not in rewards.told]
    findings += [Finding(line=lines[key], what=key, kind=kind, text=said) for key, (kind, said) in rewards.told.items()]
    for key in sorted(others, key=lambda key: key in BITS):  # 4 bits have the last word on the method
        findings.append(_set(key, given, sections, lines[key]))
    sections["model"] |= own  # model_init_kwargs have the last word on dtype and revision, as in TRL's scripts
    return Migration(
        findings=tuple(sorted(findings, key=lambda finding: finding.line)), text=_as_toml(sections, name), files=rewards.files,
    )


def _defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of TRL's scripts, in the section `model`."""
    return {setting: value for key, settings in OF_SCRIPT.items() if given.get(key) for setting, value in settings.items()}


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
    if key == "lora_target_modules" and value in ("all-linear", ["all-linear"]):
        return Finding(line=line, what=key, kind=Kind.SAME, text="As here, unless lora_target_modules names some.")
    if key in LORA and not given.get("use_peft"):
        return Finding(line=line, what=key, kind=Kind.SAME, text="Without effect in TRL too, while use_peft is off.")
    if key in SETTINGS and value is not None:
        section, _, setting = SETTINGS[key].partition(".")
        sections.setdefault(section, {})[setting] = value
        kind, more = (Kind.DIFFERS, f" {TEXTS}") if key == "dataset_name" else (Kind.RENAMED, "")
        return Finding(line=line, what=key, kind=kind, text=f"{SETTINGS[key]} = {value!r}.{more}")
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
    if value in (None, False, 0, 0.0):
        return Finding(line=line, what=key, kind=Kind.SAME, text="Off in both.")
    known = (*SETTINGS, *defaults(), "use_peft", "reward_funcs")
    return Finding(line=line, what=key, kind=Kind.UNSUPPORTED, text=f"It has no setting here.{did_you_mean(key, known)}")


def _as_toml(sections: Mapping[str, Mapping[str, Any]], name: str) -> str:
    import tomli_w

    tables = {section: {key: value for key, value in values.items() if value is not None} for section, values in sections.items()}
    return f"# From {name}, a config of TRL's.\n" + tomli_w.dumps({section: values for section, values in tables.items() if values})
