"""Steps with a number that is not finite: skipped, counted, kept to look at; three in a row bring earlier weights back once, then stop."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import break_gradients
from small_runs import cut_after, make_trainer, small_config
from torch import Tensor

from heron.errors import GuardStop
from heron.objective import Objective, StepLoss, Tokens
from heron.rewards import resolve
from heron.run import Run
from heron.training.assemble import reassemble
from heron.training.guarding import dumps
from heron.training.trainer import Trainer


def variety(completion: str) -> float:
    return len(set(completion)) / 10


@pytest.fixture
def make(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Callable[..., Trainer]:
    def trainer(name: str = "run", **sections: Any) -> Trainer:
        return make_trainer(small_config(tiny_folder("qwen3"), **sections), tmp_path / name, rewards=[variety])

    return trainer


def weights_of(trainer: Trainer) -> list[Tensor]:
    return [weight.detach().clone() for _, weight in trainer.policy.trainable()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_gradient_moves_nothing(make: Callable[..., Trainer], value: float) -> None:
    """Prevents: NaN in every weight, or in Adam's moments, of which a finite next step does not get rid."""
    trainer = make()
    trainer.step()
    break_gradients(trainer, {2}, value=value)
    before, version = weights_of(trainer), trainer.policy.version
    moments = [value.clone() for state in trainer.updater.optimizer.state.values() for value in state.values()]
    trainer.step()
    assert same(before, weights_of(trainer)) and trainer.policy.version == version == 1
    assert same(moments, [value for state in trainer.updater.optimizer.state.values() for value in state.values()])
    trainer.step()
    assert not same(before, weights_of(trainer)) and all(bool(weight.isfinite().all()) for weight in weights_of(trainer))
    assert [record.get("guard/skipped_steps") for record in Run(trainer.run.path).metrics()] == [None, 1.0, None]
    assert trainer.state.broken_in_a_row == 0


def test_what_broke_it_is_kept(make: Callable[..., Trainer]) -> None:
    """Prevents: a run that is red in the morning, with nothing to look at."""
    trainer = make()
    break_gradients(trainer, {1})
    trainer.step()
    first, *rows = [json.loads(line) for line in (trainer.run.path / "dumps" / "step-000001.jsonl").read_text().splitlines()]
    named = next(iter(trainer.policy.trainable()))[0]
    assert first["not_finite"] == ["gradient"] and first["weights"] == [named] and first["rollouts"] == len(rows) == 16
    recorded = Run(trainer.run.path).rollouts(1)
    for row, known in zip(rows, recorded, strict=True):
        assert row["text"] == known["text"] and row["advantage"] == known["advantage"]
        turn = row["turns"][0]
        assert trainer.policy.decode(turn["token_ids"]) == row["text"] and len(turn["logprobs"]) == len(turn["token_ids"])


def test_dumps_do_not_fill_the_disk(make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumps, "MOST_DUMPS", 2)
    monkeypatch.setattr(dumps, "MOST_BYTES", 3000)
    trainer = make(train={"max_steps": 9})
    break_gradients(trainer, {1, 3, 5})
    for _ in range(6):
        trainer.step()
    files = sorted((trainer.run.path / "dumps").iterdir())
    assert [file.name for file in files] == ["step-000001.jsonl", "step-000003.jsonl"]
    first = json.loads(files[0].read_text().splitlines()[0])
    assert first["left_out"] > 0 and first["rollouts"] + first["left_out"] == 16 and files[0].stat().st_size < 4000


class Broken(Objective):
    """Says that its loss, or a ratio, is not finite, while every gradient is."""

    def __call__(self, tokens: Tokens, *, entropy_coef: float = 0.0) -> StepLoss:
        step = super().__call__(tokens, entropy_coef=entropy_coef)
        if self.settings["breaks"] == "loss":
            return replace(step, loss=step.loss + math.inf)
        return replace(step, marks=step.marks | {"ratio": step.marks["ratio"] * math.inf})


@pytest.mark.parametrize("what", ["loss", "ratio"])
def test_a_loss_or_a_ratio_alone_is_enough(make: Callable[..., Trainer], what: str) -> None:
    """Prevents: a guard that looks at the gradient's norm only. A ratio may overflow where clipping has made its gradient 0."""
    trainer = make()
    healthy = trainer.updater.objective
    broken = Broken(loss=healthy.loss, settings=dict(healthy.settings) | {"breaks": what})
    trainer.updater = replace(trainer.updater, objective=broken)
    before = weights_of(trainer)
    trainer.step()
    assert same(before, weights_of(trainer))
    assert json.loads((trainer.run.path / "dumps" / "step-000001.jsonl").read_text().splitlines()[0])["not_finite"] == [what]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_three_in_a_row_bring_earlier_weights_back(make: Callable[..., Trainer], tmp_path: Path, method: str) -> None:
    """Prevents: a run that skips every step until morning; weights that come back without their moments; a record with holes."""
    trainer = make(model={"method": method, "lora_rank": 4}, train={"max_steps": 7, "save_steps": 1, "save_total_limit": 2})
    break_gradients(trainer, {4, 5, 6})
    seen: dict[int, list[Tensor]] = {}

    def look(kind: str, payload: Mapping[str, Any]) -> None:
        if kind == "metrics":
            seen[payload["step"]] = weights_of(trainer)

    trainer.run.subscribe(look)
    trainer.train()
    run = Run(tmp_path / "run")
    assert same(seen[3], seen[5]) and same(seen[6], seen[2]) and not same(seen[7], seen[6])
    assert [record["step"] for record in run.metrics()] == [1, 2, 3, 4, 5, 6, 7]
    assert run.metrics()[5]["guard/went_back_to"] == 2.0
    went_back = [event for event in run.events() if event["kind"] == "went_back"]
    assert [(event["step"], event["weights_of_step"]) for event in went_back] == [(6, 2)]
    taken = {int(state["step"]) for state in trainer.updater.optimizer.state.values()}
    assert taken == {3}, "two steps to checkpoint 2, and one after it came back"
    assert run.status == "finished" and trainer.state.times_gone_back == 1
    prompts = [row["prompt"] for step in (4, 5, 6, 7) for row in run.rollouts(step)]
    assert len(set(prompts)) == 16, "prompts are not repeated"


def test_the_second_time_it_stops(make: Callable[..., Trainer], tmp_path: Path) -> None:
    """Prevents: going back for ever."""
    trainer = make(train={"max_steps": 12, "save_steps": 1, "save_total_limit": 4})
    break_gradients(trainer, {3, 4, 5, 7, 8, 9})
    with pytest.raises(GuardStop, match=r"In step 9.*gradient \(of .*\) was not finite.*dumps/step-000009.jsonl.*once already"):
        trainer.train()
    assert Run(tmp_path / "run").status == "failed" and GuardStop.exit_code == 4


def test_a_resumed_run_remembers_and_repeats_it(make: Callable[..., Trainer], tmp_path: Path) -> None:
    """Prevents: counters that a kill sets to 0, so that a run goes back twice, and weights that are others after a resume."""
    settings = {"train": {"max_steps": 8, "save_steps": 2, "save_total_limit": 4}}
    whole, cut = make("whole", **settings), make("cut", **settings)
    for trainer in (whole, cut):
        break_gradients(trainer, {4, 5, 6})

    whole.train()
    cut_after(cut, 7)
    resumed = reassemble(tmp_path / "cut", rewards=resolve([variety]))
    break_gradients(resumed, {4, 5, 6})
    resumed.train()
    assert same(weights_of(whole), weights_of(resumed))
    assert whole.state.times_gone_back == resumed.state.times_gone_back == 1
    records = [[{k: v for k, v in record.items() if k.startswith(("guard", "reward", "loss"))} for record in Run(tmp_path / name).metrics()]
               for name in ("whole", "cut")]
    assert records[0] == records[1]
