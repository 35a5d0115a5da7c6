"""What the comments of the recipes tell a reader to type: a training as its plan, with the same words; other verbs as they are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from heron.cli.main import app
from heron.config import load_config
from heron.config.overrides import parse_overrides

FOLDER = Path(__file__).resolve().parents[2]
RECIPES = sorted((FOLDER / "heron" / "config" / "recipes").glob("*.toml"))
PLACEHOLDERS = {"FILE.jsonl": "docs/email-replies.jsonl"}
ASKS_A_SERVER = ["reward", "attack", "judge"]


def commands() -> list[tuple[str, str]]:
    """By recipe: whole commands, and options alone, which go with a training by that recipe."""
    lines = [(path.stem, line[1:].strip()) for path in RECIPES for line in path.read_text().splitlines() if line.startswith("#")]
    whole = [(name, match[1]) for name, line in lines if (match := re.search(r"(?:^`?|: |`)(heron [^`]+)", line))]
    options = [(name, match[0]) for name, line in lines if "heron " not in line and (match := re.search(r"--[a-z]+\.[a-z_]+=.*", line))]
    return whole + [(name, f"heron train {name} {given}") for name, given in options]


@pytest.mark.parametrize(("recipe", "command"), commands())
def test_a_command_in_a_comment_runs(recipe: str, command: str, monkeypatch: pytest.MonkeyPatch, no_network: list[str]) -> None:
    """Prevents: an example in a recipe that is an error when it is typed."""
    monkeypatch.chdir(FOLDER)
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)[1:]]
    words = ["plan", *words[1:]] if words[0] == "train" else [*words, "--help"] if words == ASKS_A_SERVER else words
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_the_other_language_has_the_weights_of_the_first() -> None:
    """Prevents: an example that runs, and leaves a reward out."""
    (command,) = (command for recipe, command in commands() if "language.speaks" in command)
    functions = load_config("deepseek-r1-qwen3-8b", parse_overrides(shlex.split(command)[3:])).rewards.functions
    assert functions == tuple(each.replace('"id"', '"de"') for each in load_config("deepseek-r1-qwen3-8b").rewards.functions)


def test_comments_hold_commands_at_all() -> None:
    """Prevents: the tests above passing because nothing was found."""
    assert {recipe for recipe, _ in commands()} >= {"deepseek-r1-qwen3-8b", "email", "gsm8k", "judge", "qwen3-4b"}
