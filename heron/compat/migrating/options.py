"""The options of `GRPOConfig` in a config of TRL's command line, as settings of a recipe.

A recipe has no trainer that sees to some of them (`heron.compat.trl.config.OF_TRAINER`): each becomes a setting here, or a note says that
it has none. TRL's defaults are among the settings, since Heron's own are others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heron.compat.notes import Kind, Note, note
from heron.compat.trl.config import ALWAYS, OF_BNPO, counted_as_trl, defaults
from heron.compat.trl.steps import SEVERAL, counts, raised, with_whole_groups
from heron.compat.trl.translating import from_grpo_config
from heron.errors import ConfigError

Sections = dict[str, dict[str, Any]]
EPOCHS = ("max_steps", "num_train_epochs")
"""Either says how long TRL trains."""
OF_BF16 = "Nothing is autocast: model.dtype is the type of the weights and of what is computed with them."


def options_as_settings(given: Mapping[str, Any]) -> tuple[Sections, list[Note]]:
    """Settings by section, and a note for each option given; and on the epochs, which TRL trains where nothing says how long."""
    asked = _complete(given)
    complete = with_whole_groups(asked)
    notes = from_grpo_config(complete)[1]
    lost = [made.field for made in notes if made.kind is Kind.UNSUPPORTED and not made.settings and made.field in given]
    kept = {name: value for name, value in complete.items() if name not in lost}
    used = {name: defaults()[name] for name in lost if name in defaults()} | kept
    sections = counted_as_trl(from_grpo_config(used)[0], used)
    if complete["eval_strategy"] == "no":
        sections["evaluation"] |= {"size": 0}
    batch = [made for made in (raised(asked),) if made is not None]
    mine = {made.field: made for made in (*notes, *_otherwise(complete, notes), *batch)}
    spoken_of = (*given, *([] if any(name in given for name in EPOCHS) else ["num_train_epochs"]), *(made.field for made in batch))
    return sections, [mine[name] for name in dict.fromkeys(spoken_of)]


def _complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """With TRL's defaults, and numbers where YAML has a text for them (`1e-5`); TRL reads them so, too."""
    read = {name: _number(name, value) if _is_number(defaults().get(name)) else value for name, value in given.items()}
    complete = {**defaults(), **read}
    if complete["save_total_limit"] is None:
        complete["save_total_limit"] = ALWAYS
    if complete["eval_strategy"] != "no":  # what transformers and TRL set where it is left out
        complete["eval_steps"] = complete["eval_steps"] or complete["logging_steps"]
        complete["num_generations_eval"] = complete["num_generations_eval"] or complete["num_generations"]
    return complete


def _number(name: str, value: Any) -> Any:
    """Of an option that has one by default; null stays null."""
    if value is None or isinstance(value, int | float):
        return value
    try:
        found = float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} must be a number, but it is {value!r}.") from error
    return int(found) if isinstance(defaults()[name], int) and found.is_integer() else found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _otherwise(complete: Mapping[str, Any], notes: list[Note]) -> Iterator[Note]:
    """Notes that say of a recipe what those on the options alone cannot."""
    for made in notes:
        if made.given == "bnpo":
            yield note(made.field, made.given, Kind.SAME, OF_BNPO)
        elif made.field == "bf16" and made.given:
            yield note(made.field, made.given, Kind.DIFFERS, OF_BF16)
        elif made.field in ("eval_strategy", "eval_steps"):
            yield _evaluation(made, is_on=complete["eval_strategy"] != "no")
    yield from (made for made in counts(complete) if made.field in SEVERAL)


def _evaluation(made: Note, *, is_on: bool) -> Note:
    if not is_on:
        text = "evaluation.size = 0." if made.field == "eval_strategy" else "Without effect in TRL too: eval_strategy is `no`."
        return note(made.field, made.given, Kind.SAME, text, {"evaluation.size": 0})
    if made.kind is Kind.UNSUPPORTED:
        return made
    text = (f"{made.text} Heron measures before and after, too, on evaluation.size problems (64 unless you set it), where TRL takes the "
            "whole split; beside the rewards there are the verdicts of evaluation.verifier.")
    return note(made.field, made.given, Kind.DIFFERS, text, made.settings)
