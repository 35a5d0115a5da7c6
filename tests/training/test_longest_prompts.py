"""`data.prompt_quantile`: the longest prompts are left out, said so, and stay out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import cut_after, make_trainer, outcome, small_config, some_flat

from heron.checking import check
from heron.config import Config
from heron.errors import ConfigError
from heron.rewards import resolve
from heron.run import Run
from heron.training.assemble import reassemble

LEFT_OUT = "2 of 20 training prompts are left out"


@pytest.fixture
def config(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Config:
    """Twenty rows to train on, of which two are long, and held-out rows that are longer still."""
    rows = [{"question": f"What is {n} + 1{'?' * (60 if n in (3, 11) else n)}", "answer": str(n + 1)} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "held.jsonl").write_text(json.dumps({"question": "What is 90 + 1" + "?" * 90, "answer": "91"}) + "\n")
    return small_config(
        tiny_folder("qwen3"), evaluation={"size": 1, "samples": 1},
        train={"prompts_per_step": 9, "save_steps": 1, "max_steps": 4, "lr_scheduler_type": "constant"},
        data={"dataset": str(tmp_path / "rows.jsonl"), "eval_dataset": str(tmp_path / "held.jsonl"), "prompt_quantile": 0.9, "limit": None},
    )


def asked(run: Run) -> set[str]:
    """Rows that were trained on."""
    return {rollout["prompt"] for step in range(1, 5) for rollout in run.rollouts(step)}


def test_the_longest_are_never_asked_and_the_others_all_are(config: Config, tmp_path: Path) -> None:
    """Prevents: a filter that leaves out nothing, short rows, or rows of the evaluation; or one that nobody hears of."""
    trainer = make_trainer(config, tmp_path / "run")
    trainer.train()
    run = Run(tmp_path / "run")
    assert {prompt.id for prompt in trainer.prompts} == {f"rows.jsonl:{n + 1}" for n in range(20) if n not in (3, 11)}
    assert asked(run) == {prompt.id for prompt in trainer.prompts}
    assert any(event["text"].startswith(LEFT_OUT) for event in run.events("message"))
    assert run.evaluations()["after"]["problems"] == 1


def test_a_resumed_run_leaves_out_the_same(config: Config, tmp_path: Path) -> None:
    """Prevents: a resumed run whose prompts come in another order, since it draws from more of them."""
    make_trainer(config, tmp_path / "whole").train()
    cut_after(make_trainer(config, tmp_path / "cut"), 2)
    reassemble(tmp_path / "cut", rewards=resolve([some_flat])).train()
    assert outcome(Run(tmp_path / "cut")) == outcome(Run(tmp_path / "whole"))


@pytest.mark.parametrize(("quantile", "rows"), [(1e-9, 1), (0.05, 1), (0.1, 2)])
def test_the_smallest_quantile_leaves_the_shortest_rows(config: Config, quantile: float, rows: int, tmp_path: Path) -> None:
    """Prevents: a quantile near 0 that keeps every row, the longest ones too."""
    trainer = make_trainer(replace(config, data=replace(config.data, prompt_quantile=quantile)), tmp_path / "run")
    assert {prompt.id for prompt in trainer.prompts} == {f"rows.jsonl:{n + 1}" for n in range(rows)}


def test_rows_of_one_length_all_stay(config: Config, tmp_path: Path) -> None:
    """Prevents: a message of 0 rows that are too long, or rows that go although none is longer than another."""
    rows = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = check(config, rewards=[(some_flat, 1.0)], prompts=0)
    assert any(finding.text.startswith("None of 9 training prompts is left out") for finding in report.findings)


def test_a_check_says_it_too(config: Config) -> None:
    """Prevents: a check of other prompts than those that a run trains on."""
    report = check(config, rewards=[(some_flat, 1.0)], prompts=0)
    assert any(finding.text.startswith(LEFT_OUT) for finding in report.findings)


def test_rows_to_come_have_no_quantile(config: Config, tmp_path: Path) -> None:
    """Prevents: a filter that is silently dropped where it cannot be kept."""
    forever = replace(config, train=replace(config.train, forever=True))
    with pytest.raises(ConfigError, match=r"data\.prompt_quantile is 0\.9"):
        make_trainer(forever, tmp_path / "run")
