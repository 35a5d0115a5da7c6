"""TRL's options that count: batches, steps, epochs, and what happens every so many steps.

The hard part is the unit. TRL counts completions and optimizer steps, Heron prompts and batches of rollouts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from heron.compat.notes import Kind, Note, Options, note
from heron.compat.trl.fields import DEFAULTS
from heron.errors import ConfigError


def _max_steps(name: str, value: Any, options: Options) -> Note:
    if value <= 0:
        return note(name, value, Kind.UNSUPPORTED, "Heron counts steps, not epochs: set train.max_steps.")
    return _in_batches(name, "train.max_steps", value, options)


def _epochs(name: str, value: Any, options: Options) -> Note:
    if options.get("max_steps", -1) > 0:
        return note(name, value, Kind.SAME, "Without effect in TRL too: max_steps is given.")
    text = "Heron counts steps, not epochs: set train.max_steps = epochs x prompts / train.prompts_per_step."
    return note(name, value, Kind.UNSUPPORTED, text)


def _in_batches(name: str, setting: str, steps: int, options: Options) -> Note:
    """TRL counts optimizer steps, Heron batches of rollouts, on each of which it takes several."""
    each = _optimizer_steps_per_batch(options)
    batches = math.ceil(steps / each)
    if each == 1:
        kind = Kind.SAME if setting.endswith(f".{name}") else Kind.RENAMED
        return note(name, steps, kind, f"{setting} = {steps}.", {setting: steps})
    text = f"TRL counts optimizer steps, Heron batches of rollouts with {each} steps each: {setting} = {batches}."
    return note(name, steps, Kind.DIFFERS, text, {setting: batches})


def _save_steps(name: str, value: Any, options: Options) -> Note:
    if options.get("save_strategy", "steps") != "steps":
        return note(name, value, Kind.SAME, "Without effect in TRL too: save_strategy is not `steps`.")
    steps = _whole_steps(value, options)
    if steps is None:
        return note(name, value, Kind.UNSUPPORTED, "A share of the steps, but max_steps is not given: set train.save_steps.")
    return _in_batches(name, "train.save_steps", steps, options)


def _save_strategy(name: str, value: Any, options: Options) -> Note:
    if value == "no":
        text = "Heron still writes a checkpoint at the end, and on Ctrl-C: train.save_steps = 0."
        return note(name, value, Kind.DIFFERS, text, {"train.save_steps": 0})
    if value == "steps":
        return note(name, value, Kind.SAME, "As here: every train.save_steps.")
    return note(name, value, Kind.UNSUPPORTED, "Checkpoints are written every train.save_steps.")


def _save_total_limit(name: str, value: Any, options: Options) -> Note:
    if value is None:
        return note(name, value, Kind.UNSUPPORTED, "TRL keeps every checkpoint; Heron the newest train.save_total_limit.")
    return note(name, value, Kind.SAME, f"train.save_total_limit = {value}.", {"train.save_total_limit": value})


def _warmup(name: str, value: Any, options: Options) -> Note:
    steps = _whole_steps(value, options)
    if steps is None:
        return note(name, value, Kind.UNSUPPORTED, "A share of the steps, but max_steps is not given: set train.warmup_steps.")
    if steps and options.get("lr_scheduler_type") == "constant":
        return note(
            name, value, Kind.SAME, "Without effect in TRL too: its `constant` schedule has no warm-up.", {"train.warmup_steps": 0}
        )
    batches = _in_batches(name, "train.warmup_steps", steps, options)
    if not steps:
        return batches
    text = f"{batches.text} The first step has the rate 1 / (warm-up + 1) of the peak, where TRL's has 0."
    return note(name, value, Kind.DIFFERS, text, batches.settings)


def _whole_steps(value: float, options: Options) -> int | None:
    """Steps, of which TRL also takes a share below 1; None if they cannot be counted."""
    if value == 0 or value >= 1:
        return int(value)
    total = options.get("max_steps", -1)
    return math.ceil(value * total) if total > 0 else None


def _batch(name: str, value: Any, options: Options) -> Note:
    """TRL counts completions, Heron prompts: `prompts_per_step = completions of a batch of rollouts / num_generations`."""
    completions, siblings = _completions_per_batch(options), options.get("num_generations", DEFAULTS["num_generations"])
    if completions % siblings:
        raise ConfigError(
            f"A batch of rollouts (per_device_train_batch_size x steps_per_generation, which is gradient_accumulation_steps if it is not "
            f"given) is {completions} completions, which is not a multiple of num_generations = {siblings}. TRL refuses that too; choose "
            "a multiple."
        )
    prompts = completions // siblings
    text = f"TRL counts completions, Heron prompts: {completions} / {siblings} = {prompts} (on one device)."
    return note(name, value, Kind.RENAMED, text, {"train.prompts_per_step": prompts, "rollout.num_generations": siblings})


def _generation(name: str, value: Any, options: Options) -> Note:
    """Optimizer steps that TRL takes on parts of one batch of rollouts."""
    if value is None:
        return note(name, value, Kind.SAME, "Not set: one batch of rollouts per optimizer step.")
    parts, rest = divmod(_completions_per_batch(options), _completions_per_step(options))
    if rest or not parts:
        text = ("In TRL an optimizer step would use several batches of rollouts, or parts of them; here a batch is divided evenly among "
                "optimizer steps. Make it a multiple of gradient_accumulation_steps.")
        return note(name, value, Kind.UNSUPPORTED, text)
    return note(name, value, Kind.RENAMED, f"objective.num_minibatches = {parts}.", {"objective.num_minibatches": parts})


def _completions_per_step(options: Options) -> int:
    """Of an optimizer step."""
    return _given(options, "per_device_train_batch_size") * _given(options, "gradient_accumulation_steps")


def _completions_per_batch(options: Options) -> int:
    """Of a batch of rollouts."""
    if options.get("generation_batch_size") is not None:
        return int(options["generation_batch_size"])
    steps = options.get("steps_per_generation")
    return _given(options, "per_device_train_batch_size") * (_given(options, "gradient_accumulation_steps") if steps is None else steps)


def _given(options: Options, name: str) -> int:
    return int(options.get(name, DEFAULTS[name]))


def _optimizer_steps_per_batch(options: Options) -> int:
    minibatches = max(_completions_per_batch(options) // _completions_per_step(options), 1)
    return int(options.get("num_iterations", 1)) * minibatches


def _evaluation(name: str, value: Any, options: Options) -> Note:
    if options.get("eval_strategy", "no") == "no":
        text = "TRL never evaluates with this; Heron evaluates before and after (evaluation.size = 0 switches it off)."
        return note(name, value, Kind.DIFFERS, text, {"evaluation.steps": 0})
    if options["eval_strategy"] != "steps" or not (steps := _whole_steps(options.get("eval_steps") or 0, options)):
        return note(name, value, Kind.UNSUPPORTED, "Heron evaluates every so many steps: set evaluation.steps.")
    return _in_batches(name, "evaluation.steps", steps, options)


STEP_RULES: Mapping[str, Callable[[str, Any, Options], Note]] = {
    "max_steps": _max_steps,
    "num_train_epochs": _epochs,
    "save_steps": _save_steps,
    "save_strategy": _save_strategy,
    "save_total_limit": _save_total_limit,
    "warmup_steps": _warmup,
    "warmup_ratio": _warmup,
    "per_device_train_batch_size": _batch,
    "gradient_accumulation_steps": _batch,
    "steps_per_generation": _generation,
    "generation_batch_size": _generation,
    "eval_strategy": _evaluation,
    "eval_steps": _evaluation,
}
"""By TRL's name."""
