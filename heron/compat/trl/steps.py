"""TRL's options that count: batches, steps, epochs, and what happens every so many steps.

The hard part is the unit. TRL counts completions and optimizer steps, Heron prompts and batches of rollouts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from heron.compat.notes import Kind, Note, Options, note
from heron.compat.trl.fields import DEFAULTS
from heron.errors import ConfigError

OTHER_RATE = "The first step has the rate 1 / (warm-up + 1) of the peak, where TRL's has 0."
SEVERAL = ("num_iterations", "steps_per_generation", "generation_batch_size")
"""Options that make several optimizer steps of a batch of rollouts."""


def _max_steps(name: str, value: Any, options: Options) -> Note:
    if value <= 0:
        return note(name, value, Kind.UNSUPPORTED, "Heron counts steps, not epochs: set train.max_steps.")
    return _in_batches(name, "train.max_steps", value, options)


def _epochs(name: str, value: Any, options: Options) -> Note:
    if options.get("max_steps", -1) > 0:
        return note(name, value, Kind.SAME, "Without effect in TRL too: max_steps is given.")
    prompts = _completions_per_batch(options) // _given(options, "num_generations")
    text = f"Heron counts steps, not epochs: set train.max_steps = {value:g} x the dataset's prompts / {prompts} (train.prompts_per_step)."
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
    return note(name, value, Kind.UNSUPPORTED, "Checkpoints are written every so many steps: give save_strategy='steps' and save_steps.")


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
    text = f"{batches.text} {OTHER_RATE}"
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
    if completions < 1:
        raise ConfigError(f"{name} is {value!r}, which makes a batch of {completions} completions. Give 1 or more.")
    if completions % siblings:
        raise ConfigError(
            f"A batch of rollouts (per_device_train_batch_size x steps_per_generation, which is gradient_accumulation_steps if it is not "
            f"given) is {completions} completions, which is not a multiple of num_generations = {siblings}. TRL refuses that too; choose "
            "a multiple."
        )
    prompts = completions // siblings
    text = f"TRL counts completions, Heron prompts: {completions} / {siblings} = {prompts} (on one device)."
    return note(name, value, Kind.RENAMED, text, {"train.prompts_per_step": prompts, "rollout.num_generations": siblings})


def with_whole_groups(options: Options) -> dict[str, Any]:
    """The options, `per_device_train_batch_size` raised to `num_generations` where a step would split a group, as Unsloth does.

    TRL refuses such options, so no script of TRL's has them; notebooks of Unsloth have 1 and 4. A batch of rollouts whose size was given
    itself is left as it is.
    """
    is_given = any(options.get(name) is not None for name in ("generation_batch_size", "steps_per_generation"))
    siblings = _given(options, "num_generations")
    if is_given or not _completions_per_batch(options) % siblings:
        return dict(options)
    return {**options, "per_device_train_batch_size": siblings}


def raised(options: Options) -> Note | None:
    """What is said of it; None if nothing was raised."""
    now = with_whole_groups(options)
    before, siblings = _given(options, "per_device_train_batch_size"), _given(now, "per_device_train_batch_size")
    if before == siblings:
        return None
    made = _batch("per_device_train_batch_size", before, now)
    text = (f"{before} x gradient_accumulation_steps is no multiple of num_generations, so it becomes {siblings}, as in Unsloth (TRL "
            f"refuses it): a step trains on {_completions_per_step(now)} completions.")
    return note(made.field, before, Kind.DIFFERS, text, made.settings)


def counts(options: Options) -> Iterator[Note]:
    """Of a trainer: what it counts otherwise than TRL, with several optimizer steps to a batch of rollouts, or with epochs."""
    each, steps = _optimizer_steps_per_batch(with_whole_groups(options)), options["max_steps"]
    if each > 1:
        text = f"The learning rate changes once per batch of rollouts, that is every {each} optimizer steps; in TRL at each of them."
        yield from (note(name, options[name], Kind.DIFFERS, text) for name in SEVERAL if options[name] not in (None, 1))
    if steps > 0 and steps % each:
        text = f"A batch of rollouts has {each} optimizer steps and is trained on whole: {math.ceil(steps / each) * each} steps."
        yield note("max_steps", steps, Kind.DIFFERS, text)
    if steps <= 0 and options["lr_scheduler_type"] != "constant":
        given = (name for name in ("warmup_ratio", "warmup_steps") if options.get(name))
        yield from (note(name, options[name], Kind.DIFFERS, f"Counted from the epochs. {OTHER_RATE}") for name in given)


def _generation(name: str, value: Any, options: Options) -> Note:
    """Optimizer steps that TRL takes on parts of one batch of rollouts."""
    if value is None:
        return note(name, value, Kind.SAME, "Not set: one batch of rollouts per optimizer step.")
    if None not in (options.get("generation_batch_size"), options.get("steps_per_generation")):
        return note(name, value, Kind.UNSUPPORTED, "generation_batch_size and steps_per_generation say the same: give one, as in TRL.")
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
