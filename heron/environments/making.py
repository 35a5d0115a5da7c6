"""From the config to an environment and to the reward functions, some of which may be the environment's own.

The hard idea: an environment knows best how it ended, so it brings reward functions with it; `environment.solved` in `rewards.functions`
means that of the environment that the run has.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, cast

from heron.config.environment import EnvironmentConfig
from heron.config.generated import VERIFIERS
from heron.environments.from_verifiers import FromVerifiers
from heron.environments.guess import Guess
from heron.environments.moves import Moves
from heron.environments.protocol import Environment, SingleTurn
from heron.environments.retry import Retry
from heron.environments.shipped_tools import find_tool, python_tool
from heron.environments.tool_use import ToolUse
from heron.errors import ConfigError, did_you_mean
from heron.rewards import Verifier, resolve
from heron.sandbox import backend_name
from heron.types import Tags
from heron.userfile import is_in_file, load_attribute

PREFIX = "environment."
FROM_PYTHON = "from_python"
"""The name of an environment that a program hands over, which a run cannot store."""
_GIVEN: ContextVar[Environment | None] = ContextVar("_GIVEN", default=None)
NAMES = ("single_turn", "retry", "tool_use", "python_tool", "guess", "moves")


def make_environment(config: EnvironmentConfig, tags: Tags, *, verifier: Verifier) -> Environment:
    """The environment that a config asks for; `verifier` is the evaluation's, which `retry` goes by."""
    if is_in_file(config.name):
        return _own(config, tags)
    if config.name == FROM_PYTHON:
        return _given()
    if config.name.startswith(VERIFIERS):
        return FromVerifiers(config.name)
    is_plain = config.tool_format == "plain"
    turns = {} if config.max_turns is None else {"max_turns": config.max_turns}
    makers: dict[str, Callable[[], Environment]] = {
        "single_turn": SingleTurn,
        "retry": functools.partial(Retry, tags, verifier=verifier, **turns),
        "tool_use": lambda: ToolUse(tags, [find_tool(name) for name in config.tools], is_plain=is_plain, **turns),
        "python_tool": lambda: ToolUse(tags, [python_tool(seconds=config.tool_timeout)], is_plain=is_plain, **turns),
        "guess": functools.partial(Guess, tags, **turns),
        "moves": functools.partial(Moves, tags, **turns),
    }
    if config.name not in makers:
        raise ConfigError(f"There is no environment {config.name!r}.{did_you_mean(config.name, NAMES)} There are {', '.join(NAMES)}; your "
                          "own is named by its file, as in game.py:make.")
    return makers[config.name]()


@contextlib.contextmanager
def given(environment: Environment | None) -> Iterator[None]:
    """Inside, the name `from_python` means this environment: for a program that makes one itself, and assembles a run around it."""
    token = _GIVEN.set(environment)
    try:
        yield
    finally:
        _GIVEN.reset(token)


def sandbox_of(environment: Environment) -> str | None:
    """In which it runs what a model wrote; None if it runs nothing (it has no `runs_programs`). Without one there is a SandboxError."""
    return backend_name() if getattr(environment, "runs_programs", False) else None


def resolve_rewards(
    functions: Sequence[Any], weights: Sequence[float], environment: Environment, *, timeout: float = 0.0
) -> list[tuple[Callable[..., Any], float]]:
    """As `heron.rewards.resolve`, and `environment.NAME` besides."""
    if weights and len(weights) != len(functions):
        raise ConfigError(f"There are {len(weights)} weights for {len(functions)} reward functions. Give one each.")
    found: list[tuple[Callable[..., Any], float]] = []
    for function, weight in zip(functions, weights or [1.0] * len(functions), strict=True):
        if isinstance(function, str) and function.startswith(PREFIX):
            found.append((_named(function, environment), weight))
        else:
            found += resolve([function], [weight], timeout=timeout)
    return found


def _given() -> Environment:
    environment = _GIVEN.get()
    if environment is None:
        raise ConfigError(f"The environment {FROM_PYTHON!r} was handed over by a program, and a run cannot store it. Go on with that "
                          "program, or write the environment into a file and name it, as in game.py:make.")
    return environment


def _named(name: str, environment: Environment) -> Callable[..., Any]:
    short, has = name.removeprefix(PREFIX), environment.rewards
    if short not in has:
        there = f"It has {', '.join(PREFIX + known for known in has)}." if has else "It has none: score the answer with other functions."
        raise ConfigError(f"The environment {type(environment).__name__} has no reward {name!r}.{did_you_mean(short, has)} {there}")

    @functools.wraps(has[short])
    def scored(**arguments: Any) -> Any:
        return has[short](**arguments)

    scored.__name__ = name
    return scored


def _own(config: EnvironmentConfig, tags: Tags) -> Environment:
    """What `file.py:make` makes of the tags; it says itself how many turns it has."""
    if config.max_turns is not None:
        raise ConfigError(f"environment.max_turns is {config.max_turns}, but {config.name} is your own environment, which says itself how "
                          "many turns it has. Leave it out.")
    made = load_attribute(config.name, purpose="an environment")(tags)
    wanted = ("max_turns", "tools", "rewards", "uses_verifier", "start", "done", "step", "verdict")
    missing = [name for name in wanted if not hasattr(made, name)]
    if missing:
        raise ConfigError(f"{config.name} made {made!r}, which has no {', '.join(missing)}. heron.environments.Environment says what each "
                          "is.")
    return cast(Environment, made)
