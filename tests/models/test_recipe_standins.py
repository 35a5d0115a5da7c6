"""Every recipe for a model passes a check and takes a step with a small model of the same architecture and the same special tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recipe_standins import STANDINS
from transformers import AutoConfig, AutoTokenizer
from typer.testing import CliRunner

import heron
from heron.cli.main import app
from heron.config import load_config
from heron.config import recipes as shipped
from heron.data.templates import chat_template
from heron.memory import read_shape
from heron.memory.known import known_config

ROWS = [
    {"question": f"Anna has {n} eggs and buys {2 * n} more. How many has she?{' Think of the shop, too.' * (n % 10 == 0)}",
     "answer": f"She buys 2*{n}=<<2*{n}={2 * n}>>{2 * n} eggs.\nThen she has {n}+{2 * n}=<<{n}+{2 * n}={3 * n}>>{3 * n}.\n#### {3 * n}"}
    for n in range(1, 41)
]
SMALL: dict[str, dict[str, Any]] = {
    "train": {"max_steps": 1, "prompts_per_step": 2, "save_steps": 0, "micro_batch_tokens": 2048},
    "rollout": {"num_generations": 2, "max_completion_length": 8}, "evaluation": {"size": 2, "samples": 0, "show": 0},
}


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`standin("phi-4")` is the folder of the model in its place. Read only."""
    made: dict[str, Path] = {}

    def folder(recipe: str) -> Path:
        if recipe not in made:
            made[recipe] = STANDINS[recipe].save(tmp_path_factory.mktemp("standins") / recipe)
        return made[recipe]

    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows in the form of GSM8K."""
    folder = tmp_path_factory.mktemp("gsm8k")
    for name, part in (("train", ROWS[:32]), ("test", ROWS[32:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


def settings(model: Path, rows: Path, recipe: str) -> dict[str, Any]:
    """Local model and rows in the place of those of the hub, where the recipe has any."""
    warmup = {"warmup": {"dataset": str(rows)}} if load_config(recipe).warmup.dataset else {}
    return {"model": {"name": str(model), "device": "cpu"}, "data": {"dataset": str(rows)}, **warmup}


def test_every_recipe_of_a_named_model_has_a_standin() -> None:
    """Prevents: a recipe that is shipped and never tried. Of these two, rows must be one's own."""
    assert {recipe.name for recipe in shipped() if recipe.needs_download} == {*STANDINS, "email", "judge"}


@pytest.mark.parametrize("recipe", STANDINS)
def test_the_standin_has_the_architecture_of_the_model(recipe: str, standin: Callable[[str], Path]) -> None:
    """Prevents: a recipe that is tried on another architecture than it is planned for."""
    known = known_config(load_config(recipe).model.name)
    assert known is not None
    own = AutoConfig.from_pretrained(standin(recipe)).get_text_config()
    planned, tried = read_shape(known), read_shape(own.to_dict())
    assert known["model_type"] == own.model_type
    for fact in ("norms", "qk_norm", "attention_bias", "mlp_bias", "fused", "is_tied"):
        assert getattr(planned, fact) == getattr(tried, fact), fact


@pytest.mark.parametrize("recipe", STANDINS)
def test_no_prompt_holds_the_date(recipe: str, standin: Callable[[str], Path]) -> None:
    """Prevents: a run whose prompts are others on the day that it goes on."""
    config = load_config(recipe)
    own = AutoTokenizer.from_pretrained(standin(recipe))
    assert ("strftime_now" in own.chat_template) == (recipe == "llama-3.2-3b")
    named = config.model.chat_template
    assert "strftime_now" not in (chat_template(named, config.tags) if named else own.chat_template)


@pytest.mark.parametrize("recipe", STANDINS)
def test_a_check_finds_nothing_against_the_recipe(recipe: str, standin: Callable[[str], Path], rows: Path) -> None:
    """Prevents: a template that cannot render the recipe's system prompt, rewards that cannot read its rows, a wrong answer that pays."""
    given = settings(standin(recipe), rows, recipe)
    words = [f"--{section}.{key}={value}" for section, values in given.items() for key, value in values.items()]
    result = CliRunner().invoke(app, ["check", recipe, "--no-probe", "--json", *words], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert result.exit_code == 0, found["findings"]
    assert not [finding for finding in found["findings"] if finding["level"] != "note"], found["findings"]
    right, wrong = ([trial["total"] for trial in found["trials"] if trial["kind"] == kind] for kind in
                    ("gold in the format", "wrong answer in the format"))
    assert min(right) > max(wrong)
    assert (found["lengths"]["prefilled"] != "") == (recipe in ("qwen3-4b", "deepseek-r1-qwen3-8b"))


@pytest.mark.parametrize("recipe", STANDINS)
def test_a_step_is_taken(recipe: str, standin: Callable[[str], Path], rows: Path, tmp_path: Path) -> None:
    """Prevents: settings that a check lets pass and a trainer refuses: method, optimizer, warm-up, objective."""
    given = settings(standin(recipe), rows, recipe)
    if "warmup" in given:
        given["warmup"] |= {"limit": 8, "epochs": 1, "eval_size": 0}
    run = heron.train(recipe, run_dir=tmp_path / "run", quiet=True, **given, **SMALL)
    assert run.summary["status"] == "finished" and len(run.metrics()) == 1
    told = " ".join(event["text"] for event in run.events("message"))
    assert ("training prompts are left out" in told) == (load_config(recipe).data.prompt_quantile < 1)
