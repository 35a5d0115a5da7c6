"""A script that begins with TRL's `SFTTrainer`: the report says where its counterpart is, and what the page shows there is trained."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from heron.compat.migrating import migrate
from heron.compat.notes import Kind
from heron.compat.trl.following import State
from heron.config import load_config

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migrating.md"
HEADING = "## `SFTTrainer` before GRPO"


def block() -> str:
    """The Python of the section."""
    (found,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0], re.DOTALL)
    return str(found)


@pytest.mark.filterwarnings("ignore:Some options mean", "ignore:These arguments of")
def test_what_the_page_shows_is_trained(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prevents: a counterpart that stops where the page says it goes on, or that forgets what was shown."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    Path("Qwen").mkdir()
    Path("Qwen/Qwen3-4B-Base").symlink_to(tiny_folder("qwen3"))
    made: dict[str, object] = {}
    exec(compile(block(), "<migrating.md>", "exec"), made)
    state = made["trainer"].state  # type: ignore[attr-defined]
    assert isinstance(state, State) and state.global_step == 2
    model = load_config(Path("outputs/run-1/config.toml")).model
    assert model.method == "lora" and model.lora_rank == 32
    assert model.adapter is not None and (Path(model.adapter) / "adapter_config.json").is_file()


def test_the_report_points_to_the_page(tmp_path: Path) -> None:
    """Prevents: advice without a place where the code stands, and settings of a warm-up judged as those of GRPO."""
    (tmp_path / "a.py").write_text(
        "from trl import SFTTrainer, SFTConfig, GRPOConfig, GRPOTrainer\ntrainer = SFTTrainer(model=m, args=SFTConfig(packing=True))\n"
        "trainer.accelerator\ntrainer = GRPOTrainer('m', f)\ntrainer.train()\n"
    )
    refused = {finding.what: finding for finding in migrate(tmp_path / "a.py").findings if finding.kind is Kind.UNSUPPORTED}
    assert refused.keys() == {"from trl import SFTTrainer", "from trl import SFTConfig"}
    assert all("docs/migrating.md" in finding.text and "SFTTrainer" in finding.text for finding in refused.values())
    assert HEADING in PAGE.read_text(encoding="utf-8")
