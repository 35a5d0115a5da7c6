"""A run that begins with a warm-up: done once, and from then on it is the start, to whoever asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import logprobs, make_trainer, small_config, some_flat

import heron
from heron.config import Config, load_config
from heron.errors import ConfigError, DataError
from heron.export import export
from heron.inference import policy_at
from heron.models import load_policy
from heron.models.of_run import policy_of_run
from heron.rewards import resolve
from heron.run import Run
from heron.training import start as module
from heron.training.assemble import reassemble
from heron.training.start import warm_up_alone
from heron.training.trainer import Trainer
from heron.types import Tags

METHODS = ("full", "lora", "qlora")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    asked = [{"question": f"Say {number}.", "completion": f"<SOLUTION>{number}</SOLUTION>"} for number in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in asked))
    return path


@pytest.fixture
def settings(tiny_folder: Callable[[str], Path], rows: Path) -> Callable[..., Config]:
    def make(method: str, **sections: Mapping[str, Any]) -> Config:
        warmup = {"dataset": str(rows), "steps": 8, "batch_size": 4, "learning_rate": 1e-2}
        model = {"method": method} if method == "full" else {"method": method, "lora_rank": 4, "lora_alpha": 8}
        train = {"max_steps": 4, "save_steps": 2}
        base = {"warmup": warmup, "model": model, "train": train, "objective": {"beta": 0.1}}
        return small_config(
            tiny_folder("qwen3"), **{name: {**base.get(name, {}), **sections.get(name, {})} for name in {*base, *sections}}
        )

    return make


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(next(path.glob("*.safetensors")))


def equal(left: Path, right: Path) -> bool:
    a, b = weights(left), weights(right)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def cut_after(trainer: Trainer, steps: int) -> Path:
    """The run, interrupted behind a checkpoint."""
    for _ in range(steps):
        trainer.step()
    if steps:
        trainer._save()
    trainer.run.finish("interrupted", {})
    return trainer.run.path


@pytest.mark.parametrize("method", METHODS)
def test_a_kl_is_measured_from_the_warmed_start(settings: Callable[..., Config], tmp_path: Path, method: str) -> None:
    """Prevents: a KL that pulls the model back to what it was before the warm-up."""
    config = settings(method)
    raw = logprobs(load_policy(config.model, Tags(), without_adapter=True))
    trainer = make_trainer(config, tmp_path / "run")
    begun = logprobs(trainer.policy)
    assert float((begun - raw).abs().max()) > 0.1
    assert torch.allclose(logprobs(trainer.policy, of_reference=True), begun, atol=1e-5)
    trainer.step()
    trainer.step()
    assert float((logprobs(trainer.policy) - begun).abs().max()) > 1e-3
    assert torch.allclose(logprobs(trainer.policy, of_reference=True), begun, atol=1e-5)
    first = next(iter(Run(tmp_path / "run").metrics()))
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_is_the_run_without_a_pause(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, steps: int
) -> None:
    """Prevents: a second warm-up when a run is resumed, or one that goes on from the model before it."""
    whole = make_trainer(settings(method), tmp_path / "whole")
    whole.train()
    cut = cut_after(make_trainer(settings(method), tmp_path / "cut"), steps)
    monkeypatch.setattr(module, "warm_up", lambda *_, **__: pytest.fail("warmed up again"))
    resumed = reassemble(cut, rewards=resolve([some_flat]))
    resumed.train()
    assert equal(tmp_path / "whole" / "start", cut / "start")
    assert equal(tmp_path / "whole" / "model", cut / "model")
    assert not equal(cut / "start", cut / "model")
    assert torch.equal(logprobs(resumed.policy, of_reference=True), logprobs(whole.policy, of_reference=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_start_is_what_everybody_finds(settings: Callable[..., Config], tmp_path: Path, method: str) -> None:
    """Prevents: `--start`, chat, export and `heron.load` meaning the model before the warm-up."""
    trainer = make_trainer(settings(method), tmp_path / "run")
    begun = logprobs(trainer.policy)
    trainer.train()
    run = Run(tmp_path / "run")
    trained = logprobs(trainer.policy)
    assert torch.allclose(logprobs(policy_of_run(run, start=True)), begun, atol=1e-5)
    assert torch.allclose(logprobs(policy_of_run(run)), trained, atol=1e-5)
    assert torch.allclose(logprobs(policy_at(run.path, str(run.path), {})), trained, atol=1e-5)
    if method == "qlora":  # an adapter alone, and an export, are put on the base of 16 bits
        return
    assert torch.allclose(logprobs(policy_at(run.path / "start", str(run.path / "start"), {})), begun, atol=1e-5)
    exported = export(run.path, tmp_path / "exported", dtype="float32").folder
    assert torch.allclose(logprobs(policy_at(exported, str(exported), {})), trained, atol=1e-4)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_that_was_moved_finds_its_start(settings: Callable[..., Config], tmp_path: Path, method: str) -> None:
    """Prevents: a start that is looked for where the run once was, and a stranger's that is there now."""
    trainer = make_trainer(settings(method), tmp_path / "run")
    begun = logprobs(trainer.policy)
    trainer.train()
    (tmp_path / "run").rename(tmp_path / "moved")
    run = Run(tmp_path / "moved")
    assert torch.allclose(logprobs(policy_of_run(run, start=True)), begun, atol=1e-5)
    assert torch.allclose(logprobs(policy_at(run.path, str(run.path), {})), logprobs(trainer.policy), atol=1e-5)


def test_a_run_that_cannot_begin_leaves_no_start(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: a folder that is neither a run nor free for one, after a warm-up whose run was refused."""
    with pytest.raises(DataError):
        make_trainer(settings("full", rollout={"max_completion_length": 5000}), tmp_path / "run")
    assert not (tmp_path / "run" / "start").exists()
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / ".partial-of-a-killed-one").mkdir()
    make_trainer(settings("full"), tmp_path / "run").run.close()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_of_a_run_s_settings_is_not_warmed_up_twice(settings: Callable[..., Config], tmp_path: Path, method: str) -> None:
    """Prevents: a run started from another run's config.toml that warms up what is warm already."""
    make_trainer(settings(method), tmp_path / "one").run.close()
    make_trainer(load_config(tmp_path / "one" / "config.toml"), tmp_path / "two").run.close()
    starts = [logprobs(policy_of_run(Run(tmp_path / name), start=True)) for name in ("one", "two")]
    assert torch.equal(*starts)


def test_the_record_says_what_was_done(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: a table before and after whose "before" is taken for the model that was downloaded."""
    config = settings("full", evaluation={"size": 4, "samples": 0}, train={"max_steps": 1})
    make_trainer(config, tmp_path / "run").train()
    run = Run(tmp_path / "run")
    told = [event["text"] for event in run.events() if event["kind"] == "message"]
    assert any(text.startswith("Warmed up on 24 demonstrations in 8 steps; loss on 6 that were set aside: ") for text in told)
    assert any('the evaluation "before" and a KL are measured from it' in text for text in told)
    record = run.manifest["warmup"]
    assert record["after"] < record["before"] - 0.5 and record["settings"]["steps"] == 8
    assert run.manifest["start_model"] == str(tmp_path / "run" / "start") and run.manifest["model"] == config.model.name


def test_the_order_is_the_seed_s_alone(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: a warm-up that depends on what was drawn before it, or on how it was cut into micro-batches."""
    config = settings("lora")
    for name in ("one", "two"):
        torch.manual_seed(len(name))
        warm_up_alone(config, tmp_path / name)
    assert equal(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("optimizer", ["adafactor", "muon"])
def test_it_learns_with_the_run_s_optimizer(settings: Callable[..., Config], tmp_path: Path, optimizer: str) -> None:
    """Prevents: a schedule of betas that an optimizer without them cannot follow."""
    warmed = warm_up_alone(settings("full", train={"optimizer": optimizer}), tmp_path / "out")
    assert warmed.before is not None and warmed.after is not None and warmed.after < warmed.before - 0.3


def test_held_out_questions_are_not_demonstrated(settings: Callable[..., Config], tmp_path: Path, rows: Path) -> None:
    """Prevents: problems of the table before and after that were learnt in the warm-up, from the very file that they come from."""
    data = {"dataset": str(rows), "answer_column": "completion", "limit": None}
    trainer = make_trainer(settings("full", data=data, evaluation={"size": 5, "samples": 0, "verifier": "exact"}), tmp_path / "run")
    assert trainer.run.path == tmp_path / "run"
    assert Run(tmp_path / "run").manifest["warmup"]["dropped"] == 5


def test_settings_without_demonstrations_are_refused(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Prevents: a warm-up that somebody asked for and that never happens. Runs of before have written the old defaults out."""
    config = small_config(tiny_folder("qwen3"), warmup={"steps": 5})
    with pytest.raises(ConfigError, match=r"warmup.dataset is not given"):
        make_trainer(config, tmp_path / "run")
    with pytest.raises(ConfigError, match="There are no demonstrations to warm up on"):
        warm_up_alone(small_config(tiny_folder("qwen3")), tmp_path / "out")
    make_trainer(small_config(tiny_folder("qwen3"), warmup={"steps": 750, "learning_rate": 1.2e-3}), tmp_path / "old").run.close()


def test_a_failure_leaves_nothing(settings: Callable[..., Config], tmp_path: Path, rows: Path) -> None:
    """Prevents: half a start that is taken for a whole one, and a run folder that cannot be used again."""
    config = settings("full")
    text = rows.read_text()
    rows.write_text('{"question": "q", "completion": "' + "long" * 200 + '"}\n')
    with pytest.raises(DataError, match="longer than the model's context"):
        make_trainer(config, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())
    rows.write_text(text)
    make_trainer(config, tmp_path / "run").run.close()


def test_generated_demonstrations_for_any_model(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """`heron.warmup` from Python; the loss is that of the pupil's answers."""
    warmed = heron.warmup(
        out=tmp_path / "out", quiet=True, model={"name": str(tiny_folder("qwen3")), "device": "cpu"}, evaluation={"size": 0},
        warmup={"dataset": "arithmetic", "demonstrations": 40, "epochs": 2, "batch_size": 8, "learning_rate": 1e-2},
    )
    assert (warmed.steps, warmed.demonstrations, warmed.heldout) == (8, 32, 8)
    assert warmed.after is not None and warmed.before is not None and warmed.after < warmed.before
    policy = policy_at(warmed.folder, str(warmed.folder), {})
    assert policy.tokenizer.chat_template
