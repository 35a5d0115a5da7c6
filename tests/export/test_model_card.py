"""A card says what is true of the run, to somebody who has never seen the machine that it was trained on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finished_runs import make_run

from heron.compat.trl import GRPOConfig, GRPOTrainer
from heron.config import load_config
from heron.config.loading import Config
from heron.export import export
from heron.export.naming import base_of, data_of, hub_id, public, title_of
from heron.export.using import fenced
from heron.models.of_run import config_of
from heron.run import Run


def card_of(run_dir: Path, out: Path, **options: Any) -> str:
    return (export(run_dir, out, **options).folder / "README.md").read_text(encoding="utf-8")


def variety(completions: list[Any], **columns: Any) -> list[float]:
    """Tells nearly any two answers apart."""
    return [len(set(str(completion))) / 10 for completion in completions]


def trl_run(folder: Path, base: Any, prompts: list[Any], **given: Any) -> Path:
    """A run of a TRL script, of one step."""
    args = GRPOConfig(output_dir=str(folder), max_steps=1, per_device_train_batch_size=4, num_generations=4, max_completion_length=6,
                      disable_tqdm=True, use_cpu=True)
    model = str(base) if isinstance(base, Path) else base
    trainer = GRPOTrainer(model, variety, args, [{"prompt": prompt} for prompt in prompts], **given)
    trainer.train()
    assert trainer.run_dir is not None
    return trainer.run_dir


def talk(question: str, system: str | None = "Be brief.") -> list[dict[str, str]]:
    opening = [] if system is None else [{"role": "system", "content": system}]
    return [*opening, {"role": "user", "content": question}]


def test_a_trl_run_is_described_as_it_was(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: tags that nobody asked for, a hash as title, "1 steps", and paths of the trainer's machine."""
    base = tiny_folder("qwen3")
    done = export(trl_run(tmp_path / "secret", base, [talk(f"What is {number}?") for number in range(4)]), tmp_path / "out", format="gguf")
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    assert f"# {base.name} after reinforcement learning\n" in card and "after 1 step of" in card and "by a training script" in card
    assert not any(word in card for word in ("<answer>", "<think>", str(tmp_path), str(base.parent), "`trl`", "verifiable"))
    assert "Not measured.\n" in card and "```\nBe brief.\n```" in card
    assert 'SYSTEM """Be brief."""' in (done.folder / "Modelfile").read_text(encoding="utf-8")


def test_system_prompts_that_differ_are_said_to(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: one row's system prompt that is called that of the run."""
    run_dir = trl_run(tmp_path, tiny_folder("qwen3"), [talk("One?"), talk("One?", system=None)])
    steps = [{"step": 1, "group": number, "sibling": 0, "question": "One?", **asked} for number, asked in
             enumerate(({"asked": talk("One?")}, {}))]
    (run_dir / "rollouts" / "step-000001.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
    done = export(run_dir, tmp_path / "out", format="gguf")
    assert "began with different system prompts" in (done.folder / "README.md").read_text(encoding="utf-8")
    assert "SYSTEM" not in (done.folder / "Modelfile").read_text(encoding="utf-8")
    assert any("the Modelfile has none" in note for note in done.notes)


def test_a_model_that_continues_texts_is_given_a_text(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: roles in the example of a model that has seen none."""
    run_dir = trl_run(tmp_path, tiny_folder("qwen3"), ["The sky is", "The sea is"])
    card = card_of(run_dir, tmp_path / "out")
    assert "It continues texts" in card and 'asked = "..."\n' in card
    assert "It continues texts" in card_of(run_dir, tmp_path / "second", format="gguf")


@pytest.mark.parametrize(("system", "in_form", "said"), [
    ("Answer in {solution_start}", (), "It was asked for its reasoning between `<start_working_out>`"),
    ("Answer in {solution_start}", (False, True), "50% of the newest answers"),
    (None, (True, True, False), "It writes its reasoning between"), (None, (False, False), None), (None, (), None),
])
def test_the_form_is_told_where_it_was_asked_for_or_is_kept(
    tmp_path: Path, tiny_folder: Callable[[str], Path], system: str | None, in_form: tuple[bool, ...], said: str | None
) -> None:
    """Prevents: tags in a card because they are in the settings, and a form that the card says nothing of."""
    sections = {} if system is None else {"data": {"system_prompt": system}}
    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method="full", **sections)
    rows = [{"id": str(number), "question": f"What is {number}?", "follows_format": value} for number, value in enumerate(in_form)]
    (run_dir / "evaluation" / "after.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    card = card_of(run_dir, tmp_path / "out")
    assert said in card if said else "<SOLUTION>" not in card


@pytest.mark.parametrize("format", ["hf", "adapter"])
def test_the_example_runs(
    tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    """Prevents: lines that a reader pastes and that do not work."""
    out = tmp_path / "out"
    card = card_of(make_run(tmp_path / "run", tiny_folder("qwen3"), method="lora"), out, format=format)
    (block,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(out)
    exec(compile(block, "<README.md>", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_a_private_path_is_in_no_card(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: somebody's name and folders in a file that is meant to be uploaded."""
    data = {"dataset": str(tmp_path / "mine" / "emails.jsonl")}
    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method="lora", data=data)
    done = export(run_dir, tmp_path / "out", format="adapter")
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in card and str(tiny_folder("qwen3").parent) not in card
    assert "`emails.jsonl`" in card and card.count(" trained on emails\n") == 1


def named(model: str, dataset: str = "openai/gsm8k") -> Config:
    return load_config("arithmetic", {"model": {"name": model}, "data": {"dataset": dataset}})


def test_names_lead_somewhere_or_are_cut(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a folder that is named as a base on a hub, which the hub refuses; a hub's name that is cut."""
    run = Run(make_run(tmp_path / "run", tiny_folder("qwen3"), method="full"))
    config = named("some/model")
    assert (hub_id(run, config), base_of(run, config), title_of(run, config)) == ("some/model", "`some/model`", "model trained on gsm8k")
    assert hub_id(run, replace(config, model=replace(config.model, name="../a b: c"))) is None
    assert title_of(run, named("embedded", "tasks.countdown")) == "Heron's embedded model trained on countdown"
    assert data_of(config) == "`openai/gsm8k`" and data_of(named("a/b", "~/x/rows.parquet")) == "`rows.parquet`"
    assert [public(name) for name in ("retry", "games/mine.py:make", "verifiers:acme/env", r"C:\Users\me\m")] == [
        "retry", "mine.py:make", "verifiers:acme/env", "m"]


def test_a_base_that_was_a_relative_folder_is_no_name_on_a_hub(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: models/base as base_model, once the run is exported from another folder than it was trained in."""
    run = Run(make_run(tmp_path / "run", tiny_folder("qwen3"), method="full"))
    folder = Path(str(run.manifest["start_model"]))
    assert hub_id(run, named(f"{folder.parent.name}/{folder.name}")) is None


def test_a_prompt_with_backticks_is_quoted() -> None:
    """Prevents: a system prompt that ends its own block."""
    prompt = "Answer in\n```json\n{}\n```\nand ```` too"
    assert fenced(prompt) == f"`````\n{prompt}\n`````"


def test_a_base_beside_another_tokenizer_keeps_its_name(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a base that is called by the folder of the run's inputs, and an adapter that nobody else can put on its base."""
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = tiny_folder("qwen3")
    given = {"processing_class": AutoTokenizer.from_pretrained(base), "peft_config": LoraConfig(r=4, target_modules=["q_proj"])}
    run_dir = trl_run(tmp_path / "named", base, [talk("One?")], **given)
    done = export(run_dir, tmp_path / "out", format="adapter")
    assert base_of_adapter(done.folder) == (str(base), None)
    assert f"# {base.name} after" in (done.folder / "README.md").read_text(encoding="utf-8")
    run, config = Run(run_dir), config_of(Run(run_dir))
    original = Path(config.model.name) / "heron_base.json"
    original.write_text(json.dumps({"name": "some/model", "same_weights": False, "revision": None}))
    assert (hub_id(run, config), title_of(run, config)) == ("some/model", "model after reinforcement learning")
    original.write_text(json.dumps({"name": "some/model", "same_weights": True, "revision": "abc"}))
    assert base_of_adapter(export(run_dir, tmp_path / "hub", format="adapter").folder) == ("some/model", "abc")
    module = trl_run(tmp_path / "held", AutoModelForCausalLM.from_pretrained(base), [talk("One?")])
    assert title_of(Run(module), config_of(Run(module))) == f"{base.name} after reinforcement learning"


def base_of_adapter(folder: Path) -> tuple[str, str | None]:
    written = json.loads((folder / "adapter_config.json").read_text())
    return written["base_model_name_or_path"], written["revision"]
