"""Exports are read again and compared with the run's own model before they get their name."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from finished_runs import QUESTIONS, make_run
from safetensors import SafetensorError
from tinymodels import TAGS, save_tiny

from heron.config import load_config
from heron.errors import ConfigError, ModelError, RunError
from heron.export import agreement, export, writing
from heron.export.agreement import compare, conversations
from heron.export.origin import GAMED
from heron.run import Run
from heron.run.alerts import CHECKS
from heron.types import Completion, FinishReason


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_float32_export_is_the_trained_model(tmp_path: Path, tiny_folder: Callable[[str], Path], method: str) -> None:
    """Prevents: exporting the base without its adapter, or weights that plain transformers reads differently."""
    from heron.models.of_run import policy_of_run

    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method=method)
    out = export(run_dir, tmp_path / "out" / "model", dtype="float32").folder
    mine, theirs = logits_of(policy_of_run(Run(run_dir)).model), logits_of(plain_model(out))
    torch.testing.assert_close(theirs, mine, atol=1e-4, rtol=1e-4)
    if method == "lora":
        assert (logits_of(plain_model(tiny_folder("qwen3"))) - mine).abs().max() > 0.1


def plain_model(folder: Path) -> Any:
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def logits_of(model: Any) -> torch.Tensor:
    token_ids = torch.tensor([[5, 17, 33, 60, 8]])
    causal = model.get_base_model() if hasattr(model, "peft_config") else model
    causal.set_attn_implementation("eager")
    with torch.no_grad():
        return model.eval()(input_ids=token_ids).logits.float()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_16_bit_export_is_one_cast_of_the_float32_merge(tmp_path: Path, tiny_folder: Callable[[str], Path], dtype: str) -> None:
    """Prevents: merging in 16 bits, which rounds the adapter away."""
    from safetensors.torch import load_file

    run_dir = make_run(tmp_path / "run", tiny_folder("llama"), method="lora", scale=1e-4)
    wide = load_file(export(run_dir, tmp_path / "wide", dtype="float32").folder / "model.safetensors")
    narrow = load_file(export(run_dir, tmp_path / "narrow", dtype=dtype).folder / "model.safetensors")
    assert all(torch.equal(weight.to(getattr(torch, dtype)), narrow[name]) for name, weight in wide.items())


def test_an_adapter_on_a_16_bit_base_exports_in_16_bits(tmp_path: Path) -> None:
    """Prevents: calling it a mismatch that the cast rounds; the card says how far the answers agree."""
    base = save_tiny("llama", tmp_path / "base", dtype=torch.bfloat16)
    out = export(make_run(tmp_path / "run", base, method="lora"), tmp_path / "out").folder
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    assert "3 greedy answers are the same tokens" in (out / "README.md").read_text()


def test_the_folder_is_whole_and_knows_nothing_of_heron(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a folder without template or tokenizer, an attention name that only Heron registers, pickled weights."""
    out = export(make_run(tmp_path / "run", tiny_folder("qwen3"), method="lora"), tmp_path / "out").folder
    names = {path.name for path in out.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "README.md"} <= names
    assert "adapter_config.json" not in names and '"heron"' not in (out / "config.json").read_text()
    assert [path.name for path in tmp_path.iterdir()].count("out") == 1 and not list(tmp_path.glob(".*partial"))


def test_the_card_tells_what_was_rewarded_and_what_changed(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a model that nobody can place."""
    base = tiny_folder("qwen3")
    card = (export(make_run(tmp_path / "run", base, method="full"), tmp_path / "out").folder / "README.md").read_text()
    assert "base_model" not in card and str(base.parent) not in card  # a folder of this machine is no name on a hub
    assert f"a model from the folder `{base.name}`" in card
    for piece in ("`number_right` | 1", "`follows_format` | 0.5", "25.0% [15.0%, 40.0%] | 75.0%", "seed | 7", "arithmetic"):
        assert piece in card
    assert "pass@1" not in card


def test_a_run_without_evaluation_says_not_measured(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a KeyError, or a card with an empty table."""
    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method="full")
    for path in (run_dir / "evaluation").iterdir():
        path.unlink()
    (run_dir / "summary.json").unlink()
    assert "Not measured." in (export(run_dir, tmp_path / "out").folder / "README.md").read_text()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_export_that_answers_otherwise_is_not_left_behind(
    tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Prevents: a broken cast or merge that is found out by the user of the model."""
    import peft
    import transformers

    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method=method)

    def forget_the_adapter(model: Any) -> Any:
        return model.unload()

    def spoil(model: Any, folder: Path, **options: Any) -> None:
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(1.2)
        save(model, folder, **options)

    save = transformers.PreTrainedModel.save_pretrained
    if method == "lora":
        monkeypatch.setattr(peft.tuners.lora.LoraModel, "merge_and_unload", forget_the_adapter)
    else:
        monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", spoil)
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(ModelError, match="does not answer like the trained one"):
            export(run_dir, tmp_path / "out", dtype=dtype)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*partial"))


def test_another_template_in_the_folder_is_an_error(
    tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: a model that is asked in words that it was not trained on, which rounding would be blamed for."""
    import transformers

    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method="full")
    save = transformers.PreTrainedTokenizerBase.save_pretrained

    def spoil(tokenizer: Any, folder: Path, **options: Any) -> None:
        save(tokenizer, folder, **options)
        (Path(folder) / "chat_template.jinja").write_text("{{ messages[0].content }}!")

    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "save_pretrained", spoil)
    with pytest.raises(ModelError, match="other tokens of a question"):
        export(run_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*partial"))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device")])
def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Prevents: a stack trace, and half a model that looks whole."""
    import transformers

    def fill(model: Any, folder: Path, **options: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise error

    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method="full")
    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", fill)
    with pytest.raises(RunError, match=r"No space left on device.*Nothing was exported"):
        export(run_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*partial"))


def test_places_that_cannot_take_an_export_are_refused_first(
    tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: an error after all the work, a bare OSError, and an export that replaces the folder that a shell is in."""
    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method="full")
    monkeypatch.setattr(writing, "load_trained", lambda run: pytest.fail("too late"))
    here, file, mounted = tmp_path / "here", tmp_path / "file", tmp_path / "mounted"
    here.mkdir()
    mounted.mkdir()
    file.write_text("mine")
    monkeypatch.chdir(here)
    with pytest.raises(RunError, match="the current folder"):
        export(run_dir, ".")
    with pytest.raises(RunError, match="There can be no folder"):
        export(run_dir, file / "out")
    monkeypatch.setattr(Path, "is_mount", lambda path: path == mounted)
    with pytest.raises(RunError, match="a disk is mounted"):
        export(run_dir, mounted)


def test_a_link_to_an_empty_folder_is_followed(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: an error when all is done, because a link cannot be replaced by a folder."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    done = export(make_run(tmp_path / "run", tiny_folder("qwen3"), method="full"), tmp_path / "link")
    assert done.folder == tmp_path / "link" and (tmp_path / "disk" / "model.safetensors").is_file() and done.folder.is_symlink()


def test_a_used_folder_and_a_wrong_dtype_are_refused(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: overwriting somebody's model, and finding the typo after minutes of merging."""
    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method="full")
    with pytest.raises(RunError, match="not empty"):
        export(run_dir, run_dir)
    with pytest.raises(ConfigError, match='Did you mean "float16"'):
        export(run_dir, tmp_path / "out", dtype="floatt16")


def said(tokens: list[int], logprobs: list[float]) -> Completion:
    return Completion(token_ids=tuple(tokens), logprobs=tuple(logprobs), finish_reason=FinishReason.STOP, policy_version=0)


def test_agreement_stops_where_answers_part() -> None:
    """Prevents: calling a tie a mismatch because of what follows it, or overlooking a jump of log-probs under equal tokens."""
    tie = compare([said([1, 2, 3], [-1.0, -0.7, -0.1])], [said([1, 4, 9], [-1.0, -0.7, -3.0])])
    assert (tie.equal, tie.gap) == (0, 0.0)
    shifted = compare([said([1, 2], [-1.0, -0.5])], [said([1, 2], [-1.0, -0.9])])
    assert shifted.equal == 1 and shifted.gap == pytest.approx(0.4)
    assert agreement.TOLERANCE < 0.4


def test_questions_are_the_runs_own(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: checking the export on text that the model never saw the like of."""
    run = Run(make_run(tmp_path / "run", tiny_folder("qwen3"), method="full"))
    config = load_config("arithmetic", {"data": {"system_prompt": "Answer in {solution_start}"}})
    asked = conversations(run, config)
    assert [messages[-1]["content"] for messages in asked] == QUESTIONS
    assert asked[0][0] == {"role": "system", "content": f"Answer in {TAGS.solution_start}"}


ALERT = {"id": "format-only", "step": 7, "title": "The format was learnt, the answer was not", "evidence": "format 98 %, right 3 %",
         "advice": "Pay more for answers."}


def test_the_card_tells_what_must_not_be_left_out(tmp_path: Path) -> None:
    """Prevents: a card without the base's license, the data's fingerprint, the hardware, or the reward hack that the run's alerts saw."""
    base = save_tiny("qwen3", tmp_path / "base")
    (base / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Base\n")
    run_dir = make_run(tmp_path / "run", base, method="full", alerts=(ALERT,))
    card = (export(run_dir, tmp_path / "out").folder / "README.md").read_text()
    for piece in ("license: apache-2.0", "fingerprint `abc123`", "hardware | x86_64 Linux", "`format-only`, step 7", "format 98 %",
                  "signs that rewards were earned otherwise"):
        assert piece in card
    (base / "README.md").unlink()
    plain = (export(make_run(tmp_path / "plain", base, method="full"), tmp_path / "second").folder / "README.md").read_text()
    assert "license:" not in plain and "they do not look for everything" in plain


def test_alerts_that_show_gaming_are_alerts_that_there_are() -> None:
    """Prevents: an alert that was renamed, and a card that no longer calls it what it is."""
    assert set(GAMED) <= set(CHECKS)
