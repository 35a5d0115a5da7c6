"""`heron migrate FILE.py` of what fails when the script runs, or cannot be known before: neither is called a clean report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from heron.cli.main import app
from heron.compat.migrating import Finding, migrate

HEAD = "from trl import GRPOConfig, GRPOTrainer\nfrom peft import LoraConfig\n"


def judged(tmp_path: Path, text: str) -> dict[str, tuple[int, str]]:
    """Line and kind by what was found, after two lines of imports."""
    return {finding.what: (finding.line, str(finding.kind)) for finding in findings(tmp_path, text)}


def findings(tmp_path: Path, text: str) -> tuple[Finding, ...]:
    (tmp_path / "train.py").write_text(HEAD + text)
    return migrate(tmp_path / "train.py").findings


def test_a_dict_of_options_is_looked_into(tmp_path: Path) -> None:
    """Prevents: `GRPOConfig(**kw)` that is called fine and ends the script."""
    text = (
        "kw = dict(top_k=20,\n  generation_kwargs={'a': 1})\nmore = {'min_p': 0.1, **kw}\nargs = GRPOConfig('out', **more)\n"
        "GRPOConfig(**{'top_p': 0.5})\n"
    )
    assert judged(tmp_path, text).items() >= {
        "GRPOConfig.top_k": (3, "unsupported"), "GRPOConfig.generation_kwargs": (4, "unsupported"), "GRPOConfig.min_p": (5, "unsupported"),
        "GRPOConfig.top_p": (7, "unsupported"),
    }.items()


@pytest.mark.parametrize("text", [
    "GRPOConfig(**options)\n", "kw = dict(top_k=1)\nkw = make()\nGRPOConfig(**kw)\n", "kw = {}\nkw['top_k'] = 1\nGRPOConfig(**kw)\n",
    "kw = {}\nkw.update(top_k=1)\nGRPOConfig(**kw)\n", "def make(kw):\n    return GRPOConfig(**kw)\n", "GRPOConfig(**{name: 1})\n",
    "GRPOConfig(**{'beta': 0.0, **make()})\n", "kw = kw\nGRPOConfig(**kw)\n",
])
def test_what_cannot_be_seen_is_said_not_to_be_judged(text: str, tmp_path: Path) -> None:
    """Prevents: options that nobody looked at, counted as those that stay as they are."""
    assert judged(tmp_path, text)["GRPOConfig.**"][1] == "unseen"


def test_a_computed_value_is_judged_by_whether_every_value_is_taken(tmp_path: Path) -> None:
    """Prevents: `as it is` of an option that only some values keep, and a warning of one that any value keeps."""
    text = (
        "import os\nRATE = 1e-5\nargs = GRPOConfig(output_dir=os.getcwd(), learning_rate=rate, top_k=k, use_vllm=has_vllm,\n"
        "  lr_scheduler_type=schedule, beta=RATE, per_device_train_batch_size=n)\nLoraConfig(r=rank, lora_dropout=dropout)\n"
    )
    kinds = {what: kind for what, (_, kind) in judged(tmp_path, text).items()}
    assert kinds["GRPOConfig.output_dir"] == kinds["GRPOConfig.learning_rate"] == kinds["GRPOConfig.beta"] == "same"
    assert kinds["GRPOConfig.use_vllm"] == "differs" and "LoraConfig.r" not in kinds
    assert {name for name, kind in kinds.items() if kind == "unseen"} == {
        "GRPOConfig.top_k", "GRPOConfig.lr_scheduler_type", "GRPOConfig.per_device_train_batch_size", "LoraConfig.lora_dropout"}


def test_an_adapter_is_judged_as_a_trainer_judges_it(tmp_path: Path) -> None:
    """Prevents: a LoraConfig that ends the script after a clean report."""
    found = judged(tmp_path, (
        "LoraConfig(r=8, lora_alpha=16, task_type='CAUSAL_LM', bias='none',\n  lora_dropout=0.05,\n  target_modules='.*proj',\n"
        "  modules_to_save=['lm_head'], rr=3)\n"
    ))
    assert {what: line for what, (line, kind) in found.items() if kind == "unsupported"} == {
        "LoraConfig.lora_dropout": 4, "LoraConfig.target_modules": 5, "LoraConfig.modules_to_save": 6, "LoraConfig.rr": 6}


def test_an_adapter_of_another_trainer_is_left_alone(tmp_path: Path) -> None:
    """Prevents: an adapter judged that no trainer of ours is given."""
    (tmp_path / "a.py").write_text("from peft import LoraConfig\nLoraConfig(lora_dropout=0.1)\n")
    assert not migrate(tmp_path / "a.py").findings


def test_options_that_are_set_afterwards_are_judged(tmp_path: Path) -> None:
    """Prevents: `args.top_p = 0.5`, which is refused when it is set."""
    found = judged(tmp_path, (
        "args = GRPOConfig(num_generations=6, per_device_train_batch_size=12)\nargs.top_p = .5\nargs.beta = 0.04\nargs.no_such = 1\n"
        "args.num_generations = 5\nargs.min_p = p\nother.top_k = 3\nprint(args.no_such_either, args.beta)\n"
    ))
    assert found["GRPOConfig.top_p"] == (4, "unsupported") and found["GRPOConfig.beta"] == (5, "same")
    assert found["GRPOConfig.no_such"] == (6, "unsupported") and found["GRPOConfig.min_p"] == (8, "unseen")
    assert found["GRPOConfig.no_such_either"] == (10, "unsupported") and "GRPOConfig.top_k" not in found


def test_attributes_and_methods_of_a_trainer_are_asked_of_the_class(tmp_path: Path) -> None:
    """Prevents: an AttributeError in the last line of a script, after hours, and a list beside the class that is out of date."""
    text = (
        "trainer = GRPOTrainer('m', f)\ntrainer.train(resume_from_checkpoint=True)\ntrainer.accelerator.print('done')\n"
        "trainer.hyperparameter_search()\ntrainer.state.log_history\ntrainer.args.output_dir\ntrainer.model\ntrainer.train(trial=t)\n"
        "def other(trainer):\n    trainer.no_such\ntrainer = Else()\ntrainer.no_such\n"
    )
    found = {finding.what: finding for finding in findings(tmp_path, text) if finding.what.startswith("trainer")}
    assert {what: finding.line for what, finding in found.items()} == {
        "trainer.accelerator": 5, "trainer.hyperparameter_search": 6, "trainer.train()": 10}
    assert "with print" in found["trainer.accelerator"].text and "'trial'" in found["trainer.train()"].text


def test_a_model_of_unsloths_is_asked_too(tmp_path: Path) -> None:
    """Prevents: `model.generate` and a way of saving that are refused when the script runs, and were in no report."""
    text = (
        "from unsloth import FastLanguageModel\nmodel, tokenizer = FastLanguageModel.from_pretrained('a', trust_remote_code=trust)\n"
        "model = FastLanguageModel.get_peft_model(model, r=8)\nmodel.generate(**inputs)\n"
        "model.save_pretrained_merged('out', tokenizer, save_method='merged_4bit')\n"
        "model.save_pretrained_merged('out', tokenizer, 'lora')\n"
        "model.save_pretrained_gguf('g', tokenizer, push_to_hub=True)\nmodel.print_trainable_parameters()\n"
        "model.fast_generate(['a'], sampling_params=p)\nmodel.push_to_hub('me/it')\nmodel.max_seq_length\n"
        "model.save_pretrained('dir', max_shard_size='1GB', no_such=1)\n"
    )
    found = judged(tmp_path, text)
    assert {what: line for what, (line, kind) in found.items() if kind == "unsupported"} == {
        "model.generate": 6, "model.save_pretrained_merged()": 7, "model.save_pretrained_gguf()": 9, "model.print_trainable_parameters": 10,
        ".push_to_hub()": 12, "model.save_pretrained()": 14}
    assert found["FastLanguageModel.from_pretrained.trust_remote_code"] == (4, "unseen")


def test_the_command_lists_and_counts_what_it_did_not_judge(tmp_path: Path) -> None:
    """Prevents: exit code 0 and a summary of lines that are fine, where nobody knows."""
    (tmp_path / "train.py").write_text(HEAD + "args = GRPOConfig(**options)\n")
    result = CliRunner().invoke(app, ["migrate", str(tmp_path / "train.py")])
    assert result.exit_code == 3 and "train.py:3  GRPOConfig.**  NOT JUDGED" in result.output
    assert "2 renamed, 1 not judged." in result.output
    listed = json.loads(CliRunner().invoke(app, ["migrate", str(tmp_path / "train.py"), "--json"]).stdout)
    assert [each["kind"] for each in listed] == ["renamed", "renamed", "unseen"]


def test_a_class_made_from_theirs_is_looked_into(tmp_path: Path) -> None:
    """Prevents: a clean report of a script whose loss is its own, in a class that overrides it."""
    text = (
        "import trl\nclass Mine(GRPOTrainer):\n    def __init__(self, extra):\n        pass\n    def compute_loss(self):\n        pass\n"
        "class Args(trl.GRPOConfig):\n    extra: int = 1\nclass Fine:\n    def log(self):\n        pass\n"
    )
    assert judged(tmp_path, text).items() >= {"class Mine(GRPOTrainer)": (4, "unseen"), "Mine.compute_loss": (7, "unsupported"),
                                              "class Args(GRPOConfig)": (9, "unseen")}.items()
    assert not any(what.startswith("Fine") for what in judged(tmp_path, text))


def test_a_dtype_of_torch_is_a_value(tmp_path: Path) -> None:
    """Prevents: exit code 3, and `not judged`, of the most usual `model_init_kwargs`, which the run takes."""
    text = (
        "import torch\nargs = GRPOConfig('out', model_init_kwargs={'dtype': torch.bfloat16, 'attn_implementation': 'sdpa'})\n"
        "GRPOConfig('out', model_init_kwargs={'torch_dtype': torch.float8_e4m3fn})\n"
    )
    (named, other) = (finding for finding in findings(tmp_path, text) if finding.what == "GRPOConfig.model_init_kwargs")
    assert str(named.kind) == "differs" and "attn_implementation" in named.text and str(other.kind) == "unseen"


def test_what_answers_questions_alone_is_not_judged_as_given_to_a_trainer(tmp_path: Path) -> None:
    """Prevents: lines about `vllm_sampling_params` that a script does not have, which hide those that matter."""
    text = "from vllm import SamplingParams\nparams = SamplingParams(temperature=0.8, top_p=0.95, max_tokens=9)\n"
    assert not any(what.startswith("SamplingParams.") for what in judged(tmp_path, text))
    given = judged(tmp_path, text + "GRPOConfig('out', vllm_sampling_params=params)\n")
    assert given["SamplingParams.top_p"] == (4, "differs")
