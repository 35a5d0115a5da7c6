"""`heron migrate`: every option and import of a file is judged where it stands, and the rewritten file runs."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from heron.cli.main import app
from heron.compat.migrating import Finding, migrate
from heron.compat.migrating.calls import ARGUMENTS
from heron.compat.trl import GRPOTrainer
from heron.compat.unsloth import FastLanguageModel
from heron.compat.unsloth.arguments import TAKEN
from heron.config import load_config
from heron.errors import ConfigError

SCRIPT = '''\
import re
from datasets import load_dataset
from trl import GRPOConfig as Options, GRPOTrainer, ModelConfig
import trl
from trl.rewards import accuracy_reward
try:
    from vllm import SamplingParams
except ImportError:
    pass

args = Options(
    output_dir="out", learning_rate=1e-5,
    top_k=50,
    num_generation=4,
    num_iterations=steps,
    use_vllm=True,
    per_device_train_batch_size=8,
)
again = trl.GRPOConfig(min_p=0.1)
trainer = GRPOTrainer(model="x", args=args, reward_funcs=accuracy_reward, optimizers=(a, b))
trainer.train()
trainer.push_to_hub()
'''


def found(tmp_path: Path, text: str, name: str = "train.py") -> dict[str, Finding]:
    (tmp_path / name).write_text(text)
    return {finding.what: finding for finding in migrate(tmp_path / name).findings}


class TestScripts:
    def test_every_line_is_judged_where_it_stands(self, tmp_path: Path) -> None:
        """Prevents: an option of a renamed or qualified name that is not seen, and a report that points to another line."""
        findings = found(tmp_path, SCRIPT)
        judged = {(finding.line, finding.what, str(finding.kind)) for finding in findings.values()}
        assert {
            (3, "from trl import GRPOConfig", "renamed"), (3, "from trl import ModelConfig", "unsupported"), (4, "import trl", "renamed"),
            (5, "from trl.rewards import accuracy_reward", "renamed"), (7, "from vllm import SamplingParams", "renamed"),
            (12, "GRPOConfig.learning_rate", "same"), (13, "GRPOConfig.top_k", "unsupported"),
            (14, "GRPOConfig.num_generation", "unsupported"), (15, "GRPOConfig.num_iterations", "same"),
            (16, "GRPOConfig.use_vllm", "differs"), (19, "GRPOConfig.min_p", "unsupported"),
            (20, "GRPOTrainer.optimizers", "unsupported"), (22, ".push_to_hub()", "unsupported"),
        } <= judged
        assert "num_generations" in findings["GRPOConfig.num_generation"].text

    def test_arguments_of_unsloth_are_judged(self, tmp_path: Path) -> None:
        """Prevents: a notebook of Unsloth's that stops at its second cell, after a clean report."""
        findings = found(tmp_path, (
            "from unsloth import FastLanguageModel\nmodel, tok = FastLanguageModel.from_pretrained('a', fast_inference=True)\n"
            "FastLanguageModel.get_peft_model(model, lora_dropout=0.1, bias='none',\n  random_state=1)\nother.get_peft_model(bias='all')\n"
        ))
        assert {(finding.line, what.rpartition(".")[2], str(finding.kind)) for what, finding in findings.items()} == {
            (1, "from unsloth import FastLanguageModel", "renamed"), (2, "fast_inference", "differs"), (3, "lora_dropout", "unsupported"),
            (4, "random_state", "differs")}

    def test_what_a_notebook_of_unsloth_has_is_told(self, tmp_path: Path) -> None:
        """Prevents: a clean report on a script that stops at an import, at an argument, or draws otherwise than it says."""
        findings = found(tmp_path, (
            "import unsloth\nimport vllm\nfrom unsloth import FastLanguageModel as F\nfrom trl import SFTTrainer, GRPOConfig, GRPOTrainer\n"
            "from vllm import SamplingParams\nF.from_pretrained('a', max_seq_len=5)\n"
            "p = SamplingParams(min_p=0.1, top_k=-1, stop=[eos],\n  logprobs=1)\nSamplingParams(presence_penalty=1.0)\n"
            "a = GRPOConfig(vllm_sampling_params=p, num_generations=4, per_device_train_batch_size=1, learning_rate=5e-6, warmup_steps=0)\n"
            "GRPOTrainer(model=m, peft_confg=c)\nGRPOConfig(**options)\n"
        ))
        judged = {(finding.line, what, str(finding.kind)) for what, finding in findings.items()}
        assert {
            (1, "import unsloth", "unsupported"), (2, "import vllm", "unsupported"), (4, "from trl import SFTTrainer", "unsupported"),
            (6, "FastLanguageModel.from_pretrained.max_seq_len", "unsupported"), (7, "SamplingParams.min_p", "differs"),
            (8, "SamplingParams.logprobs", "unsupported"), (9, "SamplingParams", "unsupported"), (10, "GRPOConfig", "differs"),
            (10, "GRPOConfig.per_device_train_batch_size", "differs"), (11, "GRPOTrainer.peft_confg", "unsupported"),
            (12, "GRPOConfig.**", "unseen"),
        } <= judged and not {"SamplingParams.top_k", "SamplingParams.stop"} & findings.keys()
        assert "heron.warmup" in findings["from trl import SFTTrainer"].text and "SamplingParams" in findings["import vllm"].text
        left = findings["GRPOConfig"].text
        assert "beta=0.001" in left and "learning_rate" not in left and "warmup" not in left

    def test_the_arguments_that_are_known_are_those_that_are_taken(self) -> None:
        """Prevents: a list beside the functions that no longer says what they take."""
        trainer = {*inspect.signature(GRPOTrainer.__init__).parameters} - {"self"}
        assert trainer == {*ARGUMENTS, "optimizers", "rollout_func"}
        for name, taken in TAKEN.items():
            assert {*inspect.signature(getattr(FastLanguageModel, name)).parameters} - {"others"} == {*taken}

    @pytest.mark.parametrize("line", ["from heron.compat.trl import SFTTrainer", "from heron.compat.unsloth import get_chat_template"])
    def test_an_import_of_what_is_elsewhere_says_where(self, line: str) -> None:
        """Prevents: `cannot import name`, and no word of what to do."""
        with pytest.raises(ImportError, match=r"heron\.warmup|chat_template = "):
            exec(line, {})

    def test_imports_are_rewritten_and_nothing_else(self, tmp_path: Path) -> None:
        """Prevents: a file whose other lines are reformatted, an alias that is lost, an import that loses its indentation."""
        (tmp_path / "train.py").write_text(SCRIPT)
        lines = migrate(tmp_path / "train.py").text.splitlines()
        assert lines[2] == "from heron.compat.trl import GRPOConfig as Options, GRPOTrainer"
        assert lines[3:5] == ["from trl import ModelConfig", "import heron.compat.trl as trl"]
        assert lines[7] == "    from heron.compat.unsloth import SamplingParams"
        assert lines[8:] == SCRIPT.splitlines()[7:]

    def test_an_import_beside_another_statement(self, tmp_path: Path) -> None:
        """Prevents: a statement on the same line that is lost."""
        (tmp_path / "a.py").write_text("é = 1; from trl import (GRPOConfig,\n  SFTConfig); b = 2  # so\n")
        assert migrate(tmp_path / "a.py").text == (
            "é = 1; from heron.compat.trl import GRPOConfig; from trl import SFTConfig; b = 2  # so\n")

    def test_a_name_of_somebody_else_is_left_alone(self, tmp_path: Path) -> None:
        """Prevents: a rule that goes by the name alone."""
        assert not found(tmp_path, "from mine import GRPOConfig\nGRPOConfig(top_k=3)\n")

    def test_what_is_written_runs(self, tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a rewritten file that cannot be imported or trained."""
        torch.set_num_threads(1)
        script = f'''\
from trl import GRPOConfig, GRPOTrainer

def reward(completions, **kwargs):
    return [float(len(set(text))) for text in completions]

trainer = GRPOTrainer(
    "{tiny_folder("qwen3")}", reward, train_dataset=[{{"prompt": "One "}}, {{"prompt": "Two "}}],
    args=GRPOConfig("out", max_steps=1, per_device_train_batch_size=2, num_generations=2, max_completion_length=4, disable_tqdm=True),
)
trainer.train()
'''
        (tmp_path / "train.py").write_text(script)
        monkeypatch.chdir(tmp_path)
        result = CliRunner().invoke(app, ["migrate", "train.py", "--out", "new.py"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        exec(compile((tmp_path / "new.py").read_text(), "new.py", "exec"), {})
        assert (tmp_path / "out" / "run-1" / "summary.json").is_file()

    def test_what_is_no_python_is_refused(self, tmp_path: Path) -> None:
        """Prevents: a traceback."""
        with pytest.raises(ConfigError, match=r"train\.py:1 is not Python"):
            found(tmp_path, "def (:\n")
        with pytest.raises(ConfigError, match="none of"):
            found(tmp_path, "x", "train.txt")


def test_a_notebook_is_judged_by_cell(tmp_path: Path) -> None:
    """Prevents: shell lines that end the reading or are lost, and a name that another cell imported."""
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Training"]},
        {"cell_type": "code", "metadata": {}, "source": ["!pip install trl\n", "%env X=1\n", "from trl import GRPOConfig\n"]},
        {"cell_type": "code", "metadata": {}, "source": ["if True:\n", "    !nvidia-smi\n", "args = GRPOConfig(top_k=5)"]},
        {"cell_type": "code", "metadata": {}, "source": ["%%bash\n", "echo (\n"]},
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    migration = migrate(tmp_path / "a.ipynb")
    assert [(finding.place, finding.what) for finding in migration.findings] == [
        ("cell 1, line 3", "from trl import GRPOConfig"), ("cell 2, line 3", "GRPOConfig.top_k")]
    written = json.loads(migration.text)["cells"]
    assert "".join(written[1]["source"]) == "!pip install trl\n%env X=1\nfrom heron.compat.trl import GRPOConfig\n"
    assert "".join(written[2]["source"]) == "".join(cells[2]["source"]) and "".join(written[3]["source"]) == "%%bash\necho (\n"


class TestConfigs:
    CONFIG = """\
# a comment
model_name_or_path: Qwen/Qwen3-0.6B
dataset_name: my/data
learning_rate: 1.0e-5
max_steps: 100
num_generations: 4
per_device_train_batch_size: 8
use_peft: true
lora_r: 32
lora_target_modules: [q_proj, v_proj]
reward_funcs: [get_soft_overlong_punishment]
use_vllm: true
"""

    def test_it_becomes_a_recipe(self, tmp_path: Path) -> None:
        """Prevents: a recipe that is no recipe, or has Heron's defaults where TRL's were meant."""
        (tmp_path / "config.yaml").write_text(self.CONFIG)
        migration = migrate(tmp_path / "config.yaml")
        assert migration.is_complete
        (tmp_path / "recipe.toml").write_text(migration.text)
        config = load_config(tmp_path / "recipe.toml")
        assert (config.model.name, config.model.method, config.model.lora_rank) == ("Qwen/Qwen3-0.6B", "lora", 32)
        assert (config.train.learning_rate, config.train.max_steps, config.train.prompts_per_step) == (1e-5, 100, 2)
        assert config.train.adam_beta2 == 0.999 and config.rewards.functions == ("shaping.overlong(most=1280, buffer=256)",)

    def test_the_model_is_loaded_as_trls_script_loads_it(self, tmp_path: Path) -> None:
        """Prevents: a base of another type or without its 4 bits, and a dropout of TRL's scripts that goes without a word."""
        assert load_config(self.recipe(tmp_path, "")).model.dtype == "float32"
        options = "load_in_4bit: true\nuse_bnb_nested_quant: true\nbnb_4bit_quant_type: nf4\nattn_implementation: sdpa\ndtype: bfloat16\n"
        model = load_config(self.recipe(tmp_path, options)).model
        assert (model.method, model.quantization, model.double_quantization, model.dtype) == ("qlora", "nf4", True, "bfloat16")
        findings = found(tmp_path, self.CONFIG + options, "d.yaml")
        assert {findings[name].kind for name in ("use_peft", "attn_implementation")} == {"differs"}
        assert "0.05" in findings["use_peft"].text

    def recipe(self, tmp_path: Path, more: str) -> Path:
        """What becomes of the config with more options."""
        (tmp_path / "config.yaml").write_text(self.CONFIG + more)
        (tmp_path / "recipe.toml").write_text(migrate(tmp_path / "config.yaml").text)
        return tmp_path / "recipe.toml"

    def test_what_has_no_place_is_named(self, tmp_path: Path) -> None:
        """Prevents: an option that is dropped on the way into the recipe."""
        findings = found(tmp_path, self.CONFIG + "top_k: 7\nreward_model_name_or_path: some/model\nlora_dropout: 0.1\n", "c.yaml")
        refused = {finding.what: finding.line for finding in findings.values() if finding.kind == "unsupported"}
        assert refused == {"top_k": 13, "reward_model_name_or_path": 14, "lora_dropout": 15}

    def test_the_command_says_it_and_exits_with_3(self, tmp_path: Path) -> None:
        """Prevents: a report that a script cannot act on."""
        (tmp_path / "c.yaml").write_text(self.CONFIG + "top_k: 7\n")
        result = CliRunner().invoke(app, ["migrate", str(tmp_path / "c.yaml")])
        assert result.exit_code == 3 and "c.yaml:13  top_k  UNSUPPORTED" in result.output
        listed = CliRunner().invoke(app, ["migrate", str(tmp_path / "c.yaml"), "--json"])
        assert {each["what"] for each in json.loads(listed.stdout)} >= {"top_k", "use_vllm", "lora_r"}
