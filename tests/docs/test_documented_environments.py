"""docs/environments.md says what is there: its tables are those of the code, its recipe trains."""

from __future__ import annotations

import re
from pathlib import Path

import heron
from heron.config.environment import EnvironmentConfig
from heron.data.gym import NUMBERS, TEXTS
from heron.data.tasks import TASKS
from heron.environments import Guess, Moves, ToolUse, make_environment
from heron.environments.making import NAMES
from heron.environments.shipped_tools import SHIPPED
from heron.rewards import verifiers
from heron.types import Tags

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "environments.md").read_text()


def test_every_environment_has_its_row_and_its_turns() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| .* \| (\d+) \|$", PAGE, re.MULTILINE))
    assert tuple(told) == NAMES
    for name, turns in told.items():
        tools = tuple(SHIPPED) if name == "tool_use" else ()
        made = make_environment(EnvironmentConfig(name=name, tools=tools), Tags(), verifier=verifiers["number"])
        assert made.max_turns == int(turns)


def test_every_reward_of_an_environment_is_named() -> None:
    brought = {name for made in (Guess(Tags()), Moves(Tags()), ToolUse(Tags(), [])) for name in made.rewards}
    assert set(re.findall(r"^\| `environment\.(\w+)`", PAGE, re.MULTILINE)) - {"name"} == brought  # the name is the head of a table


def test_every_task_has_its_row_and_its_verifier() -> None:
    told = dict(re.findall(r"^\| `tasks\.(\w+)` \| .* \| `(\w+)` \|$", PAGE, re.MULTILINE))
    assert told == {name: task.verifier for name, task in TASKS.items()}


def test_every_generator_stands_beside_its_verifier() -> None:
    for verifier, names in (("number", NUMBERS), ("exact", TEXTS)):
        listed = re.search(rf'^- `evaluation\.verifier = "{verifier}"`: (.*?)\n(?:- |\n)', PAGE, re.MULTILINE | re.DOTALL)
        assert listed is not None and tuple(re.findall(r"`(\w+)`", listed[1])) == names


def test_recipe_plays_and_measures_whole_games(tmp_path: Path) -> None:
    """Prevents: a shipped recipe whose warm-up, game, rewards and evaluation do not fit together."""
    run = heron.train(
        "guess", run_dir=tmp_path / "run", quiet=True, data={"limit": 40}, warmup={"steps": 2, "demonstrations": 40},
        train={"max_steps": 1, "prompts_per_step": 2, "save_steps": 0}, rollout={"num_generations": 2},
        evaluation={"size": 4, "samples": 1},
    )
    assert run.summary["evaluation"]["before"]["problems"] == 4
    assert set(run.rollouts(1)[0]["rewards"]) == {"environment.solved", "environment.sense"}
