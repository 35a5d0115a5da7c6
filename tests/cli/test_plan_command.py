"""`heron plan` from the command line: a card, a verdict, changes, settings to paste and a file with them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from heron.cli.main import app
from heron.config import load_config
from heron.errors import ConfigError, HeronError, RunError
from heron.memory.devices import find_device

LONG = ("--gpu", "4GB", "--rollout.max_completion_length=60000", "--rollout.cache_gib=1")


def heron(*words: str) -> Result:
    return CliRunner().invoke(app, ["plan", *words])


def said(*words: str) -> str:
    result = heron(*words)
    assert result.exit_code == 0, repr(result.exception)
    return " ".join(result.output.split())


def refusal(*words: str) -> HeronError:
    error = heron(*words).exception
    assert isinstance(error, HeronError), repr(error)
    return error


def test_judge_that_is_not_counted_is_named() -> None:
    """Prevents: a run that was planned to fit and does not, for a second model."""
    small = ("--prompt-tokens", "64")
    assert "Not counted: the judge my/judge" in said(*small, "--judge.name=my/judge")
    assert "Not counted" not in said(*small, "--judge.name=m", "--judge.url=http://127.0.0.1:1/v1")
    assert "Not counted" not in said(*small, "--judge.name=start", "--model.method=lora")


def test_a_run_on_this_machine_has_a_verdict_and_a_time() -> None:
    """Prevents: a table of bytes that leaves the reader to compare and to wonder."""
    text = said("--prompt-tokens", "64")
    assert "It fits this machine's CPU" in text and "A step takes about" in text and "measured:" in text


def test_a_named_card_has_columns_for_itself_and_its_host() -> None:
    """Prevents: a plan for the machine that is there, when another was asked for."""
    text = said("--gpu", "T4")
    assert "gpu, GiB" in text and "host, GiB" in text and "It fits T4" in text and "320 GB/s" in text


def test_what_does_not_fit_comes_with_changes_that_do() -> None:
    """Prevents: a verdict without a way on."""
    text = said(*LONG)
    assert "does not fit a GPU of 4GB" in text and "It would fit with" in text
    assert "--model.gradient_checkpointing=true" in text and "times as long" in text and "heron plan --fit" in text


def test_explain_ends_every_row_with_its_bytes() -> None:
    """Prevents: a figure whose origin has to be looked up in the code."""
    plain, text = said("--gpu", "T4"), said("--gpu", "T4", "--explain")
    assert "bytes" in text and text.count(" bytes ") > plain.count(" bytes ") + 5


def test_fitted_settings_can_be_pasted_and_fit() -> None:
    """Prevents: settings that the config refuses, or that do not fit when they are typed."""
    result = heron(*LONG[:3], "--fit")
    assert result.exit_code == 0, repr(result.exception)
    line = next(line for line in result.output.splitlines() if line.startswith("--"))
    assert "It fits a GPU of 4GB" in said(*LONG[:3], *line.split())


def test_a_written_recipe_lies_on_the_given_one(tmp_path: Path) -> None:
    """Prevents: a file that loses the recipe, the words of the command line, or what was chosen."""
    out = tmp_path / "fitted.toml"
    said("arithmetic", *LONG, "--train.max_steps=7", "--fit", "--out", str(out))
    tables = tomllib.loads(out.read_text())
    config = load_config(out)
    assert tables["recipe"] == "arithmetic" and config.train.max_steps == 7 and config.rollout.max_completion_length == 60000
    assert config.data == load_config("arithmetic").data
    assert "It fits a GPU of 4GB: it needs" in said(str(out), "--gpu", "4GB")
    assert isinstance(refusal(*LONG, "--fit", "--out", str(out)), RunError)


def test_a_written_recipe_holds_the_file_that_it_was_made_from(tmp_path: Path) -> None:
    """Prevents: `recipe = "mine.toml"`, which no file can lie on."""
    mine, out = tmp_path / "mine.toml", tmp_path / "fitted.toml"
    mine.write_text('recipe = "arithmetic"\n[train]\nmax_steps = 9\nmicro_batch_tokens = 100000\n')
    said(str(mine), "--gpu", "4GB", "--fit", "--out", str(out))
    assert load_config(out).train.max_steps == 9 and load_config(out).train.micro_batch_tokens != 100000


def test_what_cannot_fit_ends_with_the_smallest_peak() -> None:
    """Prevents: settings printed as if they fitted."""
    error = refusal("--gpu", "1GB", "--rollout.max_completion_length=3000000", "--fit")
    assert isinstance(error, ConfigError) and "smallest peak" in str(error) and error.exit_code == 2


@pytest.mark.parametrize(("words", "hint"), [
    (("--gpu", "RTX-409"), "RTX-4090"), (("--out", "x.toml"), "--fit is not given"), (("--gpus", "T4"), "Did you mean --gpu?"),
])
def test_what_is_misspelt_is_refused_with_a_hint(words: tuple[str, ...], hint: str) -> None:
    """Prevents: an option that is swallowed as if it were a setting."""
    assert hint in str(refusal(*words))


def test_the_tables_of_the_page_can_be_printed() -> None:
    """Prevents: a page whose figures no one can make again."""
    assert "510.8" in said("--guide")


class TestBeforeTraining:
    """`heron train` says that memory will not suffice before it loads anything."""

    def test_a_shortage_comes_with_the_cheapest_change(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a run that dies in its first step, after minutes of loading, of what was known before."""
        from heron.training import present

        monkeypatch.setattr(present, "free_bytes", lambda device: 10 * 2**20)
        text = present.shortage(load_config("arithmetic"))
        assert text is not None and text.startswith("It does not fit this machine's CPU") and "--" in text

    def test_enough_is_not_mentioned_and_nothing_is_measured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a fifth of a second spent in every run on rates that nobody asked for."""
        from heron.training import present

        monkeypatch.setattr(present, "device_present", None)
        assert present.shortage(load_config("arithmetic")) is None

    def test_listeners_hear_it_before_anything_is_loaded(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Callable[[str], Path]
    ) -> None:
        """Prevents: a warning that comes when the memory is taken already."""
        from heron.training import assemble

        class Loaded(Exception):
            pass

        def load(*_: object, **__: object) -> None:
            raise Loaded

        monkeypatch.setattr(assemble, "shortage", lambda config: "It does not fit.")
        monkeypatch.setattr(assemble, "load_policy", load)
        config = load_config("arithmetic", {"model": {"name": str(tiny_folder("qwen3"))}})
        heard: list[tuple[str, object]] = []
        with pytest.raises(Loaded):
            assemble.assemble(config, tmp_path / "run", listeners=[lambda kind, payload: heard.append((kind, payload))])
        assert heard[0] == ("message", {"text": "It does not fit."})


def test_a_card_is_no_more_than_what_is_free() -> None:
    """Prevents: a verdict against the whole card, of which CUDA takes its part."""
    assert f"{find_device('T4').memory / 2**30:.2f} GiB can be used" in said("--gpu", "T4")
