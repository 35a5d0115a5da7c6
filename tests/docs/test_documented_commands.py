"""What the documents tell a reader to type must work: every `heron` command and every Python block is run, made small.

Inline code counts, too, unless it holds a placeholder: a word in capitals, such as RUN, or dots. A command whose comment says
`exit code 3` must end with that one. Where a page means the embedded model, a tiny one stands in for it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import save_tiny
from typer.testing import CliRunner

import heron
from heron.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
SMALL = {
    "train": {"max_steps": 1, "prompts_per_step": 2, "save_steps": 0},
    "rollout": {"num_generations": 2, "max_completion_length": 8},
    "evaluation": {"size": 2, "samples": 1},
}
SERVES_FOREVER = ("ui", "serve")
ASKS_THE_MODEL = ("train", "check")
MAKES = {"train": "--run-dir", "warmup": "--out"}
HOW_TO = [page for page in PAGES if page.parent.name == "howto"]
"""Their blocks go on from each other: test_documented_howto.py."""


def blocks(language: str, pages: Sequence[Path] = tuple(PAGES)) -> list[str]:
    """Fenced blocks of one language in these pages."""
    return [block for page in pages for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)]


def commands() -> list[str]:
    """Every line that starts with `heron`, in shell blocks, and as inline code where it names no placeholder."""
    lines = [line.partition("#")[0].strip() for line in shell_lines()]
    return sorted({line for line in [*lines, *inline_commands()] if line.startswith("heron ")})


def shell_lines() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


def exit_codes() -> dict[str, int]:
    """By command, where a comment says one."""
    found = (re.match(r"(heron .*?)\s+#.*\bexit code (\d+)", line) for line in shell_lines())
    return {match[1]: int(match[2]) for match in found if match}


def inline_commands() -> list[str]:
    """Commands within sentences; they may go on in the next line."""
    sentences = [re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL) for page in PAGES]
    found = [" ".join(command.split()) for text in sentences for command in re.findall(r"`(heron [^`]+)`", text)]
    return [command for command in found if "..." not in command and not re.search(r"(?<![\w/.-])[A-Z]+(?![\w/.-])", command)]


def small_options(words: list[str], expected: int) -> list[str]:
    """That make a command small, and give it a model where it names none. An untrained one is asked where it is to be refused alone."""
    names_one = any(word.startswith(("--model.name", "--from")) or word.endswith(".toml") for word in words)
    options = [] if names_one else ["--model.name=path/or/id"]
    if words[0] == "check":
        return [*options, "--rollout.max_completion_length=8", *(["--prompts=2", "--samples=2"] if expected else ["--no-probe"])]
    return [*options, *small_settings()]


def small_settings() -> list[str]:
    return [f"--{section}.{key}={json.dumps(value)}" for section, values in SMALL.items() for key, value in values.items()]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> Path:
    """A folder with everything that the documents name: a model, data, a recipe, reward functions, and a finished run."""
    folder = tmp_path_factory.mktemp("reader")
    small_model = tiny_folder("qwen3")
    for name in ("path/or/id", "Qwen/Qwen3-0.6B"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(small_model)
    save_tiny("qwen3", folder / "Qwen" / "Qwen3-4B-Base", max_position_embeddings=4096)  # room for the answers of its recipe
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "email-replies.jsonl", folder / "docs")
    shutil.copytree(ROOT / "docs" / "learn", folder / "docs" / "learn")
    rows = [{"question": f"What is {n} + 1?", "answer": f"One more than {n} is {n + 1}.\n#### {n + 1}"} for n in range(12)]
    for name in ("path/to/gsm8k/train.jsonl", "path/to/gsm8k/test.jsonl", "my/problems.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in (rows[:8] if "test" not in name else rows[8:])))
    (folder / "train_grpo.py").write_text("from trl import GRPOConfig, GRPOTrainer\nargs = GRPOConfig(learning_rate=1e-6)\n")
    (folder / "grpo_config.yaml").write_text("model_name_or_path: Qwen/Qwen3-0.6B\nmax_steps: 10\n")
    (recipe,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "reference" / "settings.md").read_text(), re.DOTALL)
    recipe += '\n[model]\nname = "path/or/id"\n'
    (folder / "my-recipe.toml").write_text(recipe)
    write_files_of_how_to(folder)
    torch.set_num_threads(1)
    heron.train(model=str(small_model), run_dir=folder / "runs" / "first", quiet=True, **SMALL)
    for name in ("minutes", "mine", "losses/dapo-0"):
        shutil.copytree(folder / "runs" / "first", folder / "runs" / name)
    return folder


def write_files_of_how_to(folder: Path) -> None:
    """The files that the how-to pages show, and those that lie beside them, with a small model in the place of the embedded one."""
    shutil.copytree(ROOT / "docs" / "howto", folder / "docs" / "howto")
    for language in ("python", "toml"):
        for block in blocks(language, HOW_TO):
            if named := re.match(r"# (\S+\.(?:py|toml))\n", block):
                (folder / named[1]).write_text(block)
    for recipe in (*folder.glob("*.toml"), *folder.glob("docs/howto/*/*.toml")):
        text = re.sub(r"(?m)^steps = .*", "steps = 2", recipe.read_text().replace('name = "embedded"', 'name = "path/or/id"'))
        recipe.write_text(text if "[model]" in text else text + '\n[model]\nname = "path/or/id"\n')


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


@pytest.mark.parametrize("block", [block for block in blocks("python", [*set(PAGES) - set(HOW_TO)]) if "heron.train" in block])
def test_python_in_the_documents_runs(block: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prevents: an example that a reader pastes and that does not work."""
    monkeypatch.chdir(workplace)
    train: Callable[..., Any] = heron.train

    def small_train(*args: Any, **kwargs: Any) -> Any:
        data = workplace / "path" / "to" / "gsm8k"
        return train(*args, run_dir=tmp_path / "run", quiet=True, data=str(data), **SMALL, **kwargs)

    monkeypatch.setattr(heron, "train", small_train, raising=False)
    exec(compile(block, "<documents>", "exec"), {})


def test_documents_name_commands_at_all() -> None:
    """Prevents: the two tests above passing because nothing was found."""
    assert len(commands()) >= 8 and "heron doctor" in inline_commands()
    assert not any("RUN" in command for command in commands())
    assert any("heron.train" in block for block in blocks("python"))


def test_every_link_between_documents_leads_somewhere() -> None:
    """Prevents: a link to a page or picture that was moved."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"
