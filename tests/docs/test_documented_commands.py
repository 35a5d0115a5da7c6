"""What the documents tell a reader to type must work: every `heron` command is run, made small.

In blocks, fenced or indented, and as inline code, unless that holds a placeholder: a word in capitals, such as RUN, or dots. A command
whose comment says `exit code 3` must end with that one. Where a page means the embedded model, a tiny one stands in for it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from heron.cli.main import app
from tests.docs.documents import COMMAND, PAGES, PLACEHOLDER, shell_lines
from tests.docs.workplace import SMALL

SMALL_WARMUP = ["--warmup.steps=2", "--warmup.demonstrations=40", "--data.limit=40"]
WARMED_UP = ("guess",)
"""Shipped recipes with a warm-up on problems that are made as they are needed."""
FILLED_IN = {"RECIPE": "my-recipe.toml", "FOLDER": "path/to/gsm8k"}
"""What a reader writes in the place of a word in capitals, in a block."""
SERVES_FOREVER = ("ui", "serve")
ASKS_THE_MODEL = ("train", "check")
MAKES = {"train": "--run-dir", "warmup": "--out"}


def commands() -> list[str]:
    """Every line of a block that calls Heron, and inline code that does so and names no placeholder."""
    found = (COMMAND.match(line.partition("#")[0].strip()) for line in shell_lines())
    return sorted({*(filled_in(match[1]) for match in found if match), *inline_commands()})


def filled_in(command: str) -> str:
    return PLACEHOLDER.sub(lambda word: FILLED_IN.get(word.group(), word.group()), command)


def exit_codes() -> dict[str, int]:
    """By command, where a comment says one."""
    found = (re.match(r"(heron .*?)\s+#.*\bexit code (\d+)", line) for line in shell_lines())
    return {match[1]: int(match[2]) for match in found if match}


def inline_commands() -> list[str]:
    """Commands within sentences; they may go on in the next line."""
    sentences = [re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL) for page in PAGES]
    found = [" ".join(command.split()) for text in sentences for command in re.findall(r"`(heron [^`]+)`", text)]
    return [command for command in found if command.startswith("heron ") and "..." not in command and not PLACEHOLDER.search(command)]


def small_options(words: list[str], expected: int) -> list[str]:
    """That make a command small, and give it a model where it names none. An untrained one is asked where it is to be refused alone."""
    names_one = any(word.startswith(("--model.name", "--from")) or word.endswith(".toml") for word in words)
    options = [] if names_one else ["--model.name=path/or/id"]
    if words[0] == "check":
        return [*options, "--rollout.max_completion_length=8", *(["--prompts=2", "--samples=2"] if expected else ["--no-probe"])]
    return [*options, *small_settings(), *(SMALL_WARMUP if words[1:2] and words[1] in WARMED_UP else [])]


def small_settings() -> list[str]:
    return [f"--{section}.{key}={json.dumps(value)}" for section, values in SMALL.items() for key, value in values.items()]


@pytest.mark.parametrize("command", commands())
def test_command_in_the_documents_runs(command: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: documents that name a verb, an option or a file that no longer exists."""
    monkeypatch.chdir(workplace)
    words = shlex.split(command)[1:]
    if "gguf" in words:
        pytest.importorskip("gguf")
    if words[0] in SERVES_FOREVER:
        words.append("--help")
    expected = exit_codes().get(command, 0)
    if words[0] in ASKS_THE_MODEL:
        words += small_options(words, expected)
    if (option := MAKES.get(words[0])) in words:  # a folder that other commands name, which may come before this one
        shutil.rmtree(words[words.index(option) + 1], ignore_errors=True)
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == expected, result.output


def test_documents_name_commands_at_all() -> None:
    """Prevents: the test above passing because nothing was found, or only what stands in a fence."""
    assert len(commands()) >= 100 and "heron doctor" in inline_commands()
    for command in ("heron doctor outputs/run-1", "heron train our.toml --seed 1 --run-dir runs/seed-1",
                    "heron reward attack my-recipe.toml --rows 20", "heron check --data.dataset=docs/howto/minutes/minutes.jsonl"):
        assert command in commands()
    assert [command for command in commands() if PLACEHOLDER.search(command)] == []


def test_every_link_between_documents_leads_somewhere() -> None:
    """Prevents: a link to a page or picture that was moved."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"
