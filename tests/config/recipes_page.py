"""The tables in docs/recipes.md, from the recipes and their plans. `python -m tests.config.recipes_page` writes them there anew."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from heron.config import Config, Recipe, load_config, recipes
from heron.memory import HOST, plan
from heron.memory.case import case_of
from heron.memory.devices import find_device
from heron.memory.table import TRAIN
from heron.run.text import short_duration
from heron.training.cost import PROMPT_TOKENS, config_json

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
PLACE = re.compile(r"<!-- table: (\w+) -->\n(.*?)\n<!-- end -->", re.DOTALL)
FIGURES = ("training", "with the cache", "a step")
MODEL = "the small one that Heron builds"
STANDIN = "checked, and a step taken, with a stand-in"
RUN = {
    "arithmetic": "trained on a CPU, [three seeds and a control](benchmarks.md)",
    "guess": "trained on a CPU, [three seeds](environments.md#train-a-small-model-to-play)",
    "email": "its rewards, on [written replies](rewards.md)", "judge": "its settings are read; no run",
}
"""What was done with a recipe, where that is anything else than a check and a step with a stand-in (tests/models/recipe_standins.py)."""


def rendered(page: str) -> str:
    """The page with every table as the code makes it now."""
    made = tables()
    return PLACE.sub(lambda found: f"<!-- table: {found[1]} -->\n{made[found[1]]}\n<!-- end -->", page)


def tables() -> dict[str, str]:
    """Markdown of each, by the name that marks its place; those recipes first that need no download."""
    ordered = sorted(recipes(), key=lambda recipe: recipe.needs_download)
    purposes, plans = ("recipe", "what it teaches", "rows", "what was run"), ("recipe", "model", "trains", "card", *FIGURES)
    return {"recipes": markdown(purposes, [purpose(recipe) for recipe in ordered]), "plans": markdown(plans, [*map(needs, ordered)])}


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join([f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *(f"| {' | '.join(row)} |" for row in rows)])


def purpose(recipe: Recipe) -> tuple[str, ...]:
    """What it is for, and what is known of it."""
    return f"`{recipe.name}`", recipe.summary, rows_of(load_config(recipe.name)), RUN.get(recipe.name, STANDIN)


def needs(recipe: Recipe) -> tuple[str, ...]:
    """What the planner says."""
    config = load_config(recipe.name)
    model = recipe.model if recipe.needs_download else MODEL
    return f"`{recipe.name}`", model, trains(config), recipe.card or "none", *planned(config, recipe.card)


def trains(config: Config) -> str:
    """How much of the model."""
    model = config.model
    return {"full": "every weight", "lora": f"`lora`, rank {model.lora_rank}", "qlora": f"`qlora`, rank {model.lora_rank}"}[model.method]


def planned(config: Config, card: str | None) -> tuple[str, str, str]:
    """GiB of training, GiB of all with the engine's cache, and seconds of a step at most; without a card, of the machine's memory, and no
    time: that is the machine's own."""
    model = config_json(config)
    if card is None:
        made, seconds = plan(config, model, prompt_tokens=PROMPT_TOKENS, device=HOST), "-"
    else:
        case = case_of(config, model, prompt_tokens=PROMPT_TOKENS, device=find_device(card))
        made, seconds = case.plan, short_duration(case.seconds.total)
    return f"{made.peak_of(TRAIN, made.device) / 2**30:.1f}", f"{made.peak / 2**30:.1f}", seconds


def rows_of(config: Config) -> str:
    """Where prompts come from, and what a warm-up learns from."""
    name = "GSM8K" if config.data.dataset == "openai/gsm8k" else f"`{config.data.dataset}`"
    return name if config.warmup.dataset is None or not config.warmup.limit else f"{name}; warm-up on {config.warmup.limit} of them"


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
