"""The notebooks run from the first cell to the last, and what they claim is so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.notebooks.running import NOTEBOOKS, ROOT, run


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_shown_as_it_was_executed(path: Path) -> None:
    """Prevents: a notebook without outputs, run in part, or with a path of the machine that ran it."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert "/tmp/" not in path.read_text(encoding="utf-8") and "/home/" not in path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_unsloth_style_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: the flow of an Unsloth notebook that breaks at any of its steps, or that learns nothing."""
    gguf = pytest.importorskip("gguf")
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    namespace = run(json.loads((ROOT / "notebooks" / "unsloth_style.ipynb").read_text(encoding="utf-8")))
    assert namespace["after"] > namespace["before"] + 0.3
    assert namespace["accuracy"]() == namespace["before"], "without the adapter the base answers"
    file = gguf.GGUFReader(tmp_path / "model_gguf" / "model-q8_0.gguf")
    assert {"token_embd.weight", "blk.0.attn_q.weight"} <= {tensor.name for tensor in file.tensors}
