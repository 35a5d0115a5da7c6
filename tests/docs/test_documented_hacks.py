"""The gallery of fooled rewards: each flawed one pays its hack, each mended one does not, and the page shows both as they are."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from heron.config import load_config
from heron.data.files import read_file
from heron.data.rows import to_prompt
from heron.rewards import Rubric, load_functions
from heron.rewards.attack import written
from tests.docs.documents import python_of

LEARN = Path(__file__).resolve().parents[2] / "docs" / "learn"
GALLERY = sorted(file.stem for file in (LEARN / "hacks").glob("*.py"))
PAGE = (LEARN / "09-reward-hacking.md").read_text(encoding="utf-8")
KINDS = ("honest", "hack", "right")


@cache
def paid(name: str) -> dict[str, tuple[float | None, ...]]:
    """What `flawed` and `mended` pay for an honest wrong answer, the hack, and a right answer."""
    rows = list(read_file(LEARN / "hacks" / f"{name}.jsonl"))
    rubric = Rubric(load_functions(str(LEARN / "hacks" / f"{name}.py")), tags=load_config("arithmetic").tags)
    prompts = [to_prompt(row) for row in rows]
    rubric.check(prompts)
    rollouts = [written(prompt, str(row.columns["completion"])) for prompt, row in zip(prompts, rows, strict=True)]
    scored = rubric.score(rollouts)
    return {str(row.columns["kind"]): tuple(rollout.rewards.values()) for row, rollout in zip(rows, scored, strict=True)}


def section(name: str) -> str:
    """Of the page, from the heading that names the hack to the next one."""
    found = re.search(rf"^### `{name}`.*?(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the page has no section on {name}"
    return found.group()


@pytest.mark.parametrize("name", GALLERY)
def test_the_hack_pays_before_and_not_after(name: str) -> None:
    """Prevents: a gallery of hacks that don't work, or of repairs that don't."""
    flawed, mended = ({kind: paid(name)[kind][place] or 0.0 for kind in KINDS} for place in (0, 1))
    assert flawed["hack"] > flawed["honest"]
    assert mended["hack"] <= mended["honest"] < mended["right"]


@pytest.mark.parametrize("name", GALLERY)
def test_the_page_shows_what_is_paid(name: str) -> None:
    """Prevents: scores on the page that nobody gets."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section(name).splitlines() if line.startswith("|")]
    shown = {cells[0]: tuple(float(cell) for cell in cells[-2:]) for cells in lines[2:]}
    assert shown == {kind: tuple(pytest.approx(score, abs=0.005) for score in scores) for kind, scores in paid(name).items()}


@pytest.mark.parametrize("name", GALLERY)
def test_the_page_shows_the_function_that_is_shipped(name: str) -> None:
    """Prevents: code on the page that is not the code that was tried."""
    source = (LEARN / "hacks" / f"{name}.py").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", section(name), re.DOTALL)
    assert blocks and all(block.strip() in source for block in blocks)


def test_every_block_of_the_page_is_in_a_file_that_is_tried() -> None:
    """Prevents: code on the page outside the sections of the gallery, which no test would run."""
    sources = [(LEARN / "hacks" / f"{name}.py").read_text(encoding="utf-8") for name in GALLERY]
    found = python_of(LEARN / "09-reward-hacking.md")
    assert found and [block.name for block in found if not any(block.text.strip() in source for source in sources)] == []


def test_the_gallery_is_not_empty() -> None:
    """Prevents: the tests above passing because nothing was found."""
    assert len(GALLERY) == 13
