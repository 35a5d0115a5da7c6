"""`--forever`: rows join between two steps, a resumed run has them before the same steps, and nothing in a file ends a run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_runs import flat, make_trainer, small_config, some_flat

from heron.config import Config
from heron.errors import ConfigError
from heron.rewards import resolve
from heron.run import Run
from heron.training.assemble import reassemble
from heron.training.held_out import evaluator_of_run
from heron.training.trainer import Trainer

VARIES = ("time/", "throughput/", "memory/")


def row(number: int) -> str:
    return json.dumps({"question": f"What is {number} + {number}?", "answer": str(2 * number)}) + "\n"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(map(row, range(10))))
    return path


@pytest.fixture
def settings(tiny_folder: Callable[[str], Path], rows: Path) -> Callable[..., Config]:
    def make(**sections: Mapping[str, Any]) -> Config:
        forever = {
            "data": {"dataset": str(rows), "limit": None},
            "train": {"forever": True, "max_steps": 1, "prompts_per_step": 2, "save_steps": 2, "lr_scheduler_type": "constant"},
            "rollout": {"max_completion_length": 6}, "evaluation": {"size": 2, "samples": 1},
        }
        for section, values in sections.items():
            forever[section] = {**forever.get(section, {}), **values}
        return small_config(tiny_folder("qwen3"), **forever)

    return make


def at_steps(what: Mapping[int, Callable[[], object]]) -> Callable[[str, Mapping[str, Any]], None]:
    """A listener that does this when such a step is recorded."""

    def hear(kind: str, payload: Mapping[str, Any]) -> None:
        if kind == "metrics" and payload["step"] in what:
            what[payload["step"]]()

    return hear


def append(rows: Path, *lines: str) -> Callable[[], object]:
    def write() -> None:
        with rows.open("a") as file:
            file.write("".join(lines))

    return write


def stop() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def die() -> None:
    raise KeyboardInterrupt


def trained(trainer: Trainer, what: Mapping[int, Callable[[], object]]) -> Run:
    trainer.run.subscribe(at_steps(what))
    with contextlib.suppress(KeyboardInterrupt):
        trainer.train()
    return Run(trainer.run.path)


def asked(run: Run) -> list[list[str]]:
    """The prompts of each step."""
    return [sorted({each["prompt"] for each in run.rollouts(step)}) for step in run.rollout_steps()]


def same(left: Run, right: Run) -> None:
    """Prompts, metrics and weights."""
    assert asked(left) == asked(right)
    assert [stable(record) for record in left.metrics()] == [stable(record) for record in right.metrics()]
    assert (left.model_dir / "model.safetensors").read_bytes() == (right.model_dir / "model.safetensors").read_bytes()


def stable(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if not key.startswith(VARIES)}


def texts(run: Run) -> str:
    return "\n".join(event["text"] for event in run.events("message"))


def test_rows_join_between_steps_and_it_goes_on_until_it_is_stopped(settings: Callable[..., Config], rows: Path, tmp_path: Path) -> None:
    """Prevents: a run that ends after max_steps, new rows that wait for its end, and rows of half a line."""
    half = row(12)
    trainer = make_trainer(settings(), tmp_path / "run")
    run = trained(trainer, {2: append(rows, row(10), row(11), half[:20]), 4: append(rows, half[20:]), 6: stop})
    assert run.status == "interrupted" and len(run.metrics()) == 6
    assert asked(run)[2] == ["rows.jsonl:11", "rows.jsonl:12"] and "rows.jsonl:13" in asked(run)[4]
    counts = [[event[key] for key in ("step", "new", "left_out", "rows")] for event in run.events("rows")]
    assert counts == [[3, 2, 0, 10], [5, 1, 0, 11]]
    assert "From step 3 on: 2 new rows" in texts(run)


def test_resumed_it_has_the_same_rows_before_the_same_steps(settings: Callable[..., Config], rows: Path, tmp_path: Path) -> None:
    """Prevents: steps that are taken again on other prompts than before, since rows had come meanwhile; another order afterwards."""
    start = rows.read_bytes()
    new = {1: append(rows, row(10)), 3: append(rows, row(11), "{}\n", row(12)), 4: append(rows, row(13)), 7: append(rows, row(14))}
    whole = trained(make_trainer(settings(), tmp_path / "whole"), {**new, 9: stop})
    rows.write_bytes(start)
    cut = tmp_path / "cut"
    trained(make_trainer(settings(), cut), {**{step: new[step] for step in (1, 3, 4)}, 5: die})
    assert [path.name for path in sorted(cut.glob("checkpoints/step-*"))] == ["step-000002", "step-000004"]
    for file in (cut / "checkpoints" / "step-000004").glob("*.json"):
        file.unlink()  # so that steps are taken again before which rows came
    append(rows, row(99))()
    again = reassemble(cut, rewards=resolve([some_flat]))
    assert again.state.step == 2
    trained(again, {5: die})
    rows.write_bytes(rows.read_bytes().removesuffix(row(99).encode()))
    same_until = asked(Run(cut))
    assert same_until == asked(whole)[: len(same_until)]
    trained(reassemble(cut, rewards=resolve([some_flat])), {7: new[7], 9: stop})
    same(whole, Run(cut))


def test_it_goes_on_without_its_dataset(settings: Callable[..., Config], rows: Path, tmp_path: Path) -> None:
    """Prevents: a run that is lost with a file that somebody else tidied away; other held-out problems for who asks later."""
    whole = trained(make_trainer(settings(), tmp_path / "whole"), {1: append(rows, row(10)), 5: stop})
    rows.write_text("".join(map(row, range(10))))
    cut = trained(make_trainer(settings(), tmp_path / "cut"), {1: append(rows, row(10)), 3: stop})
    before = [prompt.id for prompt in evaluator_of_run(cut, start=False, size=None, samples=None).prompts]
    rows.unlink()
    trained(reassemble(cut.path, rewards=resolve([some_flat])), {5: stop})
    same(whole, cut)
    assert "cannot be read" in texts(cut)
    assert [prompt.id for prompt in evaluator_of_run(cut, start=False, size=None, samples=None).prompts] == before


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["{broken\n"], "rows.jsonl:11: this is not valid JSON"),
        (['{"answer": "3"}\n'], "rows.jsonl:11 has no prompt"),
        (["\xff\xfe\n"], None),
        ([json.dumps({"question": "x" * 2000, "answer": "1"}) + "\n"], "exceeds the model's context"),
        ([row(number) for number in range(10)], "asks the held-out question"),
        (["[]\n"] * 20, "20 left out (and 17 more)"),
    ],
)
def test_what_cannot_be_trained_on_is_left_out_and_counted(
    settings: Callable[..., Config], rows: Path, tmp_path: Path, lines: Sequence[str], words: str | None
) -> None:
    """Prevents: a run of days that ends with one line of somebody else; a line that disappears without a word."""
    trainer = make_trainer(settings(), tmp_path / "run", rewards=[flat])
    run = trained(trainer, {1: append(rows, *lines, row(50)), 3: stop})
    (event,) = run.events("rows")
    assert len(run.metrics()) == 3 and event["new"] >= 1 and event["left_out"] >= (words is not None)
    assert trainer.prompts[-1].question == "What is 50 + 50?" and (words or "") in texts(run)


@pytest.mark.parametrize("how", ["shorter", "other rows", "gone"])
def test_a_file_that_is_not_what_it_was_is_told_and_left_alone(
    settings: Callable[..., Config], rows: Path, tmp_path: Path, how: str
) -> None:
    """Prevents: rows of a file that was written anew taken from the middle of a line, or rows that are trained on twice for it."""
    before = rows.read_text()
    damage = {
        "shorter": lambda: rows.write_text(before[:50]), "gone": rows.unlink,
        "other rows": lambda: rows.write_text(before.replace("What", "Whot") + row(60)),
    }[how]
    trainer = make_trainer(settings(), tmp_path / "run")
    run = trained(trainer, {1: damage, 3: lambda: rows.write_text(before + row(61)), 5: stop})
    assert texts(run).count("Training goes on with the 8 rows") == 1
    assert [event["step"] for event in run.events("rows")] == [4] and trainer.prompts[-1].question == "What is 61 + 61?"


def test_without_new_rows_it_trains_like_any_run(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Prevents: other weights for who may add rows later."""
    forever = trained(make_trainer(settings(), tmp_path / "forever"), {4: stop})
    fixed = trained(make_trainer(settings(train={"forever": False, "max_steps": 4}), tmp_path / "fixed"), {})
    same(forever, fixed)


@pytest.mark.parametrize("way", [{"partial_tokens": 3}, {"resample_zero_signal": 2}])
def test_steps_that_draw_more_or_less_have_their_rows_too(
    settings: Callable[..., Config], rows: Path, tmp_path: Path, way: Mapping[str, int]
) -> None:
    """Prevents: groups in flight that are lost from sight when rows join, and prompts drawn in place of others that are drawn again."""
    config = settings(rollout=way, evaluation={"size": 0})
    whole = trained(make_trainer(config, tmp_path / "whole"), {2: append(rows, row(10), row(11)), 7: stop})
    rows.write_text("".join(map(row, range(10))))
    cut = trained(make_trainer(config, tmp_path / "cut"), {2: append(rows, row(10), row(11)), 4: stop})
    trained(reassemble(cut.path, rewards=resolve([some_flat])), {7: stop})
    same(whole, cut)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"train": {"lr_scheduler_type": "linear"}}, "constant"), ({"data": {"dataset": "arithmetic"}}, "local file of JSON lines"),
        ({"data": {"limit": 5}}, "data.limit is 5"),
    ],
)
def test_what_does_not_go_together(settings: Callable[..., Config], tmp_path: Path, sections: Any, words: str) -> None:
    """Prevents: a learning rate that never falls although a schedule was asked for, and rows that are never looked for."""
    with pytest.raises(ConfigError, match=words):
        make_trainer(settings(**sections), tmp_path / "run")
