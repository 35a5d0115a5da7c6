"""`heron check` as it is typed: the exit code, what is printed, what is not written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import heron
from heron.cli import main
from heron.errors import ConfigError


@pytest.fixture
def recipe(tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe in the folder where the command is run: a random model, rows that are in order."""
    rows = [{"question": f"What is {n} + {n}?", "answer": f"twice\n#### {2 * n}"} for n in range(10, 40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "small.toml").write_text(
        f'recipe = "gsm8k"\n[model]\nname = "{tiny_folder("qwen3")}"\ndevice = "cpu"\n[data]\ndataset = "rows.jsonl"\n'
        "[rollout]\nmax_completion_length = 12\n[evaluation]\nsize = 4\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path / "small.toml"


def run(*words: str) -> Result:
    return CliRunner().invoke(main.app, ["check", *words], catch_exceptions=False)


def test_a_model_without_signal_is_refused_with_code_3(recipe: Path) -> None:
    """Prevents: a run of hours that could not learn anything; and a check that leaves a run behind."""
    before = sorted(recipe.parent.iterdir())
    result = run("small.toml", "--prompts", "3", "--samples=2")
    assert result.exit_code == 3
    for words in ("26 to train on, 4 held out", "⟦<|user|>⟧", "strict_format", "pass@2", "RL cannot learn this yet", "Do not train yet"):
        assert words in result.output, words
    assert "3 prompts × 2 answers of at most 12 tokens" in result.output, "the cost is said"
    assert result.output.index("Asking the model") < result.output.index("pass@2")
    assert sorted(recipe.parent.iterdir()) == before


def test_without_the_probe_good_rows_and_rewards_pass(recipe: Path) -> None:
    """Prevents: a check of the data alone that needs the model's answers."""
    result = run("small.toml", "--no-probe")
    assert result.exit_code == 0 and "Nothing stands against training" in result.output
    assert "Asking the model" not in result.output and "pass@" not in result.output


def test_json_has_everything_and_nothing_else(recipe: Path) -> None:
    """Prevents: output that a script has to clean first; a long list that is cut for machines, too."""
    with (recipe.parent / "rows.jsonl").open("a") as file:
        file.write("".join(f'{{"question": "odd {n}?", "answer": "cat"}}\n' for n in range(9)) + "{\n")
    result = run("small.toml", "--json", "--prompts=2", "--samples=2", "--evaluation.size=0")
    found = json.loads(result.stdout)
    assert result.exit_code == 3 and found["refuses"] is True and found["rows"]["unusable"] == 1
    (answers,) = [finding for finding in found["findings"] if finding["topic"] == "answers"]
    assert answers["level"] == "error" and len(answers["rows"]) == 9 and "rows.jsonl:31" in answers["rows"][0]
    assert found["signal"]["prompts"] == 2 and len(found["trials"]) == 20 and found["lengths"]["percentiles"]["100"] > 100
    printed = run("small.toml", "--no-probe", "--evaluation.size=0").output
    assert "and 4 more (--json lists all)" in printed and "rows.jsonl:31" in printed and "rows.jsonl:38" not in printed


def test_hostile_rows_do_not_reach_the_terminal(recipe: Path) -> None:
    """Prevents: a row that moves the cursor, or is read as markup."""
    (recipe.parent / "rows.jsonl").write_text("".join(
        json.dumps({"question": f"[/red]\x1b[31m{n}?", "answer": str(n)}) + "\n" for n in range(8)))
    result = run("small.toml", "--no-probe")
    assert result.exit_code == 0 and "\x1b[31m" not in result.output and "[/red]␛[31m" in result.output


def test_from_python(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: reward functions from Python that only training knows; a quiet call that prints."""

    def any_answer(completion: str) -> float:
        return 1.0 if "<answer>" in completion else 0.0

    report = heron.check(recipe, rewards=[any_answer, (heron.rewards.follows_format, 0.2)], prompts=0, quiet=True)
    assert report.refuses and report.signal is None
    assert any("wrong answer is paid like a right one" in finding.text for finding in report.findings)
    assert capsys.readouterr().out == ""


def test_too_few_samples_are_refused_with_a_word(recipe: Path) -> None:
    """Prevents: a probe that has nothing to compare."""
    with pytest.raises(ConfigError, match="at least 2 answers"):
        heron.check(recipe, samples=1, quiet=True)
    assert run("small.toml", "--samples=1").exit_code == 2


def test_a_recipe_with_a_warm_up_says_what_was_asked(recipe: Path) -> None:
    """Prevents: a refusal of a bare model whose warmed-up start could learn; and a warm-up that is run by a check."""
    report = heron.check(recipe, quiet=True, warmup={"dataset": "rows.jsonl", "format": "gsm8k"})
    assert any("begins with a warm-up" in finding.text for finding in report.findings)
    assert report.signal is None and not report.refuses and "was not asked" in report.verdict
