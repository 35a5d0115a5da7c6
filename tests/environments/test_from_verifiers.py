"""Environments of the `verifiers` package, here a stand-in that has its classes' shape and habits."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tinymodels import TAGS

from heron.data.rows import to_prompt
from heron.data.sources import open_source
from heron.data.verifiers_package import opened
from heron.environments.from_verifiers import FromVerifiers
from heron.environments.making import resolve_rewards
from heron.errors import ConfigError, MissingExtra, RewardError
from heron.rewards import Rubric
from heron.types import Completion, FinishReason, Prompt, Rollout, Turn

NAME = "verifiers:sums"
ROWS = [
    {"prompt": [{"role": "user", "content": f"What is {n} + 1?"}], "answer": str(n + 1), "info": '{"bonus": 0.25}', "example_id": n}
    for n in range(4)
]


class SingleTurnEnv:
    """What the package calls an environment of one turn: its construction takes over Ctrl-C."""

    def __init__(self, rubric: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.dataset, self.eval_dataset, self.rubric = ROWS, ROWS[:1], rubric


class ToolEnv:
    """Not of one turn."""


def right(completion: Any, answer: str, parser: Callable[[Any], str]) -> float:
    return float(parser(completion) == answer)


async def bonus(info: Mapping[str, float], **_: Any) -> float:
    return info["bonus"]


def length(state: Mapping[str, Any]) -> float:
    return float(len(state["trajectory"]))


def raises(completion: Any) -> float:
    raise ZeroDivisionError("in the package's function")


def best_of(completions: Any) -> list[float]:
    return [1.0 for _ in completions]


def rubric(*functions: Callable[..., Any], weights: tuple[float, ...] = ()) -> SimpleNamespace:
    return SimpleNamespace(
        funcs=list(functions), weights=list(weights or [1.0] * len(functions)),
        class_objects={"parser": lambda completion: completion[-1]["content"]},
    )


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    module = ModuleType("verifiers")
    module.SingleTurnEnv = SingleTurnEnv  # type: ignore[attr-defined]
    module.load_environment = lambda name: SingleTurnEnv(rubric(right, bonus, weights=(1.0, 2.0)))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "verifiers", module)
    opened.cache_clear()
    yield module
    opened.cache_clear()


def gives(package: ModuleType, made: Any) -> None:
    package.load_environment = lambda name: made() if callable(made) else made  # type: ignore[attr-defined]


def rollout(prompt: Prompt, text: str) -> Rollout:
    completion = Completion(token_ids=(1,), logprobs=(0.0,), finish_reason=FinishReason.STOP, policy_version=0)
    return Rollout(prompt=prompt, turns=(Turn(prompt_ids=(1,), completion=completion),), text=text,
                   messages=(*prompt.messages, {"role": "assistant", "content": text}))


def scores(names: list[str], said: str) -> Mapping[str, float | None]:
    row = to_prompt(open_source(NAME, None).rows("train")[2])
    scored = Rubric(resolve_rewards(names, [], FromVerifiers(NAME)), tags=TAGS)
    scored.check([row])
    return scored.score([rollout(row, said)])[0].rewards


def test_rows_and_rubric(package: ModuleType) -> None:
    """Prevents: weights that are lost, a function that is not awaited, an `info` that stays text."""
    assert scores(["environment.rubric", "environment.right", "environment.bonus"], "3") == {
        "environment.rubric": 1.5, "environment.right": 1.0, "environment.bonus": 0.25}
    assert scores(["environment.rubric"], "4") == {"environment.rubric": 0.5}


def test_rows_for_evaluation_are_a_split(package: ModuleType) -> None:
    source = open_source(NAME, None)
    assert [len(source.rows(split)) for split in ("train", "test")] == [4, 1]
    with pytest.raises(ConfigError, match=r"data.subset is 'main'"):
        open_source(NAME, "main")


def test_ctrl_c_stays_with_the_program(package: ModuleType) -> None:
    """Prevents: a run that Ctrl-C ends without a checkpoint, since building the environment took the signal."""
    before = signal.getsignal(signal.SIGINT)
    FromVerifiers(NAME)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_raises_is_an_error(package: ModuleType) -> None:
    """Prevents: 0 for a function that raised, which is what the package itself makes of it."""
    gives(package, lambda: SingleTurnEnv(rubric(raises)))
    with pytest.raises(RewardError, match="in the package's function"):
        scores(["environment.rubric"], "3")


def test_groups_of_rubrics_and_equal_names(package: ModuleType) -> None:
    """Prevents: the second of two functions of one name replacing the first."""
    gives(package, lambda: SingleTurnEnv(SimpleNamespace(rubrics=[rubric(right), rubric(right, length, weights=(0.5, 0.0))])))
    environment = FromVerifiers(NAME)
    assert list(environment.rewards) == ["rubric", "right", "right_2", "length"]
    assert scores(["environment.rubric", "environment.length"], "3") == {"environment.rubric": 1.5, "environment.length": 1.0}


@pytest.mark.parametrize(("made", "message"), [
    (ToolEnv(), "is a ToolEnv, but only environments of one turn"),
    (lambda: SingleTurnEnv(rubric(best_of)), "function best_of: it asks for completions"),
    (lambda: SingleTurnEnv(rubric()), "has no function"),
])
def test_what_is_not_run_here_is_refused(package: ModuleType, made: Any, message: str) -> None:
    """Prevents: a conversation of several turns that is silently cut to one, a reward that is silently left out."""
    gives(package, made)
    with pytest.raises(ConfigError, match=message):
        FromVerifiers(NAME)


def test_an_environment_that_cannot_be_found(package: ModuleType) -> None:
    def fails(name: str) -> None:
        raise ValueError(f"Could not import {name!r}")

    package.load_environment = fails  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"'sums'.*cannot be loaded.*put sums.py on the Python path"):
        FromVerifiers(NAME)
    del package.load_environment
    with pytest.raises(ConfigError, match="no load_environment any more"):
        FromVerifiers(NAME)


def test_absent_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verifiers", None)
    with pytest.raises(MissingExtra, match=r"heron-rl\[verifiers\]"):
        open_source("verifiers:elsewhere", None)
