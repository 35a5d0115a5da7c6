"""What a trainer was given in memory, as files that a run can be resumed from: rows, a model, a tokenizer.

The one hard idea: a run of Heron's is made of a config and of files, so that it can be resumed, evaluated and exported by anybody. What a
notebook holds is therefore written down first: the prompts as JSON lines, each with the number of its row, and the model as a folder.
Reward functions are still given the row's own values, which need not be JSON: they are looked up by that number.

A tokenizer is written anew only where its template must say something else: a prompt that is plain text is continued as it is, as in TRL,
and `chat_template_kwargs` are set in the template itself.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from heron.data.rows import ANSWER_COLUMNS
from heron.data.texts import half_character
from heron.errors import ConfigError, DataError

ROW = "trl_row"
"""Column with the number of a row."""
PICTURES = ("image", "images")
"""Columns that TRL shows to a model."""
CONTINUED = """\
{%- if FIRST and bos_token is defined and bos_token %}
{{- bos_token }}
{%- endif %}
{%- for message in messages %}
{{- message["content"] }}
{%- endfor %}
"""
"""A chat template under which a text is continued; FIRST says whether the tokenizer begins texts with a special token."""

Rows = list[dict[str, Any]]


def rows_of(dataset: Any, *, what: str, most: int | None = None) -> Rows:
    """The rows of a list, a `datasets.Dataset`, or anything that can be iterated; at most `most` of one without a length."""
    if isinstance(dataset, Mapping | str | bytes) or not isinstance(dataset, Iterable):
        raise ConfigError(f"{what} must be a dataset, or a list of rows, but it is {dataset!r:.80}. Choose a split of several, such as "
                          f"dataset['train'].")
    rows = list(dataset if has_length(dataset) else itertools.islice(dataset, most))
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(f"Row {number} of {what} is {row!r:.80}. A row is a mapping, such as {{'prompt': 'The sky is'}}.")
        if seen := [name for name in PICTURES if row.get(name) is not None]:
            raise DataError(f"Row {number} of {what} has the column {seen[0]!r}, but models read text alone here. Leave it out: "
                            f"dataset.remove_columns({seen[0]!r}).")
    if not rows:
        raise DataError(f"{what} is empty.")
    return [dict(row) for row in rows]


def has_length(dataset: Any) -> bool:
    """False of a stream, of which only as much is read as will be trained on."""
    return hasattr(dataset, "__len__")


def is_plain(rows: Sequence[Mapping[str, Any]], what: str) -> bool:
    """Whether the prompts are texts to continue; False if they are conversations."""
    kinds = {isinstance(_prompt(row, number, what), str) for number, row in enumerate(rows)}
    if len(kinds) > 1:
        raise DataError(f"{what} has prompts that are texts, and others that are conversations. Write all of them in one way.")
    return kinds.pop()


def prompt_rows(rows: Sequence[Mapping[str, Any]], what: str, *, first: int = 0) -> list[dict[str, Any]]:
    """The rows as they are written to a file: the prompt, the number, and those other columns that JSON has a word for."""
    return [
        {"prompt": _asked(row, number, what), ROW: first + number, **_plain_columns(row)} for number, row in enumerate(rows)
    ]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_lines(rows), encoding="utf-8")


def as_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """As JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_model(model: Any, folder: Path) -> Path | None:
    """Weights and config of a model in memory; returns the folder of its adapter, if it has one, beside that of the base."""
    from heron.models.policy import no_bars

    is_adapted = hasattr(model, "peft_config")
    base = model.get_base_model() if is_adapted else model
    with no_bars():
        base.save_pretrained(folder, state_dict=_bare(base.state_dict()) if is_adapted else None)
        if is_adapted:
            model.save_pretrained(folder.with_name("adapter"))
    return folder.with_name("adapter") if is_adapted else None


def borrow_model(name: str, revision: str | None, folder: Path) -> None:
    """A folder with links to the files of another one, or of a hub id's snapshot: for another tokenizer beside the same weights."""
    source = Path(name).expanduser()
    if not source.is_dir():
        from huggingface_hub import snapshot_download

        source = Path(snapshot_download(name, revision=revision))
    folder.mkdir(parents=True)
    for file in source.resolve().iterdir():
        os.symlink(file, folder / file.name)


def write_tokenizer(tokenizer: Any, folder: Path, *, plain: bool, template_values: Mapping[str, Any]) -> None:
    """The tokenizer with the template that this run needs, in the place of whatever is there."""
    import copy

    changed = copy.deepcopy(tokenizer)
    changed.chat_template = _continuing(changed) if plain else _with_values(changed, template_values)
    for file in folder.iterdir():
        if file.is_symlink() and ("token" in file.name or file.name.startswith("chat_template")):
            file.unlink()
    changed.save_pretrained(folder)


def _continuing(tokenizer: Any) -> str:
    begins = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return CONTINUED.replace("FIRST", "true" if begins else "false")


def _with_values(tokenizer: Any, values: Mapping[str, Any]) -> str | None:
    """The template with variables set in front."""
    if tokenizer.chat_template is None:
        raise ConfigError("The prompts are conversations, but the tokenizer has no chat template. Give one as processing_class, or prompts "
                          "that are texts.")
    if not isinstance(tokenizer.chat_template, str):
        raise ConfigError("The tokenizer has several chat templates. Set processing_class.chat_template to the one that is meant.")
    lines = [f"{{%- set {name} = {_literal(name, value)} %}}\n" for name, value in values.items()]
    return "".join(lines) + tokenizer.chat_template


def _literal(name: str, value: Any) -> str:
    """As Jinja writes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | str):
        return json.dumps(value)
    raise ConfigError(f"chat_template_kwargs[{name!r}] is {value!r:.80}. Give a text, a number, True, False or None.")


def _prompt(row: Mapping[str, Any], number: int, what: str) -> Any:
    if "prompt" not in row:
        raise DataError(f"Row {number} of {what} has no column 'prompt', which TRL asks for; its columns are {', '.join(row)}. Rename one: "
                        "dataset.rename_column('question', 'prompt').")
    return row["prompt"]


def _asked(row: Mapping[str, Any], number: int, what: str) -> Any:
    """The prompt, if it is one that Heron can ask as TRL does."""
    prompt = _prompt(row, number, what)
    if isinstance(prompt, str):
        return prompt
    is_conversation = isinstance(prompt, list | tuple) and bool(prompt) and all(isinstance(message, Mapping) for message in prompt)
    if not is_conversation or prompt[-1].get("role") != "user":
        raise DataError(f"Row {number} of {what} has the prompt {prompt!r:.200}. Give a text, or messages of which the last is the user's: "
                        "an answer that is begun cannot be continued.")
    return [{name: value for name, value in message.items() if value is not None} for message in prompt]


def _plain_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a file can hold. An answer is the business of reward functions: under its own name Heron would judge by it."""
    return {
        f"trl_{name}" if name in ANSWER_COLUMNS else name: value
        for name, value in row.items() if name not in ("prompt", ROW) and _is_json(value)
    }


def _is_json(value: Any) -> bool:
    if isinstance(value, str):
        return half_character(value) is None
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(name) and _is_json(each) for name, each in value.items())
    return value is None or isinstance(value, bool | int) or (isinstance(value, float) and abs(value) < float("inf"))


def _bare(state: Mapping[str, Any]) -> dict[str, Any]:
    """The base's weights by their own names, without those of an adapter that was put into it."""
    return {name.replace(".base_layer", ""): weight for name, weight in state.items() if "lora_" not in name}
