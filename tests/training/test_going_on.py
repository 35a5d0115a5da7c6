"""A run that goes on: with more steps, with other settings, or not at all."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from small_runs import cut_after, make_trainer, outcome, small_config, some_flat
from typer.testing import CliRunner

import heron
from heron.cli.main import app
from heron.config import Config
from heron.errors import ConfigError, HeronError, RewardError, RunError
from heron.rewards import resolve
from heron.run import Run
from heron.training.assemble import reassemble
from heron.training.interrupt import StopNow
from heron.training.keeping import fault_of, load_state
from heron.training.trainer import Trainer


@pytest.fixture
def settings(tiny_folder: Callable[[str], Path]) -> Callable[..., Config]:
    def make(**sections: Mapping[str, Any]) -> Config:
        return small_config(tiny_folder("qwen3"), **{
            "evaluation": {"size": 4, "steps": 2, "samples": 1}, **sections,
            "train": {"max_steps": 4, "save_steps": 2, "lr_scheduler_type": "constant", **sections.get("train", {})}})

    return make


def trained(config: Config, path: Path, **settings: Any) -> Run:
    make_trainer(config, path, **settings).train()
    return Run(path)


def resumed(path: Path, settings: Mapping[str, Any] | None = None, reward: Callable[..., Any] = some_flat) -> Trainer:
    return reassemble(path, settings=settings, rewards=resolve([reward]))


def cut(config: Config, path: Path, step: int, reward: Callable[..., Any] = some_flat) -> Run:
    """A run that ended in the middle of what follows this step."""
    cut_after(make_trainer(config, path, rewards=(reward,)), step)
    return Run(path)


def messages(run: Run) -> str:
    return "\n".join(event["text"] for event in run.events("message"))


@pytest.mark.parametrize("sections", [{}, {"model": {"method": "lora", "lora_rank": 4}, "objective": {"beta": 0.05}}])
def test_a_finished_run_with_more_steps_is_the_longer_run(
    settings: Callable[..., Config], tmp_path: Path, sections: dict[str, Any]
) -> None:
    """Prevents: a finished run that has to be begun anew; its last measurement under the name of a later one, or lost; the model of before
    beside the record of later steps."""
    whole = trained(settings(**sections, train={"max_steps": 6}), tmp_path / "whole")
    short = trained(settings(**sections), tmp_path / "short")
    seen = []
    trainer = resumed(short.path, {"train": {"max_steps": 6}})
    trainer.run.subscribe(lambda kind, payload: seen.append(short.model_dir.exists()) if kind == "metrics" else None)
    trainer.train()
    assert seen == [False, False], "a model of before is not the model of this run"
    assert outcome(whole) == outcome(short) and short.status == "finished"
    assert list(short.evaluations()) == ["before", "step-000002", "step-000004", "after"]
    assert "Changed: train.max_steps was 4 and is 6." in messages(short)
    assert short.settings["train"]["max_steps"] == 6
    assert [event["changes"] for event in short.events("settings_changed")] == [{"train.max_steps": [4, 6]}]


def test_a_schedule_that_ends_elsewhere_is_said(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: a run that passes for one which had so many steps from the beginning."""
    run = trained(settings(train={"max_steps": 2, "lr_scheduler_type": "linear"}, evaluation={"size": 0}), tmp_path / "run")
    resumed(run.path, {"train": {"max_steps": 3}}).run.close()
    assert "the linear schedule of the learning rate ends there from now on" in messages(run)


def test_a_finished_run_is_not_trained_again(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: steps that are taken twice, or fewer than were taken."""
    run = trained(settings(train={"max_steps": 2}, evaluation={"size": 0}), tmp_path / "run")
    for given, words in ((None, r"--train\.max_steps=N, more than 2"), ({"train": {"max_steps": 1}}, "is finished")):
        with pytest.raises(RunError, match=words):
            resumed(run.path, given)
    for file in (run.path / "checkpoints").glob("*/MANIFEST.json"):
        file.unlink()
    with pytest.raises(RunError, match="none of its checkpoints is whole"):
        resumed(run.path, {"train": {"max_steps": 3}})
    assert run.status == "finished" and run.model_dir.exists()


REFUSED: dict[str, dict[str, dict[str, Any]]] = {
    "learning rate": {"train": {"learning_rate": 1e-3}}, "seed": {"train": {"seed": 5}}, "rank": {"model": {"lora_rank": 8}},
    "loss": {"objective": {"loss_type": "grpo"}}, "rows": {"data": {"limit": 30}}, "temperature": {"rollout": {"temperature": 0.5}},
    "held-out problems": {"evaluation": {"size": 8}},
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_is_learnt_cannot_change(settings: Callable[..., Config], tmp_path: Path, change: str) -> None:
    """Prevents: one run that is two: neither its settings nor its curve say what made it."""
    run = cut(settings(), tmp_path / "run", 3)
    [(section, values)] = REFUSED[change].items()
    [key] = values
    with pytest.raises(ConfigError, match=rf"{section}\.{key} was .* and is .*heron train --from"):
        resumed(run.path, REFUSED[change])
    text = (run.path / "config.toml").read_text()
    (run.path / "config.toml").write_text(text.replace("learning_rate = 0.003", "learning_rate = 0.1"))
    with pytest.raises(ConfigError, match=r"train\.learning_rate was 0\.003 and is 0\.1"):
        resumed(run.path)


def test_what_is_not_learnt_may_change_and_is_told(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: a changed setting that nobody is told of; one that has no effect, or changes what is learnt."""
    whole = trained(settings(), tmp_path / "whole")
    run = cut(settings(), tmp_path / "run", 3)
    trainer = resumed(run.path, {
        "train": {"save_steps": 1, "save_total_limit": 5}, "rollout": {"max_concurrent": 200}, "evaluation": {"show": 1}})
    trainer.train()
    assert outcome(whole) == outcome(run)
    assert sorted(path.name for path in (run.path / "checkpoints").glob("step-*")) == ["step-000002", "step-000003", "step-000004"]
    assert "Changed: train.save_steps was 2 and is 1." in messages(run)
    assert "rollout.max_concurrent was 256 and is 200 (what follows is that of a run without a pause up to rounding" in messages(run)
    assert Run(run.path).settings["train"]["save_total_limit"] == 5


def test_what_was_passed_over_is_told(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: a run that silently goes back hours."""
    whole = trained(settings(), tmp_path / "whole")
    run = cut(settings(train={"max_steps": 4, "save_steps": 1}), tmp_path / "run", 4)
    (run.path / "checkpoints" / "step-000003" / "optimizer.pt").unlink()
    resumed(run.path).train()
    [event] = run.events("checkpoint_skipped")
    assert (event["path"], event["fault"]) == ("step-000003", "optimizer.pt is missing")
    assert "The checkpoint step-000003 was passed over: optimizer.pt is missing; step-000002 is used." in messages(run)
    assert outcome(whole) == outcome(run)


def draws(completion: str) -> float:
    """A reward that draws from all the global generators."""
    return len(set(completion)) / 10 + random.random() + float(numpy.random.rand()) + float(torch.rand(()))


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_reward_that_draws_goes_on_drawing(settings: Callable[..., Config], tmp_path: Path, step: int) -> None:
    """Prevents: other random numbers after a pause than without one, before the first checkpoint and after an evaluation."""
    whole = trained(settings(), tmp_path / "whole", rewards=(draws,))
    run = cut(settings(), tmp_path / "run", step, draws)
    random.random(), numpy.random.rand(), torch.rand(())
    resumed(run.path, reward=draws).train()
    assert outcome(whole) == outcome(run)


def test_measuring_moves_no_draw(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: training that draws other numbers where a checkpoint is older than the evaluation of its step."""
    whole = trained(settings(), tmp_path / "whole", rewards=(draws,))
    run = trained(settings(train={"max_steps": 2}), tmp_path / "run", rewards=(draws,))
    resumed(run.path, {"train": {"max_steps": 4}}, reward=draws).train()
    assert outcome(whole) == outcome(run)


def test_a_reward_that_catches_everything_is_given_up_all_the_same(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: the second Ctrl-C as a reward of zero, which is trained on and saved."""

    def catches(completion: str) -> float:
        try:
            while calls.pop() == 0:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
            return len(set(completion)) / 10
        except:  # noqa: E722
            return 0.0

    calls = [1] * 1000
    whole = trained(settings(), tmp_path / "whole", rewards=(catches,))
    calls[-50:] = [0, *[1] * 49]
    with pytest.raises(StopNow):
        make_trainer(settings(), tmp_path / "run", rewards=(catches,)).train()
    resumed(tmp_path / "run", reward=catches).train()
    assert outcome(whole) == outcome(Run(tmp_path / "run"))


def test_a_signal_to_all_processes_is_why_a_run_ends(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: a run that its system stops, workers and all, as one whose reward has failed."""

    def lost(completion: str) -> float:
        if (tmp_path / "run" / "rollouts" / "step-000002.jsonl").exists():
            os.kill(os.getpid(), signal.SIGTERM)
            raise RewardError("no answer: its process was killed from outside")
        return some_flat("", completion)

    whole = trained(settings(), tmp_path / "whole", rewards=(lost,))
    with pytest.raises(StopNow) as caught:
        make_trainer(settings(), tmp_path / "run", rewards=(lost,)).train()
    run = Run(tmp_path / "run")
    assert caught.value.number == signal.SIGTERM and isinstance(caught.value.__cause__, RewardError)
    assert (run.status, (run.summary or {})["stopped_by"]) == ("interrupted", "SIGTERM")
    resumed(run.path, reward=renamed(lambda completion: some_flat("", completion), "lost")).train()
    assert outcome(whole) == outcome(run)


def renamed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    function.__name__ = name
    return function


def test_another_start_is_noticed(settings: Callable[..., Config], tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Prevents: an adapter that goes on over other weights than those that it was trained on."""
    import shutil

    base = shutil.copytree(tiny_folder("qwen3"), tmp_path / "base")
    lora = {"model": {"name": str(base), "method": "lora", "lora_rank": 4, "device": "cpu"}}
    run = cut(settings(**lora), tmp_path / "run", 3)
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (base / "model.safetensors").write_bytes(weights)
    with pytest.raises(RunError, match=r"start of .* is no longer what it was.*model\.safetensors of the model"):
        resumed(run.path)


def test_two_trainers_do_not_share_a_run(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: two processes that write one record and remove each other's checkpoints."""
    config = settings(evaluation={"size": 0})
    trainer = make_trainer(config, tmp_path / "run")
    with pytest.raises(RunError, match="is being trained by another process"):
        resumed(tmp_path / "run")
    trainer.run.close()
    second = resumed(tmp_path / "run")
    with pytest.raises(RunError, match="is being trained by another process"):
        resumed(tmp_path / "run")
    second.run.close()


def test_a_checkpoint_says_what_it_is(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: a checkpoint that cannot be read by itself; a record's position that is not the record's."""
    run = trained(settings(), tmp_path / "run")
    path = run.path / "checkpoints" / "step-000002"
    assert fault_of(path) is None and load_state(path).step == 2
    about = json.loads((path / "about.json").read_text())
    assert about["data"]["prompts_consumed"] == 8 and about["data"]["fingerprint"] == run.manifest["data_fingerprint"]
    assert about["record"]["metrics.jsonl"]["lines"] == 2
    lines = (run.path / "metrics.jsonl").read_bytes()[: about["record"]["metrics.jsonl"]["bytes"]]
    assert lines.count(b"\n") == 2 and lines.endswith(b"\n")
    assert about["start"]["model"]["model.safetensors"] and about["schedule"]["next_step"] == 3
    assert "max_steps = 4" in (path / "config.toml").read_text()


def test_a_record_that_lost_steps_says_so(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: a hole in the record that nobody hears of."""
    run = cut(settings(), tmp_path / "run", 3)
    lines = (run.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_bytes(lines[1])
    resumed(run.path).run.close()
    assert "metrics.jsonl has 1 lines, but there were 2 when the checkpoint was written" in messages(run)


def test_the_best_model_is_kept(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: the best model lost since it is old; a best that a resumed run no longer knows."""
    best = settings(train={"max_steps": 6, "save_steps": 3, "save_total_limit": 1, "keep_best": "mean_reward"},
                    evaluation={"size": 4, "steps": 1, "samples": 0})
    whole = trained(best, tmp_path / "whole")
    rewards = {totals["step"]: totals["mean_reward"] for totals in whole.evaluations().values() if totals["step"]}
    step = max(rewards, key=lambda step: (rewards[step], -step))
    assert (whole.path / "checkpoints" / "best").read_text() == f"step-{step:06d}\n"
    assert {path.name for path in (whole.path / "checkpoints").glob("step-*")} == {f"step-{step:06d}", "step-000006"}
    run = cut(best, tmp_path / "run", 4)
    resumed(run.path).train()
    assert outcome(whole) == outcome(run)
    assert (run.path / "checkpoints" / "best").read_text() == f"step-{step:06d}\n"
    with pytest.raises(ConfigError, match=r"train\.keep_best needs evaluations between the steps"):
        settings(train={"keep_best": "accuracy"}, evaluation={"size": 4})


def test_commands(settings: Callable[..., Config], tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """`heron resume RUN --section.key=value`, `heron train --resume RUN`, and `heron.resume(RUN, train={...})` are one."""
    small = ["--model.name", str(tiny_folder("qwen3")), "--model.device=cpu", "--rollout.num_generations=2", "--evaluation.size=0",
             "--rollout.max_completion_length=4", "--train.prompts_per_step=2", "--train.max_steps=1", "--data.limit=20"]
    run = tmp_path / "run"
    assert CliRunner().invoke(app, ["train", "--run-dir", str(run), *small]).exit_code == 0
    assert CliRunner().invoke(app, ["resume", str(run), "--train.max_steps=2"]).exit_code == 0
    shown = CliRunner().invoke(app, ["train", "--resume", str(run), "--train.max_steps", "3"])
    assert shown.exit_code == 0 and "Changed: train.max_steps was 2 and is 3" in shown.output
    assert len(heron.resume(run, quiet=True, train={"max_steps": 4}).metrics()) == 4
    assert CliRunner().invoke(app, ["resume", "--train.max_steps=5", str(run)]).exit_code == 0
    for words in (["train", "gsm8k", "--resume", str(run)], ["train", "--resume", str(run), "--run-dir", "x"],
                  ["resume", str(run), "gsm8k"]):
        refused = CliRunner().invoke(app, words)
        assert isinstance(refused.exception, HeronError) and "has its recipe and its folder already" in str(refused.exception)
    refused = CliRunner().invoke(app, ["train", "--resume", str(run), "--seed", "3", "--train.max_steps=9"])
    assert "train.seed was 0 and is 3" in str(refused.exception)
