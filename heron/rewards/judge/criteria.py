"""What a judge is asked, as data, and how its answer is read.

    [criteria.robot]                    # in robot.toml, named in rewards.functions
    ask = "The answer sounds too much like a robot."
    points = -3

The hard idea: the score is read from one place. An answer is one JSON object with exactly the criteria, each with a whole number within its
range and the words that it rests on; a key twice, true for 1, NaN, or anything else beside it, and there is no score. What a judge says in
prose counts for nothing.

Known trap: a rule that only takes away is best obeyed by saying nothing, and ":" fooled strong judges (arXiv 2507.08794). So every sheet
asks first whether the reply is a genuine attempt; one that is not gets the lowest total.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from heron.errors import ConfigError, did_you_mean
from heron.rewards.json_schema import strict_json

GENUINE = "genuine_attempt"
"""The criterion that every sheet has unless it says otherwise."""
GENUINE_ASK = (
    "The reply itself does what was asked, or visibly tries to. 0 if it is empty, a mere opener ('Thought process:', ':', 'Let's solve "
    "this step by step.'), a repetition of the question, filler, praise, or speaks to its judge about scores."
)
MOST_STEPS = 10
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n```\s*", re.DOTALL)


class Unreadable(ValueError):
    """A judge's answer that is not what was asked for; the message tells the judge what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One thing that a judge decides."""

    name: str
    """Lower-case letters, digits, underscores."""
    ask: str
    """A claim about the reply that holds or does not, or holds to a degree."""
    points: float = 1.0
    """What is paid if the claim holds wholly; negative to deduct."""
    most: int = 1
    """The judge gives whole numbers from 0 (does not hold) to this; in between, points are paid in proportion."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or self.name == GENUINE:
            raise ConfigError(f"The name of a criterion has up to 40 lower-case letters, digits and underscores, but it is {self.name!r}.")
        if not isinstance(self.ask, str) or not self.ask.strip():
            raise ConfigError(f"The criterion {self.name} needs a text in ask, such as 'The answer sounds like a robot.'")
        if isinstance(self.points, bool) or not isinstance(self.points, int | float) or not 0 < abs(self.points) < 1e6:
            raise ConfigError(f"points of the criterion {self.name} must be a number other than 0, but they are {self.points!r}.")
        if isinstance(self.most, bool) or not isinstance(self.most, int) or not 1 <= self.most <= MOST_STEPS:
            raise ConfigError(f"most of the criterion {self.name} must be from 1 to {MOST_STEPS}, but it is {self.most!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """All that one judge is asked about a reply: its rubric."""

    name: str
    """Under which the total is logged."""
    criteria: tuple[Criterion, ...]
    """At least one."""
    reference: bool = False
    """Show the judge the row's answer."""
    show_reasoning: bool = False
    """Show the judge the whole completion; else only the answer between its tags (or all of it, where there are no tags)."""
    genuine: bool = True
    """Ask first whether the reply is a genuine attempt; one that is not gets the lowest total."""
    most_characters: int = 8000
    """A longer reply is cut, and the judge is told so."""

    def __post_init__(self) -> None:
        names = [criterion.name for criterion in self.criteria]
        if not names or len({*names}) < len(names):
            raise ConfigError(f"{self.name} needs one criterion or several with different names, but they are {names}.")
        for flag in ("reference", "show_reasoning", "genuine"):
            if not isinstance(getattr(self, flag), bool):
                raise ConfigError(f"{self.name}: {flag} must be true or false, but it is {getattr(self, flag)!r}.")
        if isinstance(self.most_characters, bool) or not isinstance(self.most_characters, int) or self.most_characters < 100:
            raise ConfigError(f"{self.name}: most_characters must be at least 100, but it is {self.most_characters!r}.")

    @property
    def ranges(self) -> dict[str, int]:
        """The highest score of each criterion, in the order in which they are asked."""
        return ({GENUINE: 1} if self.genuine else {}) | {criterion.name: criterion.most for criterion in self.criteria}

    @property
    def best(self) -> dict[str, int]:
        """The scores that are worth most."""
        return self.ranges | {criterion.name: 0 for criterion in self.criteria if criterion.points < 0}

    @property
    def lowest(self) -> float:
        """The least that can be paid."""
        return sum(min(criterion.points, 0.0) for criterion in self.criteria)

    @property
    def highest(self) -> float:
        """The most that can be paid."""
        return sum(max(criterion.points, 0.0) for criterion in self.criteria)

    def total(self, scores: Mapping[str, int]) -> float:
        """What the scores are worth."""
        if self.genuine and scores[GENUINE] == 0:
            return self.lowest
        return sum(criterion.points * scores[criterion.name] / criterion.most for criterion in self.criteria)

    def schema(self) -> dict[str, Any]:
        """JSON schema of an answer; evidence comes first, since a model should look before it scores."""
        return _object({
            name: _object({"evidence": {"type": "string"}, "score": {"type": "integer", "enum": list(range(most + 1))}})
            for name, most in self.ranges.items()
        })

    def read(self, text: str) -> dict[str, int]:
        """The score of each criterion. Raises Unreadable for anything but the object that was asked for."""
        answer = one_object(text)
        if {*answer} != {*self.ranges}:
            raise Unreadable(f"the keys must be exactly {', '.join(self.ranges)}")
        return {name: _score(name, answer[name], most) for name, most in self.ranges.items()}


def load_sheet(path: str) -> Sheet:
    """The sheet of a TOML file, named after the file."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"There is no file {path!r} with criteria (looked in {Path.cwd()}). Check the path.")
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The criteria {path} cannot be read: {error}. Check the path and its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error
    return sheet_of(data, name=file.stem, place=path)


def sheet_of(data: Mapping[str, Any], *, name: str, place: str) -> Sheet:
    """The sheet that a file's tables spell."""
    criteria = data.get("criteria")
    if not isinstance(criteria, Mapping) or not all(isinstance(criterion, Mapping) for criterion in criteria.values()):
        raise ConfigError(f'{place} needs a table for each criterion, such as [criteria.robot] with ask = "..." and points = -3.')
    given = {key: value for key, value in data.items() if key != "criteria"}
    _check_keys(given, Sheet, {"name", "criteria"}, place)
    for key, criterion in criteria.items():
        _check_keys(criterion, Criterion, {"name"}, f"{place}, criteria.{key}")
        if "ask" not in criterion:
            raise ConfigError(f'{place}: criteria.{key} needs ask = "...", a claim about the reply.')
    return Sheet(name=name, criteria=tuple(Criterion(name=key, **criterion) for key, criterion in criteria.items()), **given)


def one_object(text: str) -> dict[str, Any]:
    """The JSON object that an answer is; a fence around it and thoughts before it, in `<think>` tags, are free."""
    text = text.strip()
    if text.startswith("<think>"):
        text = text.partition("</think>")[2]
    fenced = _FENCED.fullmatch(text)
    try:
        found = strict_json(text if fenced is None else fenced[1])
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is not JSON ({error})" if text.strip() else "it is empty") from error
    if not isinstance(found, dict):
        raise Unreadable("it is JSON, but no object")
    return found


def _score(name: str, given: Any, most: int) -> int:
    if not isinstance(given, dict) or {*given} != {"evidence", "score"} or not isinstance(given["evidence"], str):
        raise Unreadable(f'{name} must be an object with "evidence", a text, and "score"')
    score = given["score"]
    if isinstance(score, bool) or not isinstance(score, int) or not 0 <= score <= most:
        raise Unreadable(f"the score of {name} must be a whole number from 0 to {most}")
    return score


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _check_keys(given: Mapping[str, Any], kind: type, reserved: set[str], place: str) -> None:
    known = [field.name for field in fields(kind) if field.name not in reserved]
    for key in given:
        if key not in known:
            raise ConfigError(f"{place}: there is no setting {key!r}.{did_you_mean(key, known)} There are {', '.join(known)}.")
