"""A run that lies on disk: measured on problems that it never saw, from any folder, also before it has ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import heron
from heron.config import load_config
from heron.errors import ConfigError, DataError, RunError
from heron.run import Run
from heron.training.assemble import assemble
from heron.training.held_out import evaluator_of_run

SMALL = {
    "rollout": {"num_generations": 2, "max_completion_length": 4},
    "train": {"max_steps": 20, "prompts_per_step": 2, "save_steps": 1}, "evaluation": {"size": 4, "samples": 1},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows and a reward file, which are named relative to it."""
    rows = [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.py").write_text("def short(completion):\n    return -len(completion) / 10\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(model: Path, **sections: object) -> Run:
    return heron.train(model=model, data="rows.jsonl", rewards=["mine.py:short"], run_dir="run", quiet=True, **(SMALL | sections))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [2, 4, 6])
def test_no_evaluated_problem_was_trained_on(tiny_folder: Callable[[str], Path], place: Path, size: int) -> None:
    """Prevents: `heron eval --size` that draws the held-out rows anew, and measures memory."""
    run = train(tiny_folder("qwen3"))
    trained = {row["question"] for step in run.rollout_steps() for row in run.rollouts(step)}
    assert len(trained) == 36
    try:
        prompts = evaluator_of_run(run, start=False, size=size, samples=0).prompts
    except DataError as error:
        assert size > 4 and "was not trained on" in str(error)
    else:
        assert len(prompts) == size
        assert not trained & {prompt.question for prompt in prompts}


def test_run_that_was_never_evaluated_has_nothing_to_be_measured_on(tiny_folder: Callable[[str], Path], place: Path) -> None:
    run = train(tiny_folder("qwen3"), evaluation={"size": 0})
    with pytest.raises(DataError, match="was not trained on"):
        heron.evaluate(run.path, size=8)


def test_moved_run_is_measured_and_resumed_from_elsewhere(
    tiny_folder: Callable[[str], Path], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: relative names of data and reward files that mean something else in another folder."""
    train(tiny_folder("qwen3"))
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree("run", elsewhere / "moved")
    monkeypatch.chdir(elsewhere)
    _, totals = heron.evaluate("moved", size=2)
    assert totals["problems"] == 2


def test_run_without_a_model_answers_from_its_checkpoint(tiny_folder: Callable[[str], Path], place: Path) -> None:
    """Prevents: a live or killed run that cannot be asked anything although a checkpoint lies there."""
    run = train(tiny_folder("qwen3"))
    shutil.rmtree(run.path / "model")
    assert isinstance(heron.chat(run.path, "What is 1 + 1?", max_tokens=3), str)
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(RunError, match="no checkpoint"):
        heron.chat(run.path, "What is 1 + 1?", max_tokens=3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rewards": len}, r"rewards=\[\.\.\.\]"), ({"rewards": [(len, 1.0, 2)]}, "is not a reward"),
        ({"rewards": "gsm8k.integer"}, "must be a list"),
        ({"datset": "x"}, 'Did you mean "data'), ({"train": 3}, "must be a mapping"),
    ],
)
def test_arguments_of_the_wrong_kind(arguments: dict[str, object], said: str, tmp_path: Path) -> None:
    """Prevents: Python's own errors from the inside, where a word about the argument would do."""
    with pytest.raises(ConfigError, match=said):
        heron.train(run_dir=tmp_path / "run", quiet=True, **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Prevents: minutes of warm-up before the first write fails."""
    with pytest.raises(RunError, match="Choose another --run-dir"):
        assemble(load_config("arithmetic"), Path("/proc/heron/run"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="is a file"):
        assemble(load_config("arithmetic"), tmp_path / "file")


def test_threads_are_given_back(tiny_folder: Callable[[str], Path], place: Path) -> None:
    """Prevents: a notebook that is slow ever after, since a run asked for one thread."""
    import torch

    torch.set_num_threads(2)
    run = train(tiny_folder("qwen3"), train={"max_steps": 1, "prompts_per_step": 2, "num_threads": 1})
    assert run.manifest["threads"] == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
