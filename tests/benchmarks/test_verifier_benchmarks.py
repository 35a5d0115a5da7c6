"""The two benchmarks of verifiers: they count what goes wrong, and say so at the end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import gsm8k_verifiers, hostile_answers
from heron.rewards import Verdict

SAMPLE = Path(__file__).parents[1] / "rewards" / "gsm8k_sample.jsonl"


def test_gold_answers_meet_the_bar_and_a_lenient_verifier_misses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: a bar that is met whatever the verifier says."""
    for name in gsm8k_verifiers.FILES:
        shutil.copy(SAMPLE, tmp_path / name)
    assert gsm8k_verifiers.main(["--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "bar gsm8k_verifiers: met, 0 failures in 80 rows (goal 0)"
    monkeypatch.setattr(gsm8k_verifiers, "verifiers", {"number": lambda answer, reference: Verdict.RIGHT})
    assert gsm8k_verifiers.main(["--data", str(tmp_path)]) == 1


def test_a_verifier_that_is_fooled_or_raises_is_named() -> None:
    """Prevents: a table without the family that got through."""

    def searching(answer: str, reference: str) -> Verdict:
        if "\\sum" in answer:
            raise RecursionError
        return Verdict.RIGHT if reference in answer else Verdict.WRONG

    outcome = hostile_answers.judged(searching, list(hostile_answers.cases(200)))
    assert {"boxed_spam", "answer_list_all_numbers", "sum_1e9"} <= {*outcome.broken}
    assert outcome.verdicts["RecursionError"] > 0 and "noise" not in outcome.broken
