"""Recipes and the cards that they name: planned, without a network; and the page that says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from heron.cli.main import app
from heron.config import load_config, recipes
from heron.memory.devices import find_device
from heron.rewards import resolve
from tests.config.recipes_page import PAGE, PLACE, RUN, rendered, tables

ASKED_FOR = {
    "qwen3-4b": "Qwen/Qwen3-4B-Base", "deepseek-r1-qwen3-8b": "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",
    "llama-3.2-3b": "meta-llama/Llama-3.2-3B-Instruct", "gemma-3-1b": "google/gemma-3-1b-it", "phi-4": "microsoft/phi-4",
    "qwen2.5-3b": "Qwen/Qwen2.5-3B-Instruct", "mistral-7b-v0.3": "mistralai/Mistral-7B-Instruct-v0.3",
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
}
WITH_CARD = [recipe for recipe in recipes() if recipe.card]


def test_there_is_a_recipe_for_every_model_that_was_asked_for() -> None:
    """Prevents: a recipe that trains another model than its name says."""
    assert ASKED_FOR.items() <= {recipe.name: recipe.model for recipe in recipes()}.items()
    assert all(load_config(recipe.name).model.name == recipe.model for recipe in recipes())


@pytest.mark.parametrize("recipe", WITH_CARD, ids=lambda recipe: recipe.name)
def test_a_recipe_fits_the_card_that_it_names(recipe, no_network: list[str]) -> None:
    """Prevents: settings that need more than they promise, with short prompts or long ones, and a plan that needs a download."""
    for tokens in ("256", "512"):
        result = CliRunner().invoke(app, ["plan", recipe.name, "--gpu", recipe.card, "--prompt-tokens", tokens], catch_exceptions=False)
        assert result.exit_code == 0 and f"It fits a GPU of {recipe.card}" in " ".join(result.output.split())
    assert no_network == []


def test_a_downloaded_model_wants_a_card_and_a_built_one_none() -> None:
    """Prevents: a recipe that is shown as one for a laptop, and loads billions of weights."""
    assert all((recipe.card is not None) == recipe.needs_download for recipe in recipes())
    assert all(find_device(recipe.card).memory > 0 for recipe in WITH_CARD)


def test_recipes_are_listed_with_their_cards_those_for_a_laptop_first() -> None:
    """Prevents: a newcomer who begins with what a laptop cannot do."""
    lines = CliRunner().invoke(app, ["recipes"], catch_exceptions=False).output.splitlines()
    listed = re.findall(r"^  (\S+) +(none|\d+GB) ", "\n".join(lines), re.MULTILINE)
    assert dict(listed) == {recipe.name: recipe.card or "none" for recipe in recipes()}
    assert [card == "none" for _, card in listed] == sorted((card == "none" for _, card in listed), reverse=True)


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
def test_the_files_of_the_page_are_settings(block: str, tmp_path: Path) -> None:
    """Prevents: a file that a reader copies, and that the config refuses."""
    (tmp_path / "mine.toml").write_text(block)
    config = load_config(tmp_path / "mine.toml")
    assert resolve(config.rewards.functions, config.rewards.weights)


def test_the_page_shows_what_the_planner_says() -> None:
    """Prevents: a page of recipes that are gone, or of figures that hold no more. Write it anew: python -m tests.config.recipes_page"""
    page = PAGE.read_text(encoding="utf-8")
    assert {name for name, _ in PLACE.findall(page)} == tables().keys()
    assert rendered(page) == page
    assert RUN.keys() <= {recipe.name for recipe in recipes()}
