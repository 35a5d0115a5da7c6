"""A config of TRL's command line as a recipe: what the YAML says is what the written recipe says, or a line of the report names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from heron.cli.main import app
from heron.compat.migrating import Finding, migrate
from heron.compat.migrating.options import options_as_settings
from heron.compat.notes import Kind
from heron.compat.trl.config import OF_TRAINER, defaults
from heron.config import Config, load_config
from heron.errors import ConfigError, RunError
from heron.run import Run

BASE: dict[str, Any] = {"model_name_or_path": "Qwen/Qwen3-0.6B", "dataset_name": "my/data", "max_steps": 100, "num_generations": 4}
OTHER: dict[str, Any] = {
    "max_steps": 70, "num_train_epochs": 2.0, "eval_strategy": "steps", "logging_strategy": "epoch", "report_to": "tensorboard",
    "reward_weights": [0.5], "model_init_kwargs": {"dtype": "bfloat16", "revision": "v1"}, "chat_template_kwargs": {"thinking": True},
    "output_dir": "out", "eval_steps": 20, "bf16": True, "logging_steps": 3, "num_generations_eval": 2, "max_prompt_length": 256,
    "max_tool_calling_iterations": 3, "loss_type": "dr_grpo", "scale_rewards": "batch", "optim": "adafactor", "lr_scheduler_type": "cosine",
    "save_strategy": "no", "importance_sampling_level": "sequence", "multi_objective_aggregation": "normalize_then_sum", "top_p": 1.0,
    "per_device_train_batch_size": 16, "gradient_accumulation_steps": 2, "delta": 4.0, "epsilon_high": 0.28, "max_grad_norm": 0.5,
    "warmup_steps": 5, "save_total_limit": 2, "off_policy_mask_threshold": 0.5, "use_cpu": True, "activation_checkpointing": True,
    "steps_per_generation": 2, "generation_batch_size": 16, "num_generations": 2, "temperature": 0.7, "top_entropy_quantile": 0.2,
}
"""A value of every option that is no number or truth value by default, or of which not every value may be given."""


def migrated(tmp_path: Path, **options: Any) -> tuple[dict[str, Finding], Config]:
    """The report by name, and the recipe as it is loaded."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**BASE, **options}))
    migration = migrate(tmp_path / "config.yaml")
    (tmp_path / "recipe.toml").write_text(migration.text)
    return {finding.what: finding for finding in migration.findings}, load_config(tmp_path / "recipe.toml")


def setting(config: Config, name: str) -> Any:
    section, _, key = name.partition(".")
    value = getattr(getattr(config, section), key)
    return list(value) if isinstance(value, tuple) else value


def other_value(name: str) -> Any:
    """Than TRL's default."""
    default = defaults().get(name)
    if name in OTHER:
        return OTHER[name]
    if isinstance(default, bool) or default is None:
        return not default
    return default + 1 if isinstance(default, int) else default / 2 + 0.01 if isinstance(default, float) else "something"


@pytest.mark.parametrize("name", sorted({*defaults(), *OF_TRAINER}))
def test_an_option_is_in_the_recipe_or_in_the_report(name: str, tmp_path: Path) -> None:
    """Prevents: an option that is dropped on the way into the recipe and called `as it is`."""
    given = {**({"reward_funcs": ["think_format_reward"]} if name == "reward_weights" else {}), name: other_value(name)}
    findings, config = migrated(tmp_path, **given)
    found = findings[name]
    if found.kind in (Kind.DIFFERS, Kind.UNSUPPORTED):
        return
    options = {key: value for key, value in {**BASE, **given}.items() if key in defaults()}
    becomes = {made.field: made.settings for made in options_as_settings(options)[1]}[name]
    is_idle = any(word in found.text for word in ("ithout effect", "Off in both", "cache of the forward pass", "weights are counted"))
    assert becomes or is_idle or name in ("disable_dropout", "dataloader_pin_memory", "log_on_each_node"), found
    for place, value in becomes.items():
        assert setting(config, place) == value, found


@pytest.mark.parametrize(("options", "settings"), [
    ({"learning_rate": "1e-5", "beta": 0.04}, {"train.learning_rate": 1e-5, "objective.beta": 0.04}),
    ({"reward_funcs": ["think_format_reward", "get_soft_overlong_punishment"], "reward_weights": [0.2, 0.7]}, {
        "rewards.functions": ["recipe_rewards.py:think_format_reward", "shaping.overlong(most=1280, buffer=256)"],
        "rewards.weights": [0.2, 0.7], "tags.reasoning_start": "<think>", "tags.reasoning_end": "</think>"}),
    ({"reward_funcs": ["my_lib.rewards.mine", "nothing_of_theirs", "accuracy_reward"], "reward_weights": [1, 2, 3]}, {
        "rewards.functions": ["my_lib/rewards.py:mine", "recipe_rewards.py:accuracy_reward"], "rewards.weights": [1.0, 3.0]}),
    ({"reward_model_name_or_path": "some/model", "reward_funcs": "think_format_reward", "reward_weights": [1, 2]}, {
        "rewards.functions": ["recipe_rewards.py:think_format_reward"], "rewards.weights": [2.0]}),
    ({"eval_strategy": "no"}, {"evaluation.size": 0}),
    ({"eval_strategy": "steps", "eval_steps": 20, "dataset_test_split": "held"}, {
        "evaluation.size": 64, "evaluation.steps": 20, "evaluation.samples": 4, "data.eval_split": "held"}),
    ({"per_device_train_batch_size": 1}, {"train.prompts_per_step": 1}),
    ({"eval_strategy": "steps", "logging_steps": 7}, {"evaluation.steps": 7}),
    ({"model_init_kwargs": {"dtype": "bfloat16"}, "dtype": "float32"}, {"model.dtype": "bfloat16"}),
    ({"use_peft": True}, {"model.method": "lora", "model.lora_rank": 16, "model.lora_alpha": 32}),
    ({"use_peft": True, "lora_target_modules": ["all-linear"]}, {"model.lora_target_modules": []}),
    ({"use_peft": True, "load_in_4bit": True}, {"model.double_quantization": False}),
    ({"max_steps": -1, "warmup_ratio": 0.1}, {"train.warmup_steps": 0}),
    ({"dataset_prompt_column": "problem", "system_prompt": "Think."}, {"data.prompt_column": "problem", "data.system_prompt": "Think."}),
])
def test_the_recipe_says_what_the_config_said(options: dict[str, Any], settings: dict[str, Any], tmp_path: Path) -> None:
    """Prevents: weights, tags or an evaluation that the trained run does not have, and defaults of Heron's in the place of TRL's."""
    _, config = migrated(tmp_path, **options)
    assert {name: setting(config, name) for name in settings} == settings


def test_the_report_names_what_the_file_names(tmp_path: Path) -> None:
    """Prevents: a line about an option that the file does not hold, and none about one that it holds."""
    options = {
        "max_steps": -1, "num_train_epochs": 2, "warmup_ratio": 0.1, "output_dir": "out", "logging_steps": 1, "eval_strategy": "epoch",
    }
    findings, _ = migrated(tmp_path, **options, num_train_steps=3)
    assert findings.keys() == {*BASE, *options, "num_train_steps"}
    refused = {name for name, finding in findings.items() if finding.kind is Kind.UNSUPPORTED}
    assert refused == {"max_steps", "num_train_epochs", "warmup_ratio", "eval_strategy", "num_train_steps"}
    assert "2 x the dataset's prompts / 2" in findings["num_train_epochs"].text and "--run-dir" in findings["output_dir"].text
    assert findings["logging_steps"].kind is Kind.DIFFERS


def test_weights_for_other_rewards_are_not_guessed(tmp_path: Path) -> None:
    """Prevents: weights that are laid on the wrong functions, and a recipe that cannot be loaded."""
    findings, config = migrated(tmp_path, reward_funcs=["think_format_reward"], reward_weights=[1, 2])
    assert findings["reward_weights"].kind is Kind.UNSUPPORTED and config.rewards.weights == ()


def test_rewards_that_nobody_knows_take_their_weights_with_them(tmp_path: Path) -> None:
    """Prevents: `rewards.weights = []` said of a recipe that has no such line, and two names that "is" no reward."""
    findings, config = migrated(tmp_path, reward_funcs=["accuracy", "format"], reward_weights=[1, 2])
    assert config.rewards.weights == () and findings["reward_weights"].kind is Kind.UNSUPPORTED
    assert "left out" in findings["reward_weights"].text and "[]" not in findings["reward_weights"].text
    assert findings["reward_funcs"].text.startswith("No rewards of TRL's scripts, so left out: accuracy, format.")


def test_what_becomes_of_a_text_as_prompt_is_said(tmp_path: Path) -> None:
    """Prevents: prompts that TRL has continued as they are, asked through a chat template, in a report that calls the data set renamed."""
    found = migrated(tmp_path)[0]["dataset_name"]
    assert found.kind is Kind.DIFFERS and "data.dataset = 'my/data'" in found.text and "chat template" in found.text


@pytest.mark.parametrize(("name", "value"), [
    ("learning_rate", "fast"), ("max_steps", [1]), ("num_generations", "4.5"), ("num_generations", 2.5),
])
def test_a_value_that_is_no_number_is_named(name: str, value: Any, tmp_path: Path) -> None:
    """Prevents: a traceback instead of the option that is mistyped."""
    with pytest.raises(ConfigError, match=name):
        migrated(tmp_path, **{name: value})


def test_a_whole_number_in_quotes_is_a_whole_number(tmp_path: Path) -> None:
    """Prevents: a recipe with `max_steps = 70.0`, which is refused when it is loaded."""
    _, config = migrated(tmp_path, max_steps="70", per_device_train_batch_size="8")
    assert (config.train.max_steps, config.train.prompts_per_step) == (70, 2)


def test_how_long_is_asked_where_the_file_does_not_say(tmp_path: Path) -> None:
    """Prevents: a run of Heron's own 300 steps where TRL trains three epochs, without a word."""
    (tmp_path / "config.yaml").write_text("learning_rate: 1.0e-6\n")
    (finding,) = (finding for finding in migrate(tmp_path / "config.yaml").findings if finding.kind is Kind.UNSUPPORTED)
    assert finding.what == "num_train_epochs" and "3 x the dataset's prompts / 1" in finding.text


def test_what_is_written_is_trained_by_trls_own_rewards(
    tiny_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prevents: an answer in TRL's form that is never paid, since a reward of another form stands under its name."""
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": [{"role": "user", "content": f"{n} + 1?"}], "solution": f"${n + 1}$"} for n in range(4)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {
        "model_name_or_path": str(tiny_folder("qwen3")), "dataset_name": "rows.jsonl", "max_steps": 1, "num_generations": 2,
        "per_device_train_batch_size": 2, "max_completion_length": 4, "reward_funcs": ["accuracy_reward", "think_format_reward"],
        "reward_weights": [0.2, 0.7],
    }
    Path("config.yaml").write_text(yaml.safe_dump(options))
    for words in (["migrate", "config.yaml", "--out", "new/recipe.toml"], ["train", "new/recipe.toml", "--run-dir", "run"]):
        Path("new").mkdir(exist_ok=True)
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    (line,) = Run("run").metrics()
    assert {"rewards/accuracy_reward/mean", "rewards/think_format_reward/mean"} <= line.keys()


def test_a_file_of_rewards_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a user's file that is lost to the one beside the recipe."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("max_steps: 1\nreward_funcs: [think_format_reward]\n")
    Path("recipe_rewards.py").write_text("mine = 1\n")
    with pytest.raises(RunError, match=r"recipe_rewards\.py is there already"):
        CliRunner().invoke(app, ["migrate", "config.yaml", "--out", "recipe.toml"], catch_exceptions=False)
    assert not Path("recipe.toml").exists() and Path("recipe_rewards.py").read_text() == "mine = 1\n"
