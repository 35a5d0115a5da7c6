"""A folder with everything that the pages name: models, data, recipes, reward functions, and finished runs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from tinymodels import save_tiny

import heron
from tests.docs.documents import PAGES, ROOT, blocks_of

SMALL = {
    "train": {"max_steps": 1, "prompts_per_step": 2, "save_steps": 0},
    "rollout": {"num_generations": 2, "max_completion_length": 8},
    "evaluation": {"size": 2, "samples": 1},
}
HOW_TO = [page for page in PAGES if page.parent.name == "howto"]


def furnish(folder: Path, small_model: Path) -> None:
    """Put all of it there, with this model in the place of the real ones."""
    for name in ("path/or/id", "Qwen/Qwen3-0.6B"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(small_model)
    save_tiny("qwen3", folder / "Qwen" / "Qwen3-4B-Base", max_position_embeddings=4096)  # room for the answers of its recipe
    (folder / "Qwen" / "Qwen3-4B").symlink_to(folder / "Qwen" / "Qwen3-4B-Base")
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "email-replies.jsonl", folder / "docs")
    shutil.copytree(ROOT / "docs" / "learn", folder / "docs" / "learn")
    rows = [{"question": f"What is {n} + 1?", "answer": f"One more than {n} is {n + 1}.\n#### {n + 1}"} for n in range(12)]
    for name in ("path/to/gsm8k/train.jsonl", "path/to/gsm8k/test.jsonl", "my/problems.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in (rows[:8] if "test" not in name else rows[8:])))
    (folder / "train_grpo.py").write_text("from trl import GRPOConfig, GRPOTrainer\nargs = GRPOConfig(learning_rate=1e-6)\n")
    (folder / "grpo_config.yaml").write_text("model_name_or_path: Qwen/Qwen3-0.6B\nmax_steps: 10\n")
    (recipe,) = blocks_of("toml", [ROOT / "docs" / "reference" / "settings.md"])
    recipe += '\n[model]\nname = "path/or/id"\n'
    for name in ("my-recipe.toml", "our.toml"):
        (folder / name).write_text(recipe)
    (folder / "emails.jsonl").write_text("".join(emails()))
    write_files_of_how_to(folder)
    torch.set_num_threads(1)
    heron.train(model=str(small_model), run_dir=folder / "runs" / "first", quiet=True, **SMALL)
    for name in ("runs/minutes", "runs/mine", "runs/losses/dapo-0", "outputs/run-1"):
        shutil.copytree(folder / "runs" / "first", folder / name)


def emails() -> Iterator[str]:
    """The first reply that comes with Heron, to eight customers."""
    (first, *_) = (ROOT / "docs" / "email-replies.jsonl").read_text().splitlines(keepends=True)
    return (first.replace("4711", str(4711 + customer)) for customer in range(8))


def write_files_of_how_to(folder: Path) -> None:
    """The files that the how-to pages show, and those that lie beside them, with a small model in the place of theirs."""
    shutil.copytree(ROOT / "docs" / "howto", folder / "docs" / "howto")
    for language in ("python", "toml"):
        for block in blocks_of(language, HOW_TO):
            if named := re.match(r"# (\S+\.(?:py|toml))\n", block):
                (folder / named[1]).write_text(block)
    for recipe in (*folder.glob("*.toml"), *folder.glob("docs/howto/*/*.toml")):
        text = re.sub(r"(?m)^steps = .*", "steps = 2", recipe.read_text().replace('name = "embedded"', 'name = "path/or/id"'))
        recipe.write_text(text if "[model]" in text else text + '\n[model]\nname = "path/or/id"\n')
