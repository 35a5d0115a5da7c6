"""The page on the objective: it names every knob and nothing else, its files run as they stand, and its figures are true."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from heron.config.objective import ADVANTAGE_ESTIMATORS, CORRECTIONS, LOSS_TYPES, ObjectiveConfig
from heron.objective import LOSSES, SCHEMES, Objective, Tokens, advantages, find_loss
from tests.docs.documents import ROOT, python_of

PATH = ROOT / "docs" / "objective.md"
PAGE = PATH.read_text()
KNOBS = {field.name for field in fields(ObjectiveConfig)}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the page's files, each named in its first line."""
    for name, text in re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tokens_with_ratios(ratios: list[float], advantages: list[float]) -> Tokens:
    """Two rows of equal length."""
    new = torch.tensor(ratios, dtype=torch.float64).log().requires_grad_()
    rows = torch.arange(2).repeat_interleave(len(ratios) // 2)
    return Tokens(logprobs=new, old_logprobs=torch.zeros_like(new), advantages=torch.tensor(advantages, dtype=torch.float64)[rows],
                  rows=rows, weights=torch.ones_like(new))


def test_every_knob_is_on_the_page_and_no_other() -> None:
    """Prevents: a knob without a formula, and a page that names one that was renamed."""
    code = re.findall(r"`([^`\n]+)`", PAGE)
    words = {word for text in code for word in re.findall(r"\w+", text)}
    assert words >= KNOBS, f"not on the page: {KNOBS - words}"
    named = {name for text in code for name in re.findall(r"objective\.(\w+)", text)}
    assert named <= KNOBS, f"no such knobs: {named - KNOBS}"


@pytest.mark.parametrize("names", [LOSS_TYPES, ADVANTAGE_ESTIMATORS, CORRECTIONS])
def test_every_choice_is_in_a_table(names: tuple[str, ...]) -> None:
    """Prevents: a loss, an estimator or a correction that nobody finds."""
    tables = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    assert [name for name in names if f'"{name}"' not in tables] == []


def test_the_table_of_losses_names_their_weights() -> None:
    """Prevents: a reader who multiplies with another denominator than the code."""
    rows = dict(re.findall(rf'^\| `"(\w+)"`[^|]*\|[^|]*\| ({"|".join(SCHEMES)}) \|', PAGE, re.MULTILINE))
    assert rows == {name: loss.weights for name, loss in LOSSES.items()} and set(rows.values()) == set(SCHEMES)


def test_every_block_of_the_page_is_a_file_that_is_used() -> None:
    """Prevents: an example that no test below tries."""
    assert [block.text.partition("\n")[0] for block in python_of(PATH)] == ["# my_losses.py", "# my_advantages.py"]


def test_the_loss_on_the_page_is_a_loss(files: Path) -> None:
    """Prevents: an example that does not run, or whose gradient is not what its docstring says."""
    step = Objective(loss=find_loss("my_losses.py:barrier"), settings={"epsilon": 0.2})(
        tokens := tokens_with_ratios([1.0, 2.0, 0.5, 1.0], [1.0, -1.0]))
    (gradient,) = torch.autograd.grad(step.loss, tokens.logprobs)
    assert step.marks["clip_ratio/region_mean"].tolist() == [0, 1, 1, 0]
    assert gradient.tolist() == pytest.approx([-1.0, -0.6, 0.4, 1.0]), "half of the bound where the ratio is beyond it"
    whole = Objective(loss=find_loss("my_losses.py:whole_answers"))(tokens)
    assert float(whole.loss.detach()) == pytest.approx(2 * -2.0 + 2 * 0.5)


def test_the_estimator_on_the_page_is_an_estimator(files: Path) -> None:
    """Prevents: the same of the other example, with gaps and ties."""
    found = advantages([[5.0, None, 1.0, 2.0], [3.0, 3.0], [None, 7.0]], estimator="my_advantages.py:by_rank")
    assert found == [[1.0, 0.0, -1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_the_names_in_the_recipe_on_the_page_lead_to_its_files(files: Path) -> None:
    """Prevents: a recipe that names what the files do not define."""
    given = dict(re.findall(r'^    (\w+) = "(\w+\.py:\w+)"$', PAGE, re.MULTILINE))
    assert set(given) == {"loss_type", "advantage_estimator"}
    ObjectiveConfig(**given)
    assert find_loss(given["loss_type"]).weights == "tokens"
    assert advantages([[1.0, 2.0]], estimator=given["advantage_estimator"]) == [[-1.0, 1.0]]
