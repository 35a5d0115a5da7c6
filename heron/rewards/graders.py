"""Graders as data: OpenAI's grader JSON, loaded as a reward function. `rewards.functions = ["grader.json"]`.

    {"type": "multi", "calculate_output": "0.7 * right + 0.3 * near", "graders": {
        "right": {"type": "string_check", "operation": "eq", "input": "{{sample.output_text}}", "reference": "{{item.answer}}"},
        "near": {"type": "text_similarity", "evaluation_metric": "fuzzy_match", "input": ..., "reference": ...}}}

The hard idea: data stays data. A template knows `{{ item.column }}` and `{{ sample.output_text }}` and nothing else, a formula is computed
by `heron.rewards.formula`, and the code of a `python` grader runs in the sandbox. `sample.output_text` is the answer between its tags, or
the whole completion if it has no tags. Everything that can be wrong in the file is found when it is loaded.

Left out: graders that ask a model (`score_model`, `label_model`), and the metrics bleu, gleu, meteor and cosine.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from heron.errors import ConfigError, RewardError, did_you_mean
from heron.rewards.answers import said
from heron.rewards.formula import formula
from heron.rewards.json_schema import strict_json
from heron.rewards.similarity import fuzzy_match, rouge_l, rouge_n
from heron.rewards.verifying import runs_programs
from heron.sandbox import Limits, Result, Status, run
from heron.types import Tags

Grade = Callable[[str, Mapping[str, Any]], float]
"""`(output text, columns of the row)` to a score."""

OPERATIONS: Mapping[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}
METRICS: Mapping[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match, **{f"rouge_{words}": rouge_n(words) for words in range(1, 6)}, "rouge_l": rouge_l,
}  # fmt: skip
_VARIABLE = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_ITEM = re.compile(r"item\.([A-Za-z_]\w*)((?:\.\w+)*)")
PYTHON_SECONDS = 10.0
"""For one call of a grader's program."""
CALL = """
import json as _json, sys as _sys
_given = _json.load(_sys.stdin)
print()
print(float(grade(_given["sample"], _given["item"])))
"""
"""Behind the source: `def grade(sample, item)` must return a number."""
SAMPLE = "sample.output_text"


def load_grader(path: str) -> Callable[..., float]:
    """The grader of a file as a reward function in row form, which asks for the columns that its templates name."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"There is no file {path!r} with a grader (looked in {Path.cwd()}). Check the path.")
    try:
        data = strict_json(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error
    return grader(data, name=file.stem, place=path)


def grader(data: Any, *, name: str, place: str) -> Callable[..., float]:
    """The reward function of a grader; `place` says in errors where the grader stands."""
    grade = _grade(data, place)

    def graded(completion: str, tags: Tags, prefilled: str = "", *, columns: Mapping[str, Any], **_: Any) -> float:
        return grade(said(completion, tags, prefilled), columns)

    graded.__name__ = str(data.get("name") or name)
    parameters = [inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY) for each in
                  dict.fromkeys(("completion", "tags", "prefilled", "columns", *_columns(data)))]
    graded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return runs_programs(graded) if _has_program(data) else graded


def _has_program(data: Any) -> bool:
    """A grader of type python is in it."""
    return isinstance(data, Mapping) and (data.get("type") == "python" or any(map(_has_program, data.values())))


def _grade(data: Any, place: str) -> Grade:
    kind = data.get("type") if isinstance(data, Mapping) else None
    if kind in ("score_model", "label_model"):
        raise ConfigError(f"{place}: a grader of type {kind} asks a model, which Heron's graders cannot do. "
                          "Write a reward function that asks it, in a file, as in rewards.py:judged.")
    makers = {"string_check": _string_check, "text_similarity": _text_similarity, "python": _python, "multi": _multi}
    if not isinstance(kind, str) or kind not in makers:
        raise ConfigError(f"{place}: the type of a grader is one of {', '.join(makers)}, but it is {kind!r}."
                          f"{did_you_mean(str(kind), makers)}")
    return makers[kind](data, place)


def _string_check(data: Mapping[str, Any], place: str) -> Grade:
    text, reference = _template(data, "input", place), _template(data, "reference", place)
    holds = _choice(data, "operation", OPERATIONS, place)
    return lambda output, item: float(holds(text(output, item), reference(output, item)))


def _text_similarity(data: Mapping[str, Any], place: str) -> Grade:
    text, reference = _template(data, "input", place), _template(data, "reference", place)
    measure = _choice(data, "evaluation_metric", METRICS, place)
    return lambda output, item: measure(text(output, item), reference(output, item))


def _multi(data: Mapping[str, Any], place: str) -> Grade:
    parts = data.get("graders")
    if not isinstance(parts, Mapping) or not parts:
        raise ConfigError(f'{place}: a grader of type multi needs "graders", an object of graders by name, but it is {parts!r:.80}.')
    grades = {name: _grade(part, f"{place}: {name}") for name, part in parts.items()}
    total = formula(_text(data, "calculate_output", place), grades)
    return lambda output, item: total({name: grade(output, item) for name, grade in grades.items()})


def _template(data: Mapping[str, Any], key: str, place: str) -> Callable[[str, Mapping[str, Any]], str]:
    """The text of `key`, its variables to be filled in once for each answer: what is filled in is not looked at again."""
    text = _text(data, key, place)
    for variable in _VARIABLE.findall(text):
        if variable != SAMPLE and not _ITEM.fullmatch(variable):
            raise ConfigError(f"{place}: {key} has the variable {{{{{variable}}}}}, which is not known. "
                              f"There are {{{{item.COLUMN}}}} and {{{{{SAMPLE}}}}}.")
    return lambda output, item: _VARIABLE.sub(lambda match: output if match[1] == SAMPLE else _item(match[1], item, place), text)


def _item(variable: str, item: Mapping[str, Any], place: str) -> str:
    value: Any = item
    for name in variable.split(".")[1:]:
        if not isinstance(value, Mapping) or name not in value:
            raise RewardError(f"{place}: the row has no {variable}; it has {', '.join(item)}.")
        value = value[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _columns(data: Any) -> list[str]:
    """Columns that the grader's templates name, wherever they stand in it."""
    if isinstance(data, Mapping):
        return [column for key, value in data.items() if key != "source" for column in _columns(value)]
    if not isinstance(data, str):
        return []
    return [found[1] for variable in _VARIABLE.findall(data) if (found := _ITEM.fullmatch(variable))]


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
    """`grade(sample, item)` of the source, in the sandbox; what it prints does not matter."""
    source = _text(data, "source", place)

    def grade(output: str, item: Mapping[str, Any]) -> float:
        given = json.dumps({"sample": {"output_text": output}, "item": dict(item)})
        result = run(source + CALL, given, Limits(seconds=PYTHON_SECONDS))
        try:
            return float(result.stdout.splitlines()[-1]) if result.status is Status.FINISHED else _failed(result, place)
        except (IndexError, ValueError):
            return _failed(result, place)

    return grade


def _failed(result: Result, place: str) -> NoReturn:
    raise RewardError(f"{place}: the grader's program gave no number ({result.status}). {result.reason} {result.stderr.strip()[-500:]}")
