"""Runs a user's reward functions in a process of their own, with a deadline for each call.

The hard idea: the function keeps its signature, so nothing else knows. Arguments go to the process as JSON and the scores come back as
JSON; `log_extra` and `log_metric` are recorded over there and repeated here. A call that is late is an error that names the function (the
rubric adds the row); the process is then killed with all that it started, and the next call gets a new one. A process that eats half of
the machine's memory gets a MemoryError; what it prints is passed on up to a limit.

Left out: functions that exist in Python only (a process cannot be given them), `async` functions (which have deadlines of their own), and
protection from a function that means harm: it can read what you can.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from heron.errors import ConfigError, RewardError
from heron.rewards.calling import name_of
from heron.rewards.scores import is_list, listed, plain
from heron.rewards.watching import TrainerState, plain_extras
from heron.rewards.workers import Pool, WorkerLost
from heron.types import Tags
from heron.userfile import load_attribute

Function = Callable[..., Any]

RECORDERS = ("log_extra", "log_metric")
_OURS: Mapping[type, str] = {Tags: "tags", TrainerState: "trainer_state"}
"""What is no JSON by itself."""


def isolated(function: Function, file: str, *, seconds: float) -> Function:
    """`function`, which is `file` (`rewards.py:correct`), as one that runs elsewhere, for at most so long a call."""
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"rewards.timeout is set, but {file} is async. Give what it awaits a deadline with asyncio.timeout instead, "
                          "and leave rewards.timeout out.")
    pool = Pool("heron.rewards.isolating:serve", argument=os.path.abspath(file), size=1, memory_bytes=_half_of_memory(), is_pure=False)

    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        recorders = {name: arguments.pop(name) for name in RECORDERS if name in arguments}
        try:
            said = pool.ask({"arguments": _plain(arguments, file), "recorders": list(recorders)}, seconds=seconds)
        except WorkerLost as lost:
            raise RewardError(f"no answer: {lost} (rewards.timeout = {seconds:g} seconds)") from lost
        if said["raised"]:
            raise RewardError(said["raised"])
        _repeat(said["recorded"], recorders)
        return said["returned"]

    return call


def serve(file: str) -> Callable[[Any], Any]:
    """What the process does with a request."""
    function = load_attribute(file, purpose="a reward function")

    def answer(request: Mapping[str, Any]) -> Any:
        import traceback

        arguments = {name: _restored(value) for name, value in request["arguments"].items()}
        recorders, recorded = request["recorders"], list[Any]()

        def log_extra(column: str, values: Any) -> None:
            recorded.append(["log_extra", str(column), plain_extras(values)])

        def log_metric(name: str, value: Any) -> None:
            recorded.append(["log_metric", str(name), _scores(value, name)])

        arguments |= {name: recorder for name, recorder in (("log_extra", log_extra), ("log_metric", log_metric)) if name in recorders}
        try:
            returned = _scores(function(**arguments), name_of(function))
        except BaseException as error:  # boundary: the other process waits for an answer, and is given the error instead
            return {"raised": "".join(traceback.format_exception(error)).strip()}
        return {"raised": None, "returned": returned, "recorded": recorded}

    return answer


def _plain(arguments: Mapping[str, Any], file: str) -> dict[str, Any]:
    """As JSON can say it."""
    sent = {name: {_OURS.get(type(value), "value"): asdict(value) if type(value) in _OURS else value} for name, value in arguments.items()}
    try:
        json.dumps(sent)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"rewards.timeout is set, but the arguments of {file} cannot be sent to another process: {error}. "
                          "Let it ask for columns of text, numbers and lists only, or leave rewards.timeout out.") from error
    return sent


def _restored(sent: Mapping[str, Any]) -> Any:
    for kind, name in _OURS.items():
        if name in sent:
            return kind(**sent[name])
    return sent["value"]


def _repeat(recorded: list[Any], recorders: Mapping[str, Callable[..., None]]) -> None:
    for name, *given in recorded:
        recorders[name](*given)


def _scores(returned: Any, name: str) -> Any:
    """What JSON has a word for, to be checked by who asked; numbers of other libraries are made plain as they would be there."""
    value = plain(listed(returned))
    if is_list(value):
        return [_scores(each, name) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} returned {value!r:.100}, a {type(value).__name__}, which is not a number")


def _half_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
