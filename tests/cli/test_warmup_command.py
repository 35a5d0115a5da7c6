"""`heron warmup` as it is typed: what it writes, what it says, and that the command which it prints works."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from heron.cli import main
from heron.config import load_config
from heron.errors import ConfigError, HeronError, RunError
from heron.run import Run
from heron.training import supervised
from heron.training import warmup as module


@pytest.fixture
def recipe(tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with a section on the warm-up, in the folder where the commands are run."""
    rows = [{"question": f"What is {n} + {n}?", "answer": f"{n}+{n}={2 * n}\n#### {2 * n}"} for n in range(10, 40)]
    (tmp_path / "my rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "mine.toml"
    path.write_text(
        f'recipe = "arithmetic"\n[model]\nname = "{tiny_folder("qwen3")}"\ndevice = "cpu"\n'
        '[warmup]\ndataset = "my rows.jsonl"\nformat = "gsm8k"\nepochs = 2\nbatch_size = 4\nlearning_rate = 1e-2\n'
        '[train]\nmax_steps = 1\nprompts_per_step = 2\n[rollout]\nnum_generations = 2\nmax_completion_length = 8\n[evaluation]\nsize = 4\n'
    )
    monkeypatch.chdir(tmp_path)
    return path


def run_command(*words: str) -> Result:
    return CliRunner().invoke(main.app, words)


def printed_command(result: Result) -> list[str]:
    line = next(line for line in result.stdout.splitlines() if line.strip().startswith("heron train"))
    return shlex.split(line)[1:]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_writes_a_start_and_says_how_to_go_on(recipe: Path, method: str) -> None:
    """Prevents: a printed command that warms up again, drops what was set, or is refused."""
    settings = (f"--model.method={method}", "--train.learning_rate=3e-4", '--rewards.functions=["arithmetic.number_right"]')
    result = run_command("warmup", str(recipe), "--out", "my start", *settings)
    assert result.exit_code == 0, result.output
    said = re.search(r"Warmed up on 24 demonstrations in 12 steps; loss on 6 that were set aside: (\S+) before, (\S+) after", result.stdout)
    assert said is not None and float(said[2]) < float(said[1]) - 0.5
    assert (Path("my start") / ("adapter_config.json" if method == "lora" else "config.json")).is_file()
    assert (Path("my start") / "tokenizer_config.json").is_file() and (Path("my start") / "chat_template.jinja").is_file()
    gone_on = run_command(*printed_command(result), "--run-dir", "run")
    assert gone_on.exit_code == 0, gone_on.output
    run = Run(Path("run"))
    config = load_config(run.path / "config.toml")
    assert config.warmup.dataset is None and "warmup" not in run.manifest
    assert (config.train.learning_rate, config.model.method) == (3e-4, method) and config.rewards.functions == ("arithmetic.number_right",)
    start = config.model.adapter if method == "lora" else run.manifest["start_model"]
    assert Path(str(start)) == Path("my start").resolve()


def test_ctrl_c_ends_with_what_there_is(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: an hour of warm-up that is lost, or one that passes for whole."""
    step = supervised._step

    def interrupted(*arguments: Any) -> None:
        step(*arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(supervised, "_step", interrupted)
    result = run_command("warmup", str(recipe), "--out", "start")
    assert result.exit_code == 130
    assert "in 1 steps of 12 (interrupted)" in result.stdout and printed_command(result)
    assert (Path("start") / "model.safetensors").is_file()


def test_ctrl_c_before_there_is_anything(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: an empty folder that looks like a start."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "samples_of", interrupted)
    result = run_command("warmup", str(recipe), "--out", "start")
    assert result.exit_code == 130 and "Interrupted" in result.stderr and not Path("start").exists()


@pytest.mark.parametrize(("words", "kind", "message"), [
    (("warmup", "--out", "start"), ConfigError, "no demonstrations to warm up on"),
    (("warmup", "--out", ".", "--warmup.dataset=arithmetic"), RunError, "is there already"),
    (("warmup", "--out", "start", "--warmup.epocs=2"), ConfigError, 'Did you mean "epochs"'),
])
def test_refusals(words: tuple[str, ...], kind: type[HeronError], message: str, recipe: Path) -> None:
    """Prevents: a minute of building the embedded model before the command says what is missing."""
    error = run_command(*words).exception
    assert isinstance(error, kind) and message in str(error)


def test_train_with_the_section_warms_up_by_itself(recipe: Path) -> None:
    """Prevents: a section of a recipe that only `heron warmup` reads."""
    result = run_command("train", str(recipe), "--run-dir", "run")
    assert result.exit_code == 0, result.output
    assert "Warmed up on 24 demonstrations" in result.stdout and (Path("run") / "start" / "config.json").is_file()
