"""Memory that runs out while sampling, training or evaluating: the work is done again in smaller parts, and its results are the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import little_memory
from small_runs import decoder, make_trainer, small_config
from torch import Tensor

from heron.config import Config
from heron.errors import MemoryStop
from heron.rewards import resolve
from heron.run import Run
from heron.training import updater as updater_module
from heron.training.assemble import reassemble
from heron.training.guarding.memory import is_out_of_memory
from heron.training.trainer import Trainer


def variety(completion: str) -> float:
    return len(set(completion)) / 10


Make = Callable[..., Trainer]


@pytest.fixture
def make(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Make:
    def trainer(name: str = "run", **sections: Any) -> Trainer:
        return make_trainer(config_of(tiny_folder("qwen3"), **sections), tmp_path / name, rewards=[variety])

    return trainer


def config_of(folder: Path, **sections: Mapping[str, Any]) -> Config:
    train = {"micro_batch_tokens": 4000} | dict(sections.pop("train", {}))
    return small_config(folder, train=train, **sections)


def gradients_of(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Those that each optimizer step is taken with, as they come."""
    found: list[dict[str, Tensor]] = []
    step = updater_module.clip_and_step

    def noted(*arguments: Any, **settings: Any) -> float:
        found.append({name: weight.grad.clone() for name, weight in trainer.policy.trainable() if weight.grad is not None})
        return step(*arguments, **settings)

    monkeypatch.setattr(updater_module, "clip_and_step", noted)
    return found


@pytest.mark.parametrize("objective", [{}, {"num_iterations": 2, "num_minibatches": 2, "beta": 0.1}], ids=["one step", "four steps"])
def test_training_in_halves_has_the_same_gradient(make: Make, monkeypatch: pytest.MonkeyPatch, objective: dict[str, Any]) -> None:
    """Prevents: tokens that are counted by micro-batch, gradients of a failed try that stay, and old log-probs given to other tokens."""
    whole = make("whole", objective=objective)
    expected = gradients_of(whole, monkeypatch)
    whole.step()
    monkeypatch.undo()
    halved = make("halved", objective=objective)
    found = gradients_of(halved, monkeypatch)
    with little_memory(halved, tokens=120) as failed:
        halved.step()
    assert failed and halved.rescue.micro_batch_tokens < 4000
    assert len(found) == len(expected) == 1 + 3 * bool(objective)
    for one, other in zip(found, expected, strict=True):
        largest = max(float(gradient.abs().max()) for gradient in other.values())
        for name, gradient in other.items():
            torch.testing.assert_close(one[name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=name)


def test_it_is_told_and_remembered(make: Make) -> None:
    """Prevents: a run that fails and is cut anew in every step, and one that nobody is told of."""
    trainer = make()
    with little_memory(trainer, tokens=120) as failed:
        trainer.step()
        halvings = len(failed)
        trainer.step()
    assert len(failed) == halvings >= 1
    run = Run(trainer.run.path)
    events = [event for event in run.events() if event["kind"] == "memory_halved"]
    assert len(events) == halvings and events[-1]["after"] == trainer.rescue.micro_batch_tokens and events[0]["phase"] == "training"
    assert [record.get("memory/halved") for record in run.metrics()] == [float(halvings), None]
    assert [alert["id"] for alert in run.alerts() if alert["id"] == "out-of-memory"] == ["out-of-memory"]
    words = next(event["text"] for event in run.events() if event["kind"] == "message" and "Memory ran out" in event["text"])
    assert "CUDA out of memory" in words and words.count("--") >= 3, "the planner's three cheapest settings"


@pytest.mark.parametrize("engine", ["native", "hf"])
def test_sampling_fewer_at_once_says_the_same(make: Make, engine: str) -> None:
    """Prevents: answers that depend on what memory there was."""
    whole, halved = make("whole", rollout={"engine": engine}), make("halved", rollout={"engine": engine})
    whole.step()
    with little_memory(halved, tokens=5, when=lambda: torch.is_inference_mode_enabled() and busy(halved)):
        halved.step()
    assert halved.collector.engine.max_concurrent == 4  # type: ignore[attr-defined]
    told = [[(row["prompt"], row["text"]) for row in Run(trainer.run.path).rollouts(1)] for trainer in (whole, halved)]
    assert told[0] == told[1]
    events = [event for event in Run(halved.run.path).events() if event["kind"] == "memory_halved"]
    assert [(event["phase"], event["before"], event["after"]) for event in events] == [("sampling", 256, 8), ("sampling", 8, 4)]


def busy(trainer: Trainer) -> bool:
    """More than four completions are sampled at once."""
    return trainer.collector.engine.max_concurrent > 4  # type: ignore[attr-defined]


def test_an_evaluation_is_survived_too(make: Make) -> None:
    trainer = make(evaluation={"size": 4, "samples": 2}, train={"max_steps": 1})
    with little_memory(trainer, tokens=0, when=lambda: torch.is_inference_mode_enabled() and busy(trainer)):
        trainer.train()
    run = Run(trainer.run.path)
    assert set(run.evaluations()) == {"before", "after"} and run.status == "finished"
    assert next(event["phase"] for event in run.events() if event["kind"] == "memory_halved") == "evaluating"


def test_what_cannot_be_halved_stops_saved(make: Make, tmp_path: Path) -> None:
    """Prevents: halving for ever, and a run that is lost with its memory: it goes on where there is more, as if nothing had been."""
    train = {"train": {"max_steps": 3, "save_steps": 0}}
    whole, trainer = make("whole", **train), make(**train)
    whole.train()
    with pytest.raises(MemoryStop, match=r"training on a single answer.*--.*heron resume") as caught, \
            little_memory(trainer, tokens=2, when=lambda: torch.is_grad_enabled() and trainer.state.step == 1):
        trainer.train()
    assert caught.value.exit_code == 4 and Run(tmp_path / "run").status == "failed"
    resumed = reassemble(tmp_path / "run", rewards=resolve([variety]))
    assert resumed.state.step == 1
    resumed.train()
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(whole.policy.trainable(), resumed.policy.trainable(), strict=True))


def test_an_optimizer_whose_memory_ran_out_is_not_saved(make: Make, tmp_path: Path) -> None:
    """Prevents: a checkpoint of weights of which some have moved."""
    trainer = make(train={"save_steps": 1})

    def fail(*_: Any) -> None:
        if trainer.state.step == 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8")

    trainer.updater.optimizer.register_step_post_hook(fail)
    with pytest.raises(MemoryStop, match="optimizer's step"):
        trainer.train()
    assert trainer.is_torn and [path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")] == ["step-000001"]


def test_other_errors_are_not_taken_for_it(make: Make) -> None:
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    trainer = make()

    def fail(*_: Any) -> None:
        raise RuntimeError("shapes")

    decoder(trainer.policy).register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes"):
        trainer.step()


def test_the_dry_step_leaves_nothing_behind(make: Make) -> None:
    """Prevents: weights, moments or random states that a rehearsal has moved."""
    none = {"size": 0}  # an evaluation would put random states back
    plain, dry = make("plain", evaluation=none), make("dry", evaluation=none, train={"dry_step": "on"})
    for trainer in (plain, dry):
        torch.manual_seed(5)
        trainer.train()
        trainer_draw = torch.rand(3)
        assert torch.equal(trainer_draw, _expected_draw())
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(plain.policy.trainable(), dry.policy.trainable(), strict=True))
    told = [event for event in Run(dry.run.path).events() if event["kind"] == "dry_step"]
    assert [event["phase"] for event in told] == ["sampling", "training"]
    assert all(event["peak_gib"] > 0 and event["planned_gib"] > 0 for event in told)


def _expected_draw() -> Tensor:
    return torch.rand(3, generator=torch.Generator().manual_seed(5))


def test_the_dry_step_meets_what_is_too_large(make: Make) -> None:
    """Prevents: a longest row that ends the run in its fifth hour. Its tokens are as many as the settings allow, more than any step has."""
    trainer = make(train={"dry_step": "on", "max_steps": 1})
    sizes: list[int] = []
    with little_memory(trainer, tokens=150) as failed:
        trainer.train()
        sizes += failed
    events = [event for event in Run(trainer.run.path).events() if event["kind"] == "memory_halved"]
    assert sizes and len(events) == len(sizes) and events[0]["step"] == 1
    longest, said = trainer.rescue.longest_prompt(), trainer.config.rollout.max_completion_length
    assert sizes[0] == 4 * (longest + 4 * (said - 1)), "four prompts, four answers each, none of which begin alike"
    assert trainer.state.step == 1


def test_the_dry_step_is_off_without_a_gpu(make: Make) -> None:
    trainer = make(train={"max_steps": 1})
    trainer.train()
    assert not [event for event in Run(trainer.run.path).events() if event["kind"] == "dry_step"]
    assert trainer.config.train.dry_step == "auto"
