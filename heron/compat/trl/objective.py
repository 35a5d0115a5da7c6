"""TRL's options of the objective that mean something slightly else here, or depend on one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from heron.compat.notes import Kind, Note, Options, note
from heron.config import LOSS_TYPES


def _loss_type(name: str, value: Any, options: Options) -> Note:
    if value not in LOSS_TYPES:
        return note(name, value, Kind.UNSUPPORTED, f"There is no such loss here. Choose one of {', '.join(LOSS_TYPES)}.")
    setting = {"objective.loss_type": value}
    if value == "bnpo" and options.get("gradient_accumulation_steps", 1) != 1:
        text = ("TRL takes the mean over the tokens of each micro-batch, Heron over those of the whole step, which is `dapo`. "
                'objective.token_weights = "trl" with rows_per_micro_batch = per_device_train_batch_size counts as TRL does.')
        return note(name, value, Kind.DIFFERS, text, setting)
    if value == "cispo" and (options.get("epsilon_high") or 0) < 1:
        text = "epsilon_high is the greatest ratio itself: TRL's 0.2 shrinks every gradient to a fifth. Give 1 or more, such as 5."
        return note(name, value, Kind.UNSUPPORTED, text, setting)
    return note(name, value, Kind.SAME, f"objective.loss_type = {value!r}.", setting)


def _scale_rewards(name: str, value: Any, options: Options) -> Note:
    if options.get("multi_objective_aggregation") == "normalize_then_sum":
        return note(name, value, Kind.SAME, "Without effect in TRL too, with normalize_then_sum.")
    word = {True: "group", False: "none"}.get(value, value) if isinstance(value, bool) else value
    return note(name, value, Kind.SAME, f"objective.scale_rewards = {word!r}.", {"objective.scale_rewards": word})


def _aggregation(name: str, value: Any, options: Options) -> Note:
    if value == "sum_then_normalize":
        return note(name, value, Kind.SAME, "As here: rewards are summed by weight, then compared within the group.")
    if value != "normalize_then_sum":
        return note(name, value, Kind.UNSUPPORTED, "Choose sum_then_normalize or normalize_then_sum.")
    return note(name, value, Kind.RENAMED, f"objective.advantage_estimator = {value!r}.", {"objective.advantage_estimator": value})


def _beta(name: str, value: Any, options: Options) -> Note:
    """With it goes TRL's default of correcting the KL by the ratio."""
    if not value:
        return note(name, value, Kind.SAME, "objective.beta = 0.", {"objective.beta": value})
    corrects = bool(options.get("use_bias_correction_kl", True))
    text = f"objective.beta = {value!r}, with the estimator k3{' times the importance ratio, as TRL does by default' if corrects else ''}."
    return note(name, value, Kind.SAME, text, {"objective.beta": value, "objective.use_bias_correction_kl": corrects})


def _bias_correction(name: str, value: Any, options: Options) -> Note:
    if not options.get("beta"):
        return note(name, value, Kind.SAME, "Without effect in both, while beta is 0.")
    return note(name, value, Kind.SAME, f"objective.use_bias_correction_kl = {bool(value)}.",
                {"objective.use_bias_correction_kl": bool(value)})


OBJECTIVE_RULES: Mapping[str, Callable[[str, Any, Options], Note]] = {
    "loss_type": _loss_type,
    "scale_rewards": _scale_rewards,
    "multi_objective_aggregation": _aggregation,
    "beta": _beta,
    "use_bias_correction_kl": _bias_correction,
}
"""By TRL's name."""
