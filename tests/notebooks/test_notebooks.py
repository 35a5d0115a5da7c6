"""The notebooks run from the first cell to the last, and what they claim is so."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from heron.run import Run
from tests.notebooks.running import NOTEBOOKS, ROOT, run


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_shown_as_it_was_executed(path: Path) -> None:
    """Prevents: a notebook without outputs, run in part, or with a path of the machine that ran it."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert "/tmp/" not in path.read_text(encoding="utf-8") and "/home/" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_hides_no_warning(path: Path) -> None:
    """Prevents: a reader who is not told what an argument means here, since the notebook switches the warnings off."""
    text = path.read_text(encoding="utf-8")
    assert "simplefilter" not in text and "filterwarnings" not in text


def test_what_is_warned_of_is_shown() -> None:
    """Prevents: outputs in which the warnings are missing that a reader will see."""
    cells = [{"cell_type": "code", "source": ["import warnings\n", "warnings.warn('mind this')\n", "print(1)"]}]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
        run({"cells": cells})
    assert [(output["name"], output["text"]) for output in cells[0]["outputs"]] == [("stderr", ["mind this\n"]), ("stdout", ["1\n"])]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_table_of_a_plan_is_not_broken(path: Path) -> None:
    """Prevents: a table that was printed too narrow, with most of its cells in pieces."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    printed = "".join("".join(output.get("text", [])) for cell in cells for output in cell.get("outputs", []))
    table = printed.partition("how it was counted")[2].partition("It fits")[0]
    assert [line for line in table.splitlines() if line.startswith(" " * 20) and line.strip()] == []


def executed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the cells of a notebook have defined, run from top to bottom in this folder."""
    monkeypatch.chdir(folder)
    torch.set_num_threads(1)
    return run(json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")))


def accuracies(of: Run) -> tuple[float, float]:
    """On held-out problems, before and after."""
    totals = of.evaluations()
    return totals["before"]["accuracy"], totals["after"]["accuracy"]


@pytest.mark.slow
def test_the_quickstart_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a newcomer's first minute in which nothing is learnt."""
    namespace = executed("quickstart", tmp_path, monkeypatch)
    before, after = accuracies(namespace["run"])
    assert after > before + 0.3
    rewards = [step["reward"] for step in namespace["run"].metrics()]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 1
    assert len(namespace["group"]) == 8


@pytest.mark.slow
def test_the_notebook_of_a_reward_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a lesson that does not happen: the flawed reward must rise and teach little, the mended one must teach."""
    namespace = executed("own_reward", tmp_path, monkeypatch)
    hacked, better = namespace["hacked"], namespace["better"]
    assert hacked.metrics()[-1]["reward"] > hacked.metrics()[0]["reward"] + 0.5
    assert accuracies(better)[1] > accuracies(hacked)[1] + 0.3
    assert "reward-without-accuracy" in {alert["id"] for alert in hacked.alerts()}
    assert namespace["flawed"].refuses and not namespace["mended"].refuses


@pytest.mark.slow
def test_the_notebook_of_rows_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a journey from rows to a model that breaks on the way, or whose export is not the trained model."""
    namespace = executed("own_data", tmp_path, monkeypatch)
    before, after = accuracies(namespace["run"])
    assert after > before + 0.3
    assert namespace["report"].signal.mixed > 0
    asked = namespace["heron"].chat(namespace["run"].path, "What is 487 + 356?")
    assert namespace["model"].chat("What is 487 + 356?") == asked


@pytest.mark.slow
def test_the_notebook_of_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: losses that differ where their ratio is 1, or that are the same where it is not."""
    namespace = executed("losses", tmp_path, monkeypatch)
    once, often = namespace["once"], namespace["often"]
    assert once["dapo"] == once["cispo"] == once["reinforce"]
    assert often["dapo"] != often["reinforce"] and namespace["own"] not in often.values()


@pytest.mark.slow
def test_the_unsloth_style_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: the flow of an Unsloth notebook that breaks at any of its steps, or that learns nothing."""
    gguf = pytest.importorskip("gguf")
    namespace = executed("unsloth_style", tmp_path, monkeypatch)
    assert namespace["after"] > namespace["before"] + 0.3
    assert namespace["answered"]() == namespace["answers_before"], "without the adapter the base answers"
    shown = [(answers[0:5], namespace["heldout"][0:5]) for answers in (namespace["answers_before"], namespace["answers_after"])]
    before, after = (sum(map(namespace["is_right"], answers, rows)) for answers, rows in shown)
    assert after > before + 2, "what the reader sees changes"
    file = gguf.GGUFReader(tmp_path / "model_gguf" / "model-q8_0.gguf")
    assert {"token_embd.weight", "blk.0.attn_q.weight"} <= {tensor.name for tensor in file.tensors}
