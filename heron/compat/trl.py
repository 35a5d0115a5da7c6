"""TRL's `GRPOConfig` options as Heron settings.

The one hard idea: nothing is dropped in silence. Every given option becomes a `Note` that says whether it is the same here,
has another name, means something slightly else, or does not exist; the overrides are put together from the notes. Options that
are not given are not translated: a recipe's own values stay, and a note says where TRL's default is another one.

Left out: values are not checked here; `heron.config.load_config` does that when the overrides are laid on a recipe.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heron.compat.trl_fields import ABSENT, DEFAULTS, DIRECT
from heron.config.schema import LOSS_TYPES
from heron.errors import ConfigError, did_you_mean

Options = Mapping[str, Any]


class Kind(enum.StrEnum):
    """How an option carries over."""

    SAME = "same"
    """The same name and meaning, or without effect in both."""
    RENAMED = "renamed"
    """The same meaning under another name."""
    DIFFERS = "differs"
    """Something close, but not the same; the note's text says what."""
    UNSUPPORTED = "unsupported"
    """Not translated: the run will be another one than in TRL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What became of one option."""

    field: str
    """TRL's name."""
    given: Any
    """The value given; None if it was not."""
    kind: Kind
    """How it carries over."""
    text: str
    """One sentence for a person."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The Heron settings that it becomes, as `{"objective.epsilon": 0.2}`."""


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
    for note in notes:
        for setting, value in note.settings.items():
            section, key = setting.split(".")
            overrides.setdefault(section, {})[key] = value
    return overrides, notes


def _translate(name: str, value: Any, options: Options) -> Note:
    if name in _RULES:
        return _RULES[name](name, value, options)
    if name in DIRECT:
        kind = Kind.SAME if DIRECT[name].endswith(f".{name}") else Kind.RENAMED
        return _note(name, value, kind, f"{DIRECT[name]} = {value!r}.", {DIRECT[name]: value})
    if name in ABSENT:
        return _absent(name, value, options)
    known = [*_RULES, *DIRECT, *ABSENT]
    raise ConfigError(f"GRPOConfig has no option {name!r}, in any version that is known here.{did_you_mean(name, known)}")


def _absent(name: str, value: Any, options: Options) -> Note:
    """An option without a setting: harmless where it is off."""
    absent = ABSENT[name]
    if any(value == off and type(value) is type(off) for off in absent.off):
        return _note(name, value, Kind.SAME, "Off in both.")
    if absent.switch is not None and not options.get(absent.switch):
        return _note(name, value, Kind.SAME, f"Without effect in TRL too, while {absent.switch} is off.")
    return _note(name, value, Kind.DIFFERS if absent.is_harmless else Kind.UNSUPPORTED, absent.text)


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
    return _note(name, None, Kind.DIFFERS, text)


def _note(name: str, given: Any, kind: Kind, text: str, settings: Options | None = None) -> Note:
    return Note(field=name, given=given, kind=kind, text=text, settings=settings or {})


# Options whose meaning depends on their value or on other options


def _loss_type(name: str, value: Any, options: Options) -> Note:
    if value not in LOSS_TYPES:
        return _note(name, value, Kind.UNSUPPORTED, f"There is no such loss here; there are {', '.join(LOSS_TYPES)}.")
    setting = {"objective.loss_type": value}
    if value == "bnpo":
        text = "TRL takes the mean over the tokens of each micro-batch, Heron over those of the whole step: the same as `dapo`."
        return _note(name, value, Kind.DIFFERS, text, setting)
    return _note(name, value, Kind.SAME, f"objective.loss_type = {value!r}.", setting)


def _scale_rewards(name: str, value: Any, options: Options) -> Note:
    word = {True: "group", False: "none"}.get(value, value) if isinstance(value, bool) else value
    return _note(name, value, Kind.SAME, f"objective.scale_rewards = {word!r}.", {"objective.scale_rewards": word})


def _beta(name: str, value: Any, options: Options) -> Note:
    setting = {"objective.beta": value}
    if value and options.get("use_bias_correction_kl", True):
        text = "TRL multiplies the KL by the importance ratio (use_bias_correction_kl), which changes its gradient; Heron does not."
        return _note(name, value, Kind.DIFFERS, text, setting)
    return _note(name, value, Kind.SAME, f"objective.beta = {value!r}.", setting)


def _bias_correction(name: str, value: Any, options: Options) -> Note:
    if value and options.get("beta"):
        return _note(name, value, Kind.UNSUPPORTED, "The KL is plain k3 here, without the importance ratio.")
    return _note(name, value, Kind.SAME, "Without effect, or off, in both.")


def _top_p(name: str, value: Any, options: Options) -> Note:
    if value == 1:
        return _note(name, value, Kind.SAME, "rollout.top_p = 1.", {"rollout.top_p": 1.0})
    return _note(name, value, Kind.UNSUPPORTED, "A filtered sampler has other log-probs than the loss; lower rollout.temperature instead.")


def _max_steps(name: str, value: Any, options: Options) -> Note:
    if value <= 0:
        return _note(name, value, Kind.UNSUPPORTED, "Heron counts steps, not epochs: set train.max_steps.")
    return _in_batches(name, "train.max_steps", value, options)


def _epochs(name: str, value: Any, options: Options) -> Note:
    if options.get("max_steps", -1) > 0:
        return _note(name, value, Kind.SAME, "Without effect in TRL too: max_steps is given.")
    text = "Heron counts steps, not epochs: set train.max_steps = epochs x prompts / train.prompts_per_step."
    return _note(name, value, Kind.UNSUPPORTED, text)


def _in_batches(name: str, setting: str, steps: int, options: Options) -> Note:
    """TRL counts optimizer steps, Heron batches of rollouts, on each of which it takes `num_iterations` steps."""
    iterations = options.get("num_iterations", 1)
    batches = math.ceil(steps / iterations)
    if iterations == 1:
        kind = Kind.SAME if setting.endswith(f".{name}") else Kind.RENAMED
        return _note(name, steps, kind, f"{setting} = {steps}.", {setting: steps})
    text = f"TRL counts optimizer steps, Heron batches of rollouts with num_iterations = {iterations} steps each: {setting} = {batches}."
    return _note(name, steps, Kind.DIFFERS, text, {setting: batches})


def _save_steps(name: str, value: Any, options: Options) -> Note:
    if options.get("save_strategy", "steps") != "steps":
        return _note(name, value, Kind.SAME, "Without effect in TRL too: save_strategy is not `steps`.")
    steps = _whole_steps(value, options)
    if steps is None:
        return _note(name, value, Kind.UNSUPPORTED, "A share of the steps, but max_steps is not given: set train.save_steps.")
    return _in_batches(name, "train.save_steps", steps, options)


def _save_strategy(name: str, value: Any, options: Options) -> Note:
    if value == "no":
        text = "Heron still writes a checkpoint at the end, and on Ctrl-C: train.save_steps = 0."
        return _note(name, value, Kind.DIFFERS, text, {"train.save_steps": 0})
    if value == "steps":
        return _note(name, value, Kind.SAME, "As here: every train.save_steps.")
    return _note(name, value, Kind.UNSUPPORTED, "Checkpoints are written every train.save_steps.")


def _save_total_limit(name: str, value: Any, options: Options) -> Note:
    if value is None:
        return _note(name, value, Kind.UNSUPPORTED, "TRL keeps every checkpoint; Heron the newest train.save_total_limit.")
    return _note(name, value, Kind.SAME, f"train.save_total_limit = {value}.", {"train.save_total_limit": value})


def _warmup(name: str, value: Any, options: Options) -> Note:
    steps = _whole_steps(value, options)
    if steps is None:
        return _note(name, value, Kind.UNSUPPORTED, "A share of the steps, but max_steps is not given: set train.warmup_steps.")
    if steps and options.get("lr_scheduler_type") == "constant":
        return _note(
            name, value, Kind.SAME, "Without effect in TRL too: its `constant` schedule has no warm-up.", {"train.warmup_steps": 0}
        )
    batches = _in_batches(name, "train.warmup_steps", steps, options)
    if not steps:
        return batches
    text = f"{batches.text} The first step has the rate 1 / (warm-up + 1) of the peak, where TRL's has 0."
    return _note(name, value, Kind.DIFFERS, text, batches.settings)


def _whole_steps(value: float, options: Options) -> int | None:
    """Steps, of which TRL also takes a share below 1; None if they cannot be counted."""
    if value == 0 or value >= 1:
        return int(value)
    total = options.get("max_steps", -1)
    return math.ceil(value * total) if total > 0 else None


def _schedule(name: str, value: Any, options: Options) -> Note:
    names = {"constant": "constant", "constant_with_warmup": "constant", "linear": "linear", "cosine": "cosine"}
    if value not in names:
        return _note(name, value, Kind.UNSUPPORTED, "There are constant, linear and cosine: set train.lr_scheduler_type.")
    kind = Kind.SAME if names[value] == value else Kind.RENAMED
    return _note(name, value, kind, f"train.lr_scheduler_type = {names[value]!r}.", {"train.lr_scheduler_type": names[value]})


def _max_grad_norm(name: str, value: Any, options: Options) -> Note:
    if value:
        return _note(name, value, Kind.SAME, f"train.max_grad_norm = {value!r}.", {"train.max_grad_norm": value})
    return _note(name, value, Kind.UNSUPPORTED, "0 switches clipping off in TRL; here it is always on: give a large number.")


def _batch(name: str, value: Any, options: Options) -> Note:
    """TRL counts completions, Heron prompts: `prompts_per_step = batch x accumulation / num_generations`."""
    completions, siblings = _completions_per_step(options), options.get("num_generations", DEFAULTS["num_generations"])
    if completions % siblings:
        raise ConfigError(
            f"per_device_train_batch_size x gradient_accumulation_steps is {completions} completions, which is not a "
            f"multiple of num_generations = {siblings}. TRL refuses that too; choose a multiple."
        )
    prompts = completions // siblings
    text = f"TRL counts completions, Heron prompts: {completions} / {siblings} = {prompts} (on one device)."
    return _note(name, value, Kind.RENAMED, text, {"train.prompts_per_step": prompts, "rollout.num_generations": siblings})


def _completions_per_step(options: Options) -> int:
    sizes = (options.get(name, DEFAULTS[name]) for name in ("per_device_train_batch_size", "gradient_accumulation_steps"))
    return math.prod(sizes)


def _generation(name: str, value: Any, options: Options) -> Note:
    accumulation = options.get("gradient_accumulation_steps", DEFAULTS["gradient_accumulation_steps"])
    one_step = accumulation if name == "steps_per_generation" else _completions_per_step(options)
    if value in (None, one_step):
        return _note(name, value, Kind.SAME, "As here: one batch of rollouts per optimizer step.")
    text = "Heron trains on a batch of rollouts as a whole; several optimizer steps on parts of it do not exist. See num_iterations."
    return _note(name, value, Kind.UNSUPPORTED, text)


def _evaluation(name: str, value: Any, options: Options) -> Note:
    if options.get("eval_strategy", "no") == "no":
        text = "TRL never evaluates with this; Heron evaluates before and after (evaluation.size = 0 switches it off)."
        return _note(name, value, Kind.DIFFERS, text, {"evaluation.steps": 0})
    if options["eval_strategy"] != "steps" or not (steps := _whole_steps(options.get("eval_steps") or 0, options)):
        return _note(name, value, Kind.UNSUPPORTED, "Heron evaluates every so many steps: set evaluation.steps.")
    return _in_batches(name, "evaluation.steps", steps, options)


def _device(name: str, value: Any, options: Options) -> Note:
    device = "cpu" if value else "auto"
    return _note(name, value, Kind.RENAMED, f"model.device = {device!r}.", {"model.device": device})


def _checkpointing(name: str, value: Any, options: Options) -> Note:
    if value is None:
        return _note(name, value, Kind.SAME, "Not set.")
    kind = Kind.SAME if name == "gradient_checkpointing" else Kind.RENAMED
    return _note(name, value, kind, f"model.gradient_checkpointing = {value!r}.", {"model.gradient_checkpointing": value})


def _model_arguments(name: str, value: Any, options: Options) -> Note:
    """`dtype` and `revision` have settings; anything else is named."""
    arguments = dict(value or {})
    wanted = {"dtype": "model.dtype", "torch_dtype": "model.dtype", "revision": "model.revision"}
    settings = {wanted[key]: str(item).removeprefix("torch.") for key, item in arguments.items() if key in wanted}
    rest = [key for key in arguments if key not in wanted]
    if rest:
        return _note(name, value, Kind.UNSUPPORTED, f"There is no setting for {', '.join(rest)}.", settings)
    return _note(name, value, Kind.RENAMED if settings else Kind.SAME, "See model.dtype and model.revision.", settings)


def _optional(name: str, value: Any, options: Options) -> Note:
    """An option that is translated where it is given, and means `as usual` where it is None."""
    setting = {"reward_weights": "rewards.weights", "num_generations_eval": "evaluation.samples"}[name]
    if value is None:
        return _note(name, value, Kind.SAME, "Not set.")
    return _note(name, value, Kind.RENAMED, f"{setting} = {value!r}.", {setting: value})


_RULES: Mapping[str, Callable[[str, Any, Options], Note]] = {
    "loss_type": _loss_type,
    "scale_rewards": _scale_rewards,
    "beta": _beta,
    "use_bias_correction_kl": _bias_correction,
    "top_p": _top_p,
    "max_steps": _max_steps,
    "num_train_epochs": _epochs,
    "save_steps": _save_steps,
    "save_strategy": _save_strategy,
    "save_total_limit": _save_total_limit,
    "warmup_steps": _warmup,
    "warmup_ratio": _warmup,
    "lr_scheduler_type": _schedule,
    "max_grad_norm": _max_grad_norm,
    "per_device_train_batch_size": _batch,
    "gradient_accumulation_steps": _batch,
    "steps_per_generation": _generation,
    "generation_batch_size": _generation,
    "eval_strategy": _evaluation,
    "eval_steps": _evaluation,
    "use_cpu": _device,
    "gradient_checkpointing": _checkpointing,
    "activation_checkpointing": _checkpointing,
    "model_init_kwargs": _model_arguments,
    "reward_weights": _optional,
    "num_generations_eval": _optional,
}
