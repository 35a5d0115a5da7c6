"""reasoning-gym's generators: rows by a seed, held out by question, judged by Heron's verifiers and never by the library's scorers."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from heron import data
from heron.config.schema import DataConfig
from heron.config.warmup import WarmupConfig
from heron.data import gym
from heron.data.tasks.generating import is_heldout
from heron.errors import ConfigError, DataError, MissingExtra
from heron.rewards import Verdict, verifiers
from heron.types import Tags


class FakeLibrary:
    """`create_dataset` as the library has it; every scorer of its rows fails the test."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, dict[str, Any]]] = []

    def create_dataset(self, name: str, size: int, seed: int, **settings: Any) -> Any:
        self.asked.append((name, seed, settings))
        assert settings.get("max_value", 9999) > 1, "max_value must be above 1"
        most = settings.get("max_value", 9999)

        class Rows:
            def __getitem__(self, number: int) -> dict[str, Any]:
                value = (seed + number) % most
                return {"question": f"How many legs have {value} snails? ", "answer": str(value), "metadata": {}}

            def score_answer(self, *_: Any) -> float:
                raise AssertionError("the library's own scorer was asked")

        return Rows()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    fake = FakeLibrary()
    monkeypatch.setitem(sys.modules, "reasoning_gym", SimpleNamespace(create_dataset=fake.create_dataset))
    return fake


def load(**settings: Any) -> data.Dataset:
    return data.load(DataConfig(**{"dataset": "reasoning_gym:leg_counting", "limit": 40} | settings), Tags(), seed=3, eval_size=10)


def test_rows_are_drawn_from_the_seed_and_held_out_by_question(library: FakeLibrary) -> None:
    """Prevents: a measured question among the trained ones, and seeds that share all rows but one."""
    found = load()
    assert len(found.train) == 40 and len(found.heldout) == 10 and found.dropped == 0
    assert all(is_heldout(row.question) for row in found.heldout) and not any(is_heldout(row.question) for row in found.train)
    assert len({seed for _, seed, _ in library.asked}) == 2
    row = found.train[0]
    assert row.columns["verifier"] == "number" and row.columns["task"] == "reasoning_gym:leg_counting"
    assert row.question == row.question.strip() and row.answer in row.question


def test_settings_reach_the_generator(library: FakeLibrary) -> None:
    load(dataset="reasoning_gym:chain_sum(max_value=500, allow_negation=True)")
    assert library.asked[0][::2] == ("chain_sum", {"max_value": 500, "allow_negation": True})


@pytest.mark.parametrize(("name", "words"), [
    ("leg_countin", "Did you mean"), ("sudoku", "cannot be judged"), ("chain_sum(max_value=1)", "max_value must be above 1"),
    ("chain_sum(most)", "not a name with settings"),
])
def test_what_the_library_or_the_verifiers_cannot_do_is_refused(library: FakeLibrary, name: str, words: str) -> None:
    """Prevents: right answers that are judged wrong, since a puzzle has many solutions and the reference is one."""
    with pytest.raises(ConfigError, match=words):
        load(dataset=f"reasoning_gym:{name}")


def test_too_few_rows_are_an_error_and_no_endless_loop(library: FakeLibrary) -> None:
    with pytest.raises(DataError, match="only"):
        load(dataset="reasoning_gym:chain_sum(max_value=30)")


def test_absent_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(MissingExtra, match=r"heron-rl\[gym\]"):
        load()


@pytest.mark.parametrize("settings", [{"difficulty": 2}, {"split": "dev"}, {"digits": 4}, {"prompt_column": "q"}])
def test_settings_of_other_rows_are_errors(library: FakeLibrary, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="would do nothing"):
        load(**settings)


def test_demonstrations_of_it_are_refused() -> None:
    """Prevents: a warm-up on additions where another name was given."""
    with pytest.raises(ConfigError, match="makes no demonstrations"):
        WarmupConfig(dataset="reasoning_gym:chain_sum")


@pytest.mark.parametrize("name", gym.VERIFIERS)
def test_the_library_itself_makes_rows_that_their_verifier_reads(name: str) -> None:
    """Prevents: a generator under the wrong verifier, and rows that differ for the same seed."""
    rows = gym.generate(f"reasoning_gym:{name}", 10, seed=1, heldout=False)
    assert rows == gym.generate(f"reasoning_gym:{name}", 10, seed=1, heldout=False)
    assert all(verifiers[row.columns["verifier"]](str(row.answer), str(row.answer)) is Verdict.RIGHT for row in rows)
