"""The how-to pages: their Python runs, block after block as a reader would, and what they show is what is there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import heron
from heron.cli.main import app
from heron.compat.trl import GRPOTrainer
from tests.docs.documents import ROOT, blocks_of, python_of

FOLDER = ROOT / "docs" / "howto"
PAGES = sorted(FOLDER.glob("*.md"))
FILE = re.compile(r"# (\S+\.(?:py|toml))\n")
SMALL: dict[str, dict[str, Any]] = {
    "train": {"max_steps": 2, "prompts_per_step": 2, "save_steps": 0, "num_threads": 1},
    "rollout": {"num_generations": 4, "max_completion_length": 12},
    "evaluation": {"size": 2, "samples": 1},
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[[str], Path]) -> Path:
    """A working directory, where `heron.train` is small and the embedded model is a tiny random one."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    train, model = heron.train, str(tiny_folder("qwen3"))

    def small_train(recipe: Any = None, **given: Any) -> Any:
        sections = {name: {**given.pop(name, {}), **values} for name, values in SMALL.items()}
        named = {} if str(recipe).endswith(".toml") else {"model": model}
        return train(recipe, **named, **given, **sections)

    def small_trainer(trainer: Any, *, model: str, **given: Any) -> None:
        assert model == "embedded"
        made(trainer, model=str(tiny_folder("qwen3")), **given)

    made = GRPOTrainer.__init__
    monkeypatch.setattr(heron, "train", small_train, raising=False)
    monkeypatch.setattr(GRPOTrainer, "__init__", small_trainer)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page)], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path, desk: Path) -> None:
    """Prevents: an example that a reader pastes and that does not work, or that needs what no block before it made."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in python_of(page):
        if named := FILE.match(block.text):
            (desk / named[1]).write_text(block.text)
        else:
            exec(compile(block.text, block.name, "exec"), namespace)


def test_the_reward_functions_of_the_laptop_page_pay_what_they_say(desk: Path) -> None:
    """Prevents: a first reward function of a newcomer that pays for something else."""
    (block,) = (block for block in blocks_of("python", [FOLDER / "laptop.md"]) if block.startswith("# my_rewards.py"))
    (desk / "my_rewards.py").write_text(block)
    bare, brief = heron.rewards.load_functions("my_rewards.py")
    tags = heron.types.Tags()
    said = [f"{tags.solution_start}{text}{tags.solution_end}" for text in ("843", "843.0", "= 843")]
    assert [bare(completion=text, tags=tags) for text in [*said, "843"]] == [1, 0, 0, 0]
    assert brief(completion="x" * 40) == pytest.approx(-0.4)


def test_the_table_of_the_email_page_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: figures on the page that the rules no longer pay."""
    monkeypatch.chdir(ROOT)
    printed = CliRunner().invoke(app, ["reward", "table", "email", "docs/email-replies.jsonl"]).output
    figures = {words[0]: words[-7:] for line in printed.splitlines() if len(words := line.split()) >= 8}
    shown = re.findall(r"^ {4} *(\d+|mean) .*$", (FOLDER / "email.md").read_text(encoding="utf-8"), re.MULTILINE)
    lines = [line.split() for line in (FOLDER / "email.md").read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
    told = {words[0]: words[-7:] for words in lines if words and words[0] in shown}
    assert len(told) == 6 and {name: figures[name] for name in told} == told


def test_the_rows_of_the_own_data_page_are_those_that_its_block_makes(desk: Path) -> None:
    """Prevents: files that differ from the few lines which say how they were made."""
    (block,) = (block for block in blocks_of("python", [FOLDER / "own-data.md"]) if "minutes.jsonl" in block)
    exec(compile(block, "<own-data.md>", "exec"), {})
    for name in ("minutes.jsonl", "shown.jsonl"):
        assert (desk / name).read_text() == (FOLDER / "minutes" / name).read_text()
    rows = [json.loads(line) for line in (desk / "minutes.jsonl").read_text().splitlines()]
    assert len({row["question"] for row in rows}) == len(rows) == 720


def test_the_journey_takes_fewer_than_ten_commands() -> None:
    """Prevents: a page that promises few commands and asks for many."""
    page = (FOLDER / "own-data.md").read_text(encoding="utf-8")
    journey = page.partition("## The nine commands")[2].partition("\n## ")[0]
    commands = re.findall(r"^(?: {4})?(?:heron|make|git|source) ", journey, re.MULTILINE)
    assert 5 <= len(commands) < 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_nothing_is_left_to_be_filled_in(page: Path) -> None:
    """Prevents: the placeholder of an output that was never run."""
    assert re.findall(r"^(?:[A-Z]+_[A-Z_]+|TODO.*)$", page.read_text(encoding="utf-8"), re.MULTILINE) == []
