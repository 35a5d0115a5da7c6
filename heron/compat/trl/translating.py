"""TRL's `GRPOConfig` options as Heron settings.

The one hard idea: nothing is dropped in silence. Every given option becomes a `Note` that says whether it is the same here,
has another name, means something slightly else, or does not exist; the overrides are put together from the notes. Options that
are not given are not translated: a recipe's own values stay, and a note says where TRL's default is another one.

Left out: values are not checked here; `heron.config.load_config` does that when the overrides are laid on a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from heron.compat.notes import Kind, Note, Options, note
from heron.compat.trl.fields import ABSENT, DEFAULTS, DIRECT
from heron.compat.trl.objective import OBJECTIVE_RULES
from heron.compat.trl.steps import STEP_RULES
from heron.errors import ConfigError, did_you_mean
from heron.run.sinks import SINKS


def from_grpo_config(options: Options) -> tuple[dict[str, dict[str, Any]], list[Note]]:
    """Overrides for `load_config`, and a note for each option.

    Args:
        options: keyword arguments of `trl.GRPOConfig` by name; or all of its fields, as `vars(config)` gives them.

    Returns:
        A nested mapping such as `{"objective": {"epsilon": 0.2}}`, and the notes, in the order of the options. Look for
        `Kind.UNSUPPORTED` before you trust the run to be the one that you know.
    """
    given = {name: getattr(value, "value", value) for name, value in options.items()}
    notes = [_translate(name, value, given) for name, value in given.items()]
    notes += [_not_given(name, ours) for name, ours in _OTHER_DEFAULTS.items() if name not in given]
    overrides: dict[str, dict[str, Any]] = {}
    for made in notes:
        for setting, value in made.settings.items():
            section, key = setting.split(".")
            overrides.setdefault(section, {})[key] = value
    return overrides, notes


def _translate(name: str, value: Any, options: Options) -> Note:
    if name in _RULES:
        return _RULES[name](name, value, options)
    if name in DIRECT:
        kind = Kind.SAME if DIRECT[name].endswith(f".{name}") else Kind.RENAMED
        return note(name, value, kind, f"{DIRECT[name]} = {value!r}.", {DIRECT[name]: value})
    if name in ABSENT:
        return _absent(name, value, options)
    raise ConfigError(f"GRPOConfig has no option {name!r}, in any version that is known here.{did_you_mean(name, KNOWN)}")


def _absent(name: str, value: Any, options: Options) -> Note:
    """An option without a setting: harmless where it is off."""
    absent = ABSENT[name]
    if any(value == off and type(value) is type(off) for off in absent.off):
        return note(name, value, Kind.SAME, "Off in both.")
    if absent.switch is not None and not options.get(absent.switch):
        return note(name, value, Kind.SAME, f"Without effect in TRL too, while {absent.switch} is off.")
    return note(name, value, Kind.DIFFERS if absent.is_harmless else Kind.UNSUPPORTED, absent.text)


_OTHER_DEFAULTS: Mapping[str, Any] = {
    "learning_rate": 5e-6,
    "lr_scheduler_type": "constant",
    "adam_beta2": 0.99,
    "gradient_checkpointing": False,
    "seed": 0,
    "per_device_train_batch_size": "8 prompts",
    "bf16": "the weights' own dtype",
}  # what Heron uses where neither the options nor a recipe says


def _not_given(name: str, ours: Any) -> Note:
    text = f"Not given: TRL would use {DEFAULTS[name]!r}; Heron uses its recipe's value, or {ours!r}."
    return note(name, None, Kind.DIFFERS, text)


# Options whose meaning depends on their value or on other options


def _top_p(name: str, value: Any, options: Options) -> Note:
    if value == 1:
        return note(name, value, Kind.SAME, "rollout.top_p = 1.", {"rollout.top_p": 1.0})
    return note(name, value, Kind.UNSUPPORTED, f"{ABSENT['top_k'].text}")


def _schedule(name: str, value: Any, options: Options) -> Note:
    names = {"constant": "constant", "constant_with_warmup": "constant", "linear": "linear", "cosine": "cosine"}
    if value not in names:
        return note(name, value, Kind.UNSUPPORTED, f"Choose one of {', '.join(names)}.")
    kind = Kind.SAME if names[value] == value else Kind.RENAMED
    return note(name, value, kind, f"train.lr_scheduler_type = {names[value]!r}.", {"train.lr_scheduler_type": names[value]})


def _optim(name: str, value: Any, options: Options) -> Note:
    """Optimizers by the names that transformers has for them."""
    ours = {
        "adamw_torch": "adamw", "adamw_torch_fused": "adamw", "adamw_hf": "adamw", "adamw_8bit": "adamw_8bit",
        "adamw_bnb_8bit": "adamw_8bit", "paged_adamw_8bit": "paged_adamw_8bit", "adafactor": "adafactor",
    }
    if value not in ours:
        return note(name, value, Kind.UNSUPPORTED, f"Choose one of {', '.join(ours)}.")
    kind = Kind.SAME if ours[value] in ("adamw", value) else Kind.RENAMED
    return note(name, value, kind, f"train.optimizer = {ours[value]!r}.", {"train.optimizer": ours[value]})


def _data_seed(name: str, value: Any, options: Options) -> Note:
    if value is None or value == options.get("seed", DEFAULTS["seed"]):
        return note(name, value, Kind.SAME, "Prompts are drawn by seed, as in TRL.")
    return note(name, value, Kind.UNSUPPORTED, "Prompts are drawn by seed, as everything is. Leave it out, or give it the value of seed.")


def _max_grad_norm(name: str, value: Any, options: Options) -> Note:
    if value:
        return note(name, value, Kind.SAME, f"train.max_grad_norm = {value!r}.", {"train.max_grad_norm": value})
    return note(name, value, Kind.UNSUPPORTED, "0 switches clipping off in TRL; here it is always on. Give a large number, such as 1e9.")


def _device(name: str, value: Any, options: Options) -> Note:
    device = "cpu" if value else "auto"
    return note(name, value, Kind.RENAMED, f"model.device = {device!r}.", {"model.device": device})


def _checkpointing(name: str, value: Any, options: Options) -> Note:
    if value is None:
        return note(name, value, Kind.SAME, "Not set.")
    kind = Kind.SAME if name == "gradient_checkpointing" else Kind.RENAMED
    return note(name, value, kind, f"model.gradient_checkpointing = {value!r}.", {"model.gradient_checkpointing": value})


def _model_arguments(name: str, value: Any, options: Options) -> Note:
    """`dtype` and `revision` have settings; what only says how to compute has nothing to do; anything else is named."""
    arguments = {key: item for key, item in (value or {}).items() if item is not None}
    wanted = {"dtype": "model.dtype", "torch_dtype": "model.dtype", "revision": "model.revision"}
    settings = {wanted[key]: str(item).removeprefix("torch.") for key, item in arguments.items() if key in wanted}
    rest = [key for key, item in arguments.items() if key not in (*wanted, *IDLE_ARGUMENTS) and (key, item) != ("trust_remote_code", False)]
    if rest:
        return note(name, value, Kind.UNSUPPORTED, f"Leave out {', '.join(rest)}: only dtype and revision can be chosen.", settings)
    if idle := [key for key in arguments if key in IDLE_ARGUMENTS]:
        text = f"{', '.join(idle)}: without effect, since Heron has its own attention and cache, on one device."
        return note(name, value, Kind.DIFFERS, text, settings)
    return note(name, value, Kind.RENAMED if settings else Kind.SAME, "See model.dtype and model.revision.", settings)


IDLE_ARGUMENTS = ("attn_implementation", "device_map", "low_cpu_mem_usage", "use_cache")
"""Arguments of `from_pretrained` that change nothing that is learnt."""


def _optional(name: str, value: Any, options: Options) -> Note:
    """An option that is translated where it is given, and means `as usual` where it is None."""
    setting = {"reward_weights": "rewards.weights", "num_generations_eval": "evaluation.samples"}[name]
    if value is None:
        return note(name, value, Kind.SAME, "Not set.")
    return note(name, value, Kind.RENAMED, f"{setting} = {value!r}.", {setting: value})


def _report_to(name: str, value: Any, options: Options) -> Note:
    """Trackers by name; the run directory holds everything besides."""
    given = [value] if isinstance(value, str) else list(value or [])
    wanted = ["tensorboard", "trackio", "wandb"] if given == ["all"] else [each for each in given if each != "none"]
    other = [each for each in wanted if each not in SINKS]
    if other:
        text = f"There is no tracker {', '.join(other)} here. Choose among {', '.join(SINKS)}; the run directory holds every step."
        return note(name, value, Kind.UNSUPPORTED, text)
    if not wanted:
        return note(name, value, Kind.SAME, "Off in both; the run directory holds every step, rollout and metric.")
    return note(name, value, Kind.SAME, f"train.report_to = {wanted!r}.", {"train.report_to": wanted})


_RULES: Mapping[str, Callable[[str, Any, Options], Note]] = {
    **OBJECTIVE_RULES,
    "report_to": _report_to,
    "optim": _optim,
    **STEP_RULES,
    "top_p": _top_p,
    "lr_scheduler_type": _schedule,
    "data_seed": _data_seed,
    "max_grad_norm": _max_grad_norm,
    "use_cpu": _device,
    "gradient_checkpointing": _checkpointing,
    "activation_checkpointing": _checkpointing,
    "model_init_kwargs": _model_arguments,
    "reward_weights": _optional,
    "num_generations_eval": _optional,
}

KNOWN = (*_RULES, *DIRECT, *ABSENT)
"""Every option that there is a rule or a sentence for."""
