"""An adapter alone: what PEFT makes of it is the trained model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from finished_runs import make_run
from test_export import logits_of
from tinymodels import save_tiny

from heron.errors import ModelError
from heron.export import export
from heron.models import adapters
from heron.models.of_run import policy_of_run
from heron.run import Run


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peft_puts_the_exported_adapter_on_its_base(tmp_path: Path, dtype: torch.dtype) -> None:
    """Prevents: an adapter that only Heron can read, that names no base, or has no tokenizer beside it."""
    import peft
    import transformers

    run_dir = make_run(tmp_path / "run", save_tiny("llama", tmp_path / "base", dtype=dtype), method="lora")
    done = export(run_dir, tmp_path / "out", format="adapter")
    named = json.loads((done.folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(tmp_path / "base") and any("folder of the machine that trained it" in note for note in done.notes)
    base = transformers.AutoModelForCausalLM.from_pretrained(named, dtype=dtype)
    assert transformers.AutoTokenizer.from_pretrained(done.folder).chat_template
    theirs = peft.PeftModel.from_pretrained(base, done.folder)
    torch.testing.assert_close(logits_of(theirs), logits_of(policy_of_run(Run(run_dir)).model))
    names = {path.name for path in done.folder.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "chat_template.jinja", "README.md"} <= names
    assert "model.safetensors" not in names and done.agreement.equal == 3
    assert "library_name: peft" in (done.folder / "README.md").read_text()


def test_an_adapter_that_answers_otherwise_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: exporting an adapter that nobody read again."""
    run_dir = make_run(tmp_path / "run", save_tiny("llama", tmp_path / "base"), method="lora")
    read = adapters._read

    def spoil(model: object, folder: Path) -> object:
        wrapped = read(model, folder)
        if folder.name != "model":  # as it was trained
            for name, weight in wrapped.named_parameters():
                if "lora_B" in name:
                    weight.data.mul_(1.5)
        return wrapped

    monkeypatch.setattr(adapters, "_read", spoil)
    with pytest.raises(ModelError, match="The exported adapter does not answer like the trained one"):
        export(run_dir, tmp_path / "out", format="adapter")
    assert not (tmp_path / "out").exists()
