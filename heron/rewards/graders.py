"""Graders as data: OpenAI's grader JSON, loaded as a reward function. `rewards.functions = ["grader.json"]`.

    {"type": "multi", "calculate_output": "0.7 * right + 0.3 * near", "graders": {
        "right": {"type": "string_check", "operation": "eq", "input": "{{sample.output_text}}", "reference": "{{item.answer}}"},
        "near": {"type": "text_similarity", "evaluation_metric": "fuzzy_match", "input": ..., "reference": ...}}}

The hard idea: data stays data. A template knows `{{ item.column }}` and `{{ sample.output_text }}` and nothing else, a formula is computed
by `heron.rewards.formula`, and the code of a `python` grader runs in the sandbox. `sample.output_text` is the answer between its tags, or
the whole completion if it has no tags. Everything that can be wrong in the file is found when it is loaded.

`score_model` and `label_model` ask the judge of the config (`heron.rewards.judge`), with the file's own messages: these are as safe from a
reply that talks to the judge as their author made them; control tokens in the reply are broken up. Left out, and refused: the metrics bleu,
gleu, meteor and cosine, settings of sampling (the judge is greedy), the image of a program, and messages with anything but a text.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from heron.errors import ConfigError, RewardError, did_you_mean
from heron.rewards.answers import said
from heron.rewards.formula import formula, names_in
from heron.rewards.json_schema import strict_json
from heron.rewards.judge import grading
from heron.rewards.judge.seat import Seat
from heron.rewards.neutral import neutral
from heron.rewards.similarity import fuzzy_match, rouge_l, rouge_n
from heron.rewards.templates import Filled, check_items, columns_in, shows_reply, template
from heron.rewards.verifying import checks_row, runs_programs
from heron.sandbox import Limits, call
from heron.types import Message, Tags

Grade = Callable[[str, Mapping[str, Any]], float]
"""`(output text, columns of the row)` to a score."""

OPERATIONS: Mapping[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference != "" and reference in text,
    "ilike": lambda text, reference: reference != "" and reference.casefold() in text.casefold(),
}
CONTAINING = ("like", "ilike")
"""Every text contains an empty one: a row's must not be empty, and where it is the reply that is empty, it is not contained."""
ROLES = {role: role for role in ("user", "system", "developer", "assistant")}
"""Who a message to a judge may be from."""
KEYS: Mapping[str, tuple[str, ...]] = {
    "string_check": ("input", "reference", "operation"), "text_similarity": ("input", "reference", "evaluation_metric"),
    "python": ("source",), "multi": ("graders", "calculate_output"),
    "score_model": ("model", "input", "range"), "label_model": ("model", "input", "labels", "passing_labels"),
}
"""What a grader of each type is told, besides its type and its name."""
METRICS: Mapping[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match, **{f"rouge_{words}": rouge_n(words) for words in range(1, 6)}, "rouge_l": rouge_l,
}  # fmt: skip
PYTHON_SECONDS = 10.0
"""For one call of a grader's program."""
CALL = """
def _heron_score(given):
    import json, traceback
    given = json.loads(given)
    try:
        return float(grade(given["sample"], given["item"]))
    except Exception:  # boundary: the report names the error alone, the place of it stands in stderr
        traceback.print_exc()
        raise
"""
"""Behind the source: `def grade(sample, item)` must return a number."""


def load_grader(path: str) -> Callable[..., Any]:
    """The grader of a file as a reward function, which asks for the columns that its templates name."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"There is no file {path!r} with a grader (looked in {Path.cwd()}). Check the path.")
    try:
        data = strict_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The grader {path} cannot be read: {error}. Check the path and its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error
    return grader(data, name=file.stem, place=path)


def grader(data: Any, *, name: str, place: str) -> Callable[..., Any]:
    """The reward function of a grader, in batch form if it asks a judge; `place` says in errors where the grader stands."""
    models = [part.get("model") for part in _parts(data) if part.get("type") in ("score_model", "label_model")]
    seat = Seat(wanted=_the_one(models, place) if models else None)
    grade = _grade(data, place, seat)

    def graded(completion: str, tags: Tags, prefilled: str = "", *, columns: Mapping[str, Any], **_: Any) -> float:
        return grade(said(completion, tags, prefilled), columns)

    graded.__name__ = str(data.get("name") or name)
    parameters = [inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY) for each in
                  dict.fromkeys(("completion", "tags", "prefilled", "columns", *columns_in(data)))]
    graded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function = checks_row(partial(_check_row, data, place))(grading.in_batches(graded, seat) if models else graded)
    return runs_programs(function) if any(part.get("type") == "python" for part in _parts(data)) else function


def _parts(data: Any) -> Iterator[Mapping[str, Any]]:
    """The grader, and those in it."""
    if isinstance(data, Mapping):
        yield data
        inner = data.get("graders")
        for part in inner.values() if isinstance(inner, Mapping) else ():
            yield from _parts(part)


def _check_row(data: Any, place: str, columns: Mapping[str, Any]) -> None:
    """Raises RewardError for a row that has not what a template names, or a reference that every text contains."""
    check_items(data, columns, place)
    for part in _parts(data):
        if part.get("operation") not in CONTAINING or shows_reply(part["reference"]):
            continue
        if not _template(part, "reference", place)("", columns):
            raise RewardError(f"{place}: the reference {part['reference']} is empty in this row, and every text contains that. Give the "
                              "row one, or leave it out.")


def _the_one(models: Sequence[Any], place: str) -> str | None:
    """There is one judge, so all of them must want the same."""
    wanted = {model for model in models if isinstance(model, str)}
    if len(wanted) > 1:
        raise ConfigError(f"{place}: its graders ask different models ({', '.join(sorted(wanted))}), but a run has one judge. Name one.")
    return next(iter(wanted), None)


def _grade(data: Any, place: str, seat: Seat) -> Grade:
    kind = data.get("type") if isinstance(data, Mapping) else None
    makers: Mapping[str, Callable[[Mapping[str, Any], str], Grade]] = {
        "string_check": _string_check, "text_similarity": _text_similarity, "python": _python, "multi": partial(_multi, seat=seat),
        "score_model": partial(_score_model, seat=seat), "label_model": partial(_label_model, seat=seat),
    }
    if not isinstance(kind, str) or kind not in makers:
        raise ConfigError(f"{place}: the type of a grader is one of {', '.join(makers)}, but it is {kind!r}."
                          f"{did_you_mean(str(kind), makers)}")
    known = ("type", "name", *KEYS[kind])
    for key in data:
        if key not in known:
            raise ConfigError(f"{place}: a grader of type {kind} has no setting {key!r} here.{did_you_mean(key, known)} It has "
                              f"{', '.join(known)}; take out what is left.")
    return makers[kind](data, place)


def _string_check(data: Mapping[str, Any], place: str) -> Grade:
    text, reference = _template(data, "input", place), _template(data, "reference", place)
    holds = _choice(data, "operation", OPERATIONS, place)
    if data["operation"] in CONTAINING and not data["reference"]:
        raise ConfigError(f"{place}: the reference is empty, and every text contains that. Write what {data['operation']} looks for.")
    return lambda output, item: float(holds(text(output, item), reference(output, item)))


def _text_similarity(data: Mapping[str, Any], place: str) -> Grade:
    text, reference = _template(data, "input", place), _template(data, "reference", place)
    measure = _choice(data, "evaluation_metric", METRICS, place)
    return lambda output, item: measure(text(output, item), reference(output, item))


def _score_model(data: Mapping[str, Any], place: str, seat: Seat) -> Grade:
    messages, bounds = _messages(data, place), data.get("range", [0, 1])
    is_pair = isinstance(bounds, list) and len(bounds) == 2 and all(map(_is_finite, bounds))
    if not is_pair or not bounds[0] < bounds[1]:
        raise ConfigError(f"{place}: range must be two numbers, the lower first, such as [0, 1], but it is {bounds!r:.80}.")
    return lambda output, item: grading.score(seat, messages(output, item), float(bounds[0]), float(bounds[1]))


def _is_finite(bound: Any) -> bool:
    """A number that a float can hold."""
    return type(bound) in (int, float) and abs(bound) <= sys.float_info.max


def _label_model(data: Mapping[str, Any], place: str, seat: Seat) -> Grade:
    messages, labels, passing = _messages(data, place), _texts(data, "labels", place), _texts(data, "passing_labels", place)
    if not {*passing} < {*labels}:
        raise ConfigError(f"{place}: passing_labels must be some of the labels {labels}, but not all, and they are {passing}.")
    return lambda output, item: float(grading.label(seat, messages(output, item), labels) in passing)


def _texts(data: Mapping[str, Any], key: str, place: str) -> list[str]:
    given = data.get(key)
    if not isinstance(given, list) or not given or not all(isinstance(each, str) for each in given):
        raise ConfigError(f'{place}: a grader of type {data["type"]} needs "{key}", a list of texts, but it is {given!r:.80}.')
    return given


def _messages(data: Mapping[str, Any], place: str) -> Callable[[str, Mapping[str, Any]], list[Message]]:
    """What the judge is sent; a reply's control tokens are broken up."""
    given = data.get("input")
    if not isinstance(given, list) or not given or not all(isinstance(each, Mapping) for each in given):
        raise ConfigError(f'{place}: a grader of type {data["type"]} needs "input", a list of messages, but it is {given!r:.80}.')
    texts = [(_choice(each, "role", ROLES, place), _template({**each, "type": data["type"]}, "content", place)) for each in given]
    return lambda output, item: [{"role": role, "content": text(neutral(output), item)} for role, text in texts]


def _multi(data: Mapping[str, Any], place: str, seat: Seat) -> Grade:
    parts = data.get("graders")
    if not isinstance(parts, Mapping) or not parts:
        raise ConfigError(f'{place}: a grader of type multi needs "graders", an object of graders by name, but it is {parts!r:.80}.')
    grades = {name: _grade(part, f"{place}: {name}", seat) for name, part in parts.items()}
    text = _text(data, "calculate_output", place)
    total = formula(text, grades)
    for name in grades:
        if name not in names_in(text):
            raise ConfigError(f"{place}: the grader {name!r} does not stand in calculate_output, {text!r:.200}, so it would be asked for "
                              "nothing. Put it in, under a name of letters, digits and underscores, or take the grader out.")
    return lambda output, item: total({name: grade(output, item) for name, grade in grades.items()})


def _template(data: Mapping[str, Any], key: str, place: str) -> Filled:
    return template(_text(data, key, place), place, key)


def _choice(data: Mapping[str, Any], key: str, choices: Mapping[str, Any], place: str) -> Any:
    given = str(data.get(key))
    if given not in choices:
        raise ConfigError(f"{place}: {key} must be one of {', '.join(choices)}, but it is {given!r}.{did_you_mean(given, choices)}")
    return choices[given]


def _text(data: Mapping[str, Any], key: str, place: str) -> str:
    given = data.get(key)
    if not isinstance(given, str):
        raise ConfigError(f'{place}: a grader of type {data["type"]} needs "{key}", a text, but it is {given!r:.80}.')
    return given


def _python(data: Mapping[str, Any], place: str) -> Grade:
    """`grade(sample, item)` of the source, in the sandbox; what is printed there, and how it ends, does not matter."""
    source = _text(data, "source", place)

    def grade(output: str, item: Mapping[str, Any]) -> float:
        called = call(source + CALL, "_heron_score", [_sent(output, item, place)], Limits(seconds=PYTHON_SECONDS))
        if called.problem or not isinstance(called.value, float):
            raise RewardError(f"{place}: the grader's program gave no number: {called.problem or repr(called.value)[:200]}. "
                              f"{called.result.stderr.strip()[-500:]}")
        return called.value

    return grade


def _sent(output: str, item: Mapping[str, Any], place: str) -> str:
    """What the program is given, as JSON."""
    try:
        return json.dumps({"sample": {"output_text": output}, "item": dict(item)})
    except (TypeError, ValueError) as error:
        raise RewardError(f"{place}: the row cannot be sent to the grader's program: {error}. Leave columns other than texts, numbers and "
                          "lists out of the dataset.") from error
