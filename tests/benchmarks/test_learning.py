"""The table and the bar of the learning benchmark from made-up runs, and the control's shuffle."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks import learning
from benchmarks.control import ShuffledRubric
from benchmarks.learning import Outcome
from heron.rewards import Rubric
from heron.training.statistics import wilson
from heron.types import Completion, FinishReason, Prompt, Rollout, Tags, Turn


def totals(accuracy: float) -> dict[str, float]:
    low, high = wilson(256 * accuracy, 256)
    return {"problems": 256, "accuracy": accuracy, "accuracy_low": low, "accuracy_high": high,
            "pass_at_1": accuracy, "pass_at_1_low": low, "pass_at_1_high": high}


def outcome(before: float, after: float, *, seed: int = 0, is_control: bool = False) -> Outcome:
    return Outcome(seed=seed, is_control=is_control, steps=50, seconds=100.0, before=totals(before), after=totals(after))


CONTROL = outcome(0.3, 0.31, is_control=True)


@pytest.mark.parametrize(
    ("outcomes", "met"),
    [
        ([outcome(0.3, 0.95), outcome(0.3, 0.88, seed=1), CONTROL], True),
        ([outcome(0.3, 0.88), outcome(0.3, 0.95, seed=1), CONTROL], False),
        ([outcome(0.3, 0.95), outcome(0.3, 0.84, seed=1), CONTROL], False),
        ([outcome(0.5, 0.95), CONTROL], False),
        ([outcome(0.3, 0.95), outcome(0.3, 0.45, is_control=True)], False),
        ([outcome(0.3, 0.95), outcome(0.3, 0.1, is_control=True)], True),
    ],
    ids=["good", "first seed too low", "another seed too low", "start too high", "control learns", "control gets worse"],
)
def test_bar(outcomes: list[Outcome], met: bool) -> None:
    """Prevents: a bar that one good seed makes, or that holds although the control learns too."""
    assert learning.bar(outcomes).met is met
    assert learning.bar(outcomes).exit_code == (0 if met else 1)


def test_control_is_judged_by_both_measures() -> None:
    """Prevents: a start so near a tie that noise alone tips the greedy answer, and a control that hides it behind pass@1."""
    tipped = Outcome(
        seed=0, is_control=True, steps=50, seconds=100.0,
        before=totals(0.4) | {"accuracy": 0.1}, after=totals(0.4) | {"accuracy": 0.8, "accuracy_low": 0.75},
    )
    assert tipped.has_improved
    assert not learning.bar([outcome(0.3, 0.95), tipped]).met


def test_bar_line_has_all_figures() -> None:
    line = learning.bar([outcome(0.3, 0.95), outcome(0.3, 0.9, seed=1), CONTROL]).line()
    assert line.startswith("bar learning: met, 30.0% to 95.0% / 90.0%, control 30.0% to 31.0% (goal ")


def test_table_has_a_row_for_each_run() -> None:
    table = learning.table([outcome(0.3, 0.95), CONTROL], warmup_seconds=42.0)
    assert [row[0] for row in table.rows] == ["seed 0", "control, seed 0"]
    assert table.rows[0][4].startswith("95.0% (91.")
    assert "42 s" in table.notes[1]


def test_quick_is_one_seed_and_its_control(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[int, bool]] = []

    def run(seed: int, run_dir: Path, *, is_control: bool = False) -> Outcome:
        asked.append((seed, is_control))
        return CONTROL if is_control else outcome(0.3, 0.95, seed=seed)

    monkeypatch.setattr(learning, "run", run)
    monkeypatch.setattr(learning, "_warm_up", lambda: 0.0)
    assert learning.main(["--quick"]) == 0
    assert asked == [(0, False), (0, True)]
    asked.clear()
    assert learning.main([]) == 0
    assert asked == [(0, False), (1, False), (2, False), (0, True)]
    assert capsys.readouterr().out.splitlines()[-1].startswith("bar learning: met")


def length(completion: str) -> float:
    return float(len(completion))


def rollouts() -> list[Rollout]:
    completion = Completion(token_ids=(1,), logprobs=(0.0,), finish_reason=FinishReason.STOP, policy_version=0)
    prompts = [Prompt(id=name, messages=({"role": "user", "content": name},)) for name in ("a", "b")]
    return [
        Rollout(prompt=prompt, turns=(Turn(prompt_ids=(1,), completion=completion),), text=prompt.id * size)
        for prompt, sizes in zip(prompts, ((1, 2, 3), (10, 20, 30)), strict=True) for size in sizes
    ]


def test_control_keeps_rewards_within_their_group() -> None:
    """Prevents: a control that differs in more than the assignment: other groups' rewards, other texts, lost rows."""
    shuffled = ShuffledRubric(Rubric([length], tags=Tags()), seed=0).score(rollouts())
    assert [rollout.text for rollout in shuffled] == [rollout.text for rollout in rollouts()]
    assert sorted(rollout.reward or 0 for rollout in shuffled[:3]) == [1, 2, 3]
    assert sorted(rollout.reward or 0 for rollout in shuffled[3:]) == [10, 20, 30]
    assert all(rollout.rewards["length"] == rollout.reward for rollout in shuffled)


def test_control_can_stand_in_for_the_rubric() -> None:
    """Prevents: a control that the collector cannot score with, found out after minutes of training."""
    rubric = Rubric([(length, 0.5)], tags=Tags())
    shuffled = ShuffledRubric(rubric, seed=0)
    assert (shuffled.names, shuffled.weights) == (rubric.names, rubric.weights)


def test_control_gives_every_sibling_every_reward_alike() -> None:
    """Prevents: a shuffle that keeps (or always moves) a reward, and so still tells good from bad."""
    rubric = ShuffledRubric(Rubric([length], tags=Tags()), seed=0)
    seen = Counter(rubric.score(rollouts())[0].reward for _ in range(600))
    assert set(seen) == {1, 2, 3} and all(150 < count < 250 for count in seen.values())
