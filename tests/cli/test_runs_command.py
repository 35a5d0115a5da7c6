"""`heron runs`, `heron runs show`, `heron runs diff`, `heron doctor`: what they print, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from heron.cli.main import app
from heron.errors import HeronError
from heron.run import Run, RunWriter
from heron.run.about import about, end_figures
from heron.run.compare import set_otherwise
from heron.run.machine import Fact

HARM = "\x1b]52;c;aGk=\x07\u202e[/red]"
CONFIG = 'recipe = "arithmetic"\n[train]\nmax_steps = 8\nlearning_rate = {rate}\nprompts_per_step = 4\n[rollout]\nnum_generations = 8\n'


def heron(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def a_run(path: Path, *, rate: float = 0.1, accuracy: float = 0.9, model: str = "embedded", end: bool = True, **changed: Any) -> Run:
    manifest = {"model": model, "method": "lora", "rewards": {"number_right": 2.0}, "versions": {"torch": "2.13"}, "seed": 0,
                "argv": [str(path)], "created": "2026-01-01T00:00:00+00:00"} | changed
    writer = RunWriter.create(path, config_toml=CONFIG.format(rate=rate), manifest=manifest)
    writer.event("start", parameters=4e9, trainable_parameters=2_000_000, prompts=4096, heldout=256)
    for step in range(1, 9):
        writer.log(step, {"reward": step / 8, "memory/peak_gib": 1.5 - step / 100, "completions/clipped_ratio": 0.9})
    for name, value in (("before", 0.1), ("after", accuracy)):
        interval = {"accuracy_low": value - 0.05, "accuracy_high": value + 0.05}
        writer.evaluation(name, [], {"accuracy": value, **interval, "problems": 64, "step": 0})
    writer.finish("finished", {"seconds": 90.0, "num_tokens": 5000}) if end else writer.close()
    return Run(path)


class TestList:
    """The bare verb lists."""

    @pytest.mark.parametrize("words", [["runs"], ["runs", "list"], ["runs", "runs"], ["runs", "list", "runs"], ["runs", "./runs"]])
    def test_the_verb_and_the_folder_may_be_left_out(self, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: `heron runs FOLDER`, which people know, being taken for a verb that does not exist."""
        a_run(tmp_path / "runs" / "first")
        monkeypatch.chdir(tmp_path)
        shown = heron(*words).output
        assert "first" in shown and "10.0 % → 90.0 %" in shown

    def test_json(self, tmp_path: Path) -> None:
        a_run(tmp_path / "first", model=HARM)
        a_run(tmp_path / "second", end=False)
        told = {each["name"]: each for each in json.loads(heron("runs", str(tmp_path), "--json").output)}
        assert told["first"]["after/accuracy"] == 0.9 and told["first"]["steps"] == 8 and told["first"]["model"] == HARM
        assert told["second"]["status"] == "interrupted" and "seconds" not in told["second"]

    def test_no_runs(self, tmp_path: Path) -> None:
        assert "There are no runs" in heron("runs", str(tmp_path)).output
        assert json.loads(heron("runs", str(tmp_path), "--json").output) == []

    def test_help_names_all_three(self) -> None:
        shown = heron("runs", "--help").output
        assert all(word in shown for word in ("list", "show", "diff"))


class TestShow:
    """One run."""

    def test_what_was_trained_on_what(self, tmp_path: Path) -> None:
        shown = " ".join(heron("runs", "show", str(a_run(tmp_path / "run").path)).output.split())
        for words in ("4.00 billion weights, 2.00 million trained", "an adapter (LoRA)", "4 096 problems", "number right (weight 2)",
                      "8 of 8 steps", "4 problems answered 8 times", "1:30", "! Many completions are cut off",
                      "90.0 % [85.0, 95.0]", "heron chat"):
            assert words in shown, words

    def test_json(self, tmp_path: Path) -> None:
        told = json.loads(heron("runs", "show", str(a_run(tmp_path / "run").path), "--json").output)
        assert told["settings"]["train"]["max_steps"] == 8 and told["figures"]["reward"] == 0.75
        assert [alert["id"] for alert in told["alerts"]] == ["truncation"] and told["alerts"][0]["advice"]

    def test_a_killed_run_says_what_it_knows(self, tmp_path: Path) -> None:
        """Prevents: a traceback about a run that has no summary, no evaluation, or was recorded by an earlier version."""
        RunWriter.create(tmp_path / "run", config_toml="", manifest={}).close()
        run = Run(tmp_path / "run")
        assert about(run)["status"] == "interrupted" and end_figures(run) == {"status": "interrupted", "steps": 0}
        assert "interrupted" in heron("runs", "show", str(run.path)).output

    def test_names_are_harmless(self, tmp_path: Path) -> None:
        """Prevents: a model's name that moves the cursor or ends the colours of the terminal."""
        run = a_run(tmp_path / "run", model=HARM, rewards={HARM: 1.0}, machine=HARM)
        for words in (["runs", "show", str(run.path)], ["runs", str(tmp_path)], ["runs", "diff", str(run.path), str(run.path)]):
            shown = heron(*words).output
            assert "\x1b]" not in shown and "\u202e" not in shown and "\x07" not in shown
        assert "[/red]" in heron("runs", "show", str(run.path)).output


class TestDiff:
    """Two runs."""

    def test_settings_come_first(self, tmp_path: Path) -> None:
        """Prevents: figures compared by someone who does not know that the runs differ in more than one setting."""
        one, other = a_run(tmp_path / "a"), a_run(tmp_path / "b", rate=0.2, accuracy=0.5, versions={"torch": "2.12"})
        assert [(each.name, each.first, each.second) for each in set_otherwise(one, other)] == [
            ("train.learning_rate", 0.1, 0.2), ("versions.torch", "2.13", "2.12")]
        shown = heron("runs", "diff", str(one.path), str(other.path)).output
        assert shown.index("train.learning_rate") < shown.index("held-out accuracy, after")
        assert "90.0 %  [85.0, 95.0]" in shown and "50.0 %  [45.0, 55.0]" in shown

    def test_what_only_one_has(self, tmp_path: Path) -> None:
        one, other = a_run(tmp_path / "a", sandbox="landlock"), a_run(tmp_path / "b", end=False)
        told = json.loads(heron("runs", "diff", str(one.path), str(other.path), "--json").output)
        assert told["set_otherwise"] == {"sandbox": ["landlock", None]} and told["came_to"]["seconds"] == [90.0, None]

    def test_nothing(self, tmp_path: Path) -> None:
        run = a_run(tmp_path / "a")
        assert "Nothing was set otherwise." in heron("runs", "diff", str(run.path), str(run.path)).output

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        result = CliRunner().invoke(app, ["runs", "diff", str(a_run(tmp_path / "a").path), str(tmp_path / "b")])
        assert isinstance(result.exception, HeronError) and "There is no run at" in str(result.exception)


class TestDoctor:
    """`heron doctor [RUN] [--json]`."""

    def test_a_run(self, tmp_path: Path) -> None:
        run = str(a_run(tmp_path / "run").path)
        assert "! Many completions are cut off" in heron("doctor", run).output
        told = json.loads(heron("doctor", run, "--json").output)
        assert told["status"] == "finished" and [alert["id"] for alert in told["alerts"]] == ["truncation"]

    def test_a_run_that_looked_wrong_for_a_while(self, tmp_path: Path) -> None:
        """Prevents: "Nothing looks wrong", without a word of what did."""
        writer = RunWriter.create(tmp_path / "run", config_toml="", manifest={})
        writer.event("alert", id="not-finite", step=3, title="A number stopped being finite", evidence=f"loss {HARM}", advice="Go back.")
        writer.finish("finished", {})
        shown = heron("doctor", str(tmp_path / "run")).output
        assert "any more" in shown and shown.index("for a while") < shown.index("finite (step 3): loss") and "\x1b]" not in shown
        told = json.loads(heron("doctor", str(tmp_path / "run"), "--json").output)
        assert told["alerts"] == [] and [(one["id"], one["step"]) for one in told["passed"]] == [("not-finite", 3)]
        assert "Looked wrong for a while: A number stopped being finite (step 3)" in heron("runs", "show", str(tmp_path / "run")).output

    def test_the_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        facts = (Fact(group="a", name="x", words=f"ill {HARM}", data=[1], advice="Mend it."),)
        monkeypatch.setattr("heron.run.machine_report", lambda: facts)
        shown = heron("doctor").output
        assert "! x" in shown and "Mend it." in shown and "\x1b]" not in shown and "[/red]" in shown
        assert json.loads(heron("doctor", "--json").output)["problems"][0]["advice"] == "Mend it."
