"""A new run that begins with the model of another one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import cut_after, logprobs, make_trainer, small_config, some_flat
from typer.testing import CliRunner

import heron
from heron.api import config_from
from heron.cli.main import app
from heron.config import Config
from heron.errors import ConfigError, RunError
from heron.export import export
from heron.inference import policy_at
from heron.models.of_run import policy_of_run
from heron.rewards import resolve
from heron.run import Run
from heron.training.assemble import assemble, reassemble
from heron.training.trainer import Trainer

LORA = {"method": "lora", "lora_rank": 4}
METHODS: dict[str, dict[str, Any]] = {"full": {}, "lora": LORA}


def letters(completion: str) -> float:
    return sum(letter in "aeiou" for letter in completion) / 5


@pytest.fixture
def settings(tiny_folder: Callable[[str], Path]) -> Callable[..., Config]:
    def make(method: str, **sections: Mapping[str, Any]) -> Config:
        return small_config(tiny_folder("qwen3"), **{
            "model": {"name": str(tiny_folder("qwen3")), "device": "cpu", **METHODS[method]}, "train": {"max_steps": 2, "save_steps": 1},
            **sections})

    return make


def trained(config: Config, path: Path) -> Run:
    make_trainer(config, path).train()
    return Run(path)


def heir(run: Run, path: Path, rewards: Any = (some_flat,), **sections: Mapping[str, Any]) -> Trainer:
    return assemble(config_from(run.path, None, sections), path, rewards=resolve(list(rewards)), start_from=run.path)


def weights(policy: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in policy.trainable()}


def equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", METHODS)
def test_it_begins_where_the_other_ended(settings: Callable[..., Config], tmp_path: Path, method: str) -> None:
    """Prevents: a new adapter, or the model of before; a KL from there; a start that depends on a run which may be deleted."""
    run = trained(settings(method), tmp_path / "first")
    ended, model = logprobs(policy_of_run(run)), {path.name: path.read_bytes() for path in run.model_dir.glob("*.safetensors")}
    trainer = heir(run, tmp_path / "second", (letters,), objective={"beta": 0.05}, data={"limit": 30}, train={"max_steps": 3})
    shutil.rmtree(run.path)
    assert torch.equal(logprobs(trainer.policy), ended)
    trainer.train()
    second = Run(tmp_path / "second")
    assert float((logprobs(trainer.policy) - ended).abs().max()) > 1e-3
    assert torch.allclose(logprobs(trainer.policy, of_reference=True), ended, atol=1e-5), "its KL is measured from where it began"
    assert second.metrics()[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert torch.allclose(logprobs(policy_of_run(second, start=True)), ended, atol=1e-5)
    assert torch.allclose(logprobs(policy_of_run(second)), logprobs(trainer.policy), atol=1e-5)
    assert torch.allclose(logprobs(policy_at(second.path, str(second.path), {})), logprobs(trainer.policy), atol=1e-5)
    exported = export(second.path, tmp_path / "exported", dtype="float32").folder
    assert torch.allclose(logprobs(policy_at(exported, str(exported), {})), logprobs(trainer.policy), atol=1e-4)
    record = second.manifest["continued_from"]
    assert (record["name"], record["step"]) == ("first", 2) and record["sha256"].keys() == model.keys()
    assert {path.name: path.read_bytes() for path in (second.path / "start").glob("*.safetensors")} == model
    assert any("after 2 steps" in each["text"] for each in second.events("message"))
    assert second.settings["data"]["limit"] == 30 and second.manifest["rewards"] == {"letters": 1.0} and len(second.metrics()) == 3


@pytest.mark.parametrize("method", METHODS)
def test_it_is_resumed_and_moved_like_any_other(settings: Callable[..., Config], tmp_path: Path, method: str) -> None:
    """Prevents: a resumed run that begins with the other run's model, or does not find its own start where it is now."""
    run = trained(settings(method), tmp_path / "first")
    sections = {"objective": {"beta": 0.05}, "train": {"max_steps": 3, "save_steps": 2}}
    whole = heir(run, tmp_path / "whole", **sections)
    whole.train()

    cut_after(heir(run, tmp_path / "cut", **sections), 3)
    moved = shutil.move(tmp_path / "cut", tmp_path / "moved")
    resumed = reassemble(Path(moved), rewards=resolve([some_flat]))
    resumed.train()
    assert equal(weights(whole.policy), weights(resumed.policy))
    assert torch.equal(logprobs(whole.policy, of_reference=True), logprobs(resumed.policy, of_reference=True))


def test_an_adapter_on_a_run_that_trained_all(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: an adapter over the model of before the first run."""
    run = trained(settings("full"), tmp_path / "first")
    ended = logprobs(policy_of_run(run))
    second = heir(run, tmp_path / "second", model=LORA)
    assert torch.allclose(logprobs(second.policy), ended, atol=1e-5) and second.policy.is_lora
    second.train()
    third = heir(Run(tmp_path / "second"), tmp_path / "third", model={"lora_rank": 4})
    assert equal(weights(third.policy), weights(second.policy))
    third.run.close()


def test_an_interrupted_run_gives_its_newest_whole_checkpoint(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: half a checkpoint as a start, and silence about it."""
    run = trained(settings("full"), tmp_path / "first")
    shutil.rmtree(run.model_dir)
    (run.path / "checkpoints" / "step-000002" / "optimizer.pt").unlink()
    trainer = heir(run, tmp_path / "second")
    trainer.run.close()
    second = Run(tmp_path / "second")
    assert second.manifest["continued_from"]["step"] == 1
    assert any("step-000002 was passed over: optimizer.pt is missing" in event["text"] for event in second.events("message"))
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(RunError, match="no trained model and no whole checkpoint"):
        heir(run, tmp_path / "third")


def test_what_cannot_be_taken_over_is_refused(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: another model than the run's, an adapter that is dropped, rewards that are not the run's, a start under training."""
    run = trained(settings("lora"), tmp_path / "first")
    with pytest.raises(ConfigError, match=r"model\.name is given, but the new run begins with the model of"):
        config_from(run.path, None, {"model": {"name": "other"}})
    with pytest.raises(ConfigError, match=r"trained an adapter, but model\.method is 'full'"):
        heir(run, tmp_path / "second", model={"method": "full"})
    with pytest.raises(ConfigError, match=r"--model\.lora_rank=4"):
        heir(run, tmp_path / "second", model={"lora_rank": 8})
    with pytest.raises(ConfigError, match="A warm-up comes before a run"):
        heir(run, tmp_path / "second", warmup={"dataset": "arithmetic"})
    with pytest.raises(RunError, match="reward functions from Python"):
        assemble(config_from(run.path, None), tmp_path / "second", start_from=run.path)
    going = reassemble(run.path, settings={"train": {"max_steps": 4}}, rewards=resolve([some_flat]))
    with pytest.raises(RunError, match="is being trained by another process"):
        heir(run, tmp_path / "second")
    going.run.close()
    assert not (tmp_path / "second").exists()


def test_commands(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """`heron train --from RUN`, with the run's settings or with a recipe's, and `heron.train(start_from=RUN)`; chat finds both models."""
    small = ["--rollout.num_generations=2", "--evaluation.size=0", "--rollout.max_completion_length=4", "--train.prompts_per_step=2",
             "--train.max_steps=1", "--data.limit=20"]
    model = ["--model.name", str(tiny_folder("qwen3")), "--model.device=cpu"]
    first, second, third, fourth = (tmp_path / name for name in ("first", "second", "third", "fourth"))
    assert CliRunner().invoke(app, ["train", "--run-dir", str(first), *model, *small]).exit_code == 0
    shown = CliRunner().invoke(app, ["train", "--from", str(first), "--run-dir", str(second), "--train.max_steps=2"])
    assert shown.exit_code == 0, shown.output
    assert f"Begins with what {first} had learnt after 1 steps." in shown.output
    assert Run(second).settings["rollout"]["num_generations"] == 2 and len(Run(second).metrics()) == 2
    assert CliRunner().invoke(app, ["train", "arithmetic", "--from", str(second), "--run-dir", str(third), *small]).exit_code == 0
    assert Run(third).manifest["continued_from"]["name"] == "second"
    assert heron.train(start_from=third, run_dir=fourth, quiet=True, rewards=[letters]).manifest["rewards"] == {"letters": 1.0}
    assert CliRunner().invoke(app, ["chat", str(second), "2 + 2 =", "--compare", "start"]).exit_code == 0
