"""Generated tasks: the same for a seed, solvable, held out by question, and judged by the verifier that they name."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from typing import Any

import pytest

from heron import data
from heron.config.schema import DataConfig
from heron.config.warmup import WarmupConfig
from heron.data.demonstrations import read_lessons
from heron.data.loading import GENERATED_ROWS
from heron.data.tasks import DIFFICULTIES, TASKS, demonstrations, generate
from heron.data.tasks.answering import spoiled
from heron.data.tasks.generating import is_heldout
from heron.data.tasks.letters import PAIRS
from heron.errors import ConfigError, DataError
from heron.rewards import Rubric, Verdict, answer_text, resolve, verifiers
from heron.rewards.expression import value_of
from heron.types import Completion, FinishReason, Prompt, Rollout, Tags, Turn

TAGS = Tags()
ANSWERED = [name for name, task in TASKS.items() if task.environment == "single_turn"]
"""Tasks with one answer."""


def said(prompt: Prompt, name: str, *, mistakes: float) -> list[tuple[str, str]]:
    """Answers of demonstrations and their references."""
    lessons = demonstrations(f"tasks.{name}", 30, seed=5, difficulty=3, mistakes=mistakes, tags=TAGS)
    return [(str(answer_text(lesson.completion, TAGS)), str(lesson.prompt.answer)) for lesson in lessons]


@pytest.mark.parametrize("name", TASKS)
class TestEveryTask:
    def test_seed_decides_the_rows(self, name: str) -> None:
        """Prevents: rows that differ between processes (hash order), and seeds that do nothing."""
        first, again, other = (generate(f"tasks.{name}", 20, seed=seed, difficulty=3) for seed in (1, 1, 2))
        assert first == again != other
        assert len({row.id for row in first}) == 20

    def test_heldout_questions_are_never_trained_on_or_shown(self, name: str) -> None:
        """Prevents: a measured question that was seen."""
        heldout = {row.question for row in generate(f"tasks.{name}", 20, seed=0, difficulty=3, heldout=True)}
        assert name in REORDERED or all(is_heldout(question) for question in heldout)
        trained = {row.question for seed in range(5) for row in generate(f"tasks.{name}", 60, seed=seed, difficulty=3)}
        shown = {
            lesson.prompt.messages[0]["content"]
            for lesson in demonstrations(f"tasks.{name}", 60, seed=0, difficulty=3, mistakes=0.5, tags=TAGS)
        }
        assert not heldout & (trained | shown)

    @pytest.mark.parametrize("difficulty", DIFFICULTIES)
    def test_references_can_be_read_by_their_verifier(self, name: str, difficulty: int) -> None:
        """Prevents: a row whose every answer is an error."""
        for row in generate(f"tasks.{name}", 10, seed=3, difficulty=difficulty):
            verifiers[row.columns["verifier"]]("1", str(row.answer))
            assert row.columns["difficulty"] == difficulty and row.columns["task"] == f"tasks.{name}"

    def test_curriculum_rises(self, name: str) -> None:
        rows = generate(f"tasks.{name}", 11, seed=0, difficulty=3, curriculum=True)
        levels = [row.columns["difficulty"] for row in rows]
        assert levels == sorted(levels) and [levels.count(level) for level in (1, 2, 3)] == [3, 4, 4]

    @pytest.mark.parametrize("difficulty", [4, 5])
    def test_curriculum_of_as_many_rows_as_are_drawn_by_default(self, name: str, difficulty: int) -> None:
        """Prevents: a curriculum that cannot begin, since there are not a thousand easy sums."""
        rows = generate(f"tasks.{name}", GENERATED_ROWS, seed=0, difficulty=difficulty, curriculum=True)
        assert len({row.id for row in rows}) == GENERATED_ROWS
        levels = [row.columns["difficulty"] for row in rows]
        shares = [levels.count(level) for level in range(1, difficulty + 1)]
        assert levels == sorted(levels) and shares == sorted(shares) and min(shares) > 30


@pytest.mark.parametrize("name", ANSWERED)
class TestAnswers:
    def test_pupil_without_mistakes_is_right(self, name: str) -> None:
        """Prevents: a reference that the task's own answer does not meet."""
        verifier = verifiers[TASKS[name].verifier]
        assert {verifier(answer, reference) for answer, reference in said(PROMPTS, name, mistakes=0.0)} == {Verdict.RIGHT}

    def test_pupil_who_always_errs_is_never_right(self, name: str) -> None:
        """Prevents: demonstrations that are all right, from which nothing is left to learn."""
        verifier = verifiers[TASKS[name].verifier]
        assert Verdict.RIGHT not in {verifier(answer, reference) for answer, reference in said(PROMPTS, name, mistakes=1.0)}

    def test_reward_is_the_rows_own_verifier(self, name: str) -> None:
        (row,) = generate(f"tasks.{name}", 1, seed=0, difficulty=2)
        (lesson,) = demonstrations(f"tasks.{name}", 1, seed=0, difficulty=2, mistakes=0.0, tags=TAGS)
        rubric = Rubric(resolve(["tasks.right"]), tags=TAGS)
        rubric.check([row])
        scored = rubric.score([rollout(lesson.prompt, lesson.completion), rollout(lesson.prompt, "no tags")])
        assert [each.reward for each in scored] == [1.0, 0.0]


REORDERED = ("chain_sum", "countdown", "decimals", "moves")
"""Tasks in which the same numbers in another order are the same question."""


@pytest.mark.parametrize(("trained", "measured"), [*zip(REORDERED, REORDERED, strict=True), ("countdown", "moves")])
def test_held_out_questions_are_not_shown_in_another_order(trained: str, measured: str) -> None:
    """Prevents: a measurement of what was learnt by heart: four of ten held-out rows were trained on with their numbers reordered."""
    difficulty = 1 if trained == "decimals" else 2
    heldout = generate(f"tasks.{measured}", 120, seed=1, difficulty=difficulty, heldout=True)
    lessons = demonstrations(f"tasks.{trained}", 2000, seed=0, difficulty=difficulty, mistakes=0.0, tags=TAGS)
    shown = [*generate(f"tasks.{trained}", 2000, seed=0, difficulty=difficulty), *(lesson.prompt for lesson in lessons)]
    assert not {in_order(row) for row in heldout} & {in_order(row) for row in shown}


def in_order(row: Prompt) -> tuple[str, ...]:
    """The numbers of a question with their signs, sorted, and the target."""
    question = row.messages[0]["content"].partition(". One move")[0].removeprefix("What is ").replace("+ ", "").replace("- ", "-")
    return (str(row.columns.get("target")), *sorted(re.findall(r"-?[\d.]*\d", question)))


PROMPTS = Prompt(id="x", messages=({"role": "user", "content": "?"},))


def rollout(row: Prompt, text: str) -> Rollout:
    turn = Turn(prompt_ids=(1,), completion=Completion(token_ids=(2,), logprobs=(0.0,), finish_reason=FinishReason.STOP, policy_version=0))
    return Rollout(prompt=row, turns=(turn,), text=text, messages=(*row.messages, {"role": "assistant", "content": text}))


def rows(name: str, count: int = 100, difficulty: int = 3) -> list[Prompt]:
    return generate(f"tasks.{name}", count, seed=11, difficulty=difficulty)


class TestReferences:
    """Each by another way than the generator's."""

    def test_letters(self) -> None:
        for row in rows("reverse"):
            assert row.question == f"Reverse the letters of {''.join(reversed(str(row.answer)))}."
        for row in rows("sort"):
            word = row.question.split()[4]
            assert sorted(word) == list(str(row.answer))
        for row in rows("letter_count"):
            letter, word = row.question.split()[4], row.question.split()[6].rstrip("?")
            assert int(str(row.answer)) == sum(char == letter for char in word) > 0

    def test_brackets(self) -> None:
        for row in rows("brackets"):
            text = row.question.split()[3] + str(row.answer)
            while (shorter := text.replace("()", "").replace("[]", "").replace("{}", "").replace("<>", "")) != text:
                text = shorter
            assert text == "" and set(str(row.answer)) <= set(PAIRS.values())

    def test_numbers(self) -> None:
        for row in rows("chain_sum"):
            found = value_of(row.question.removeprefix("What is ").rstrip("?"))
            assert found is not None and found[0] == int(str(row.answer))
        for row in rows("decimals"):
            first, second = row.question.removeprefix("Which is larger, ").rstrip("?").split(" or ")
            assert float(str(row.answer)) == max(float(first), float(second)) and float(first) != float(second)
        for row in rows("remainder"):
            words = row.question.rstrip("?").split()
            assert int(words[5]) - int(str(row.answer)) == int(words[5]) // int(words[8]) * int(words[8])

    def test_sequences_have_constant_second_differences(self) -> None:
        for difficulty in (2, 5):
            for row in rows("sequence", 40, difficulty):
                shown = row.question.removeprefix("What comes next: ").rstrip("?").split(", ")
                terms = [int(term) for term in (*shown, str(row.answer))]
                steps = [after - before for before, after in pairwise(terms)]
                assert len({after - before for before, after in pairwise(steps)}) == 1

    def test_decimals_of_unlike_length_are_common(self) -> None:
        """Prevents: a task in which comparing lengths, or digits without the point, is enough."""
        pairs = [row.question.removeprefix("Which is larger, ").rstrip("?").split(" or ") for row in rows("decimals", 200)]
        unlike = [(row, pair) for row, pair in zip(rows("decimals", 200), pairs, strict=True) if len(pair[0]) != len(pair[1])]
        longer_wins = sum(str(row.answer) == max(pair, key=len) for row, pair in unlike)
        assert len(unlike) > 60 and 0.25 < longer_wins / len(unlike) < 0.75


class TestCountdown:
    @pytest.mark.parametrize(("answer", "verdict"), [
        ("8 * 3 + 1", Verdict.RIGHT), ("(1 + 8 * 3)", Verdict.RIGHT), ("8 × 3 + 1", Verdict.RIGHT), ("25", Verdict.WRONG),
        ("8 * 3 + 1 + 0", Verdict.WRONG), ("5 * 5", Verdict.WRONG), ("8 + 8 + 8 + 1", Verdict.WRONG), ("8 * 3", Verdict.WRONG),
        ("8 * 3 + 1 = 25", Verdict.UNREADABLE), ("", Verdict.UNREADABLE), ("8 * 3 + True", Verdict.UNREADABLE),
        ("25 if 1 else 8", Verdict.UNREADABLE), ("8 // 3", Verdict.UNREADABLE), ("__import__('os')", Verdict.UNREADABLE),
        ("8 ** 3 ** 8 ** 3", Verdict.UNREADABLE), ("(" * 5000, Verdict.UNREADABLE), ("1/0", Verdict.UNREADABLE),
        ("8.0 * 3", Verdict.UNREADABLE), ("-" * 190 + "8", Verdict.WRONG),
    ])
    def test_verdicts(self, answer: str, verdict: Verdict) -> None:
        """Prevents: a number said in place of an expression, numbers used twice or made up, anything that is run."""
        assert verifiers["countdown"](answer, "25 from 8 3 1") is verdict


class TestConfig:
    def test_dataset_by_name(self) -> None:
        found = data.load(DataConfig(dataset="tasks.reverse", limit=30, difficulty=2), TAGS, seed=0, eval_size=8)
        assert len(found.train) == 30 and len(found.heldout) == 8 and found.dropped == 0
        assert {row.columns["difficulty"] for row in found.train} == {2}

    def test_heldout_rows_are_of_the_full_difficulty(self) -> None:
        """Prevents: a measurement that a curriculum makes easier."""
        found = data.load(
            DataConfig(dataset="tasks.sort", limit=30, difficulty=3, curriculum=True, shuffle=False), TAGS, seed=0, eval_size=8)
        assert {row.columns["difficulty"] for row in found.heldout} == {3}
        assert [row.columns["difficulty"] for row in found.train] == [1] * 10 + [2] * 10 + [3] * 10

    @pytest.mark.parametrize("settings", [
        {"dataset": "arithmetic", "difficulty": 2}, {"dataset": "tasks.sort", "digits": 2}, {"dataset": "tasks.sort", "split": "dev"},
        {"dataset": "tasks.sort", "prompt_column": "q"}, {"dataset": "tasks.srot"},
    ])
    def test_settings_that_could_do_nothing_are_errors(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            data.load(DataConfig(**settings), TAGS, seed=0, eval_size=4)

    def test_curriculum_in_a_drawn_order_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="shuffle"):
            DataConfig(dataset="tasks.sort", curriculum=True)

    def test_curriculum_of_fewer_rows_than_difficulties(self) -> None:
        """Prevents: a share of no row that is thousands."""
        rows = generate("tasks.sort", 3, seed=0, difficulty=5, curriculum=True)
        assert [row.columns["difficulty"] for row in rows] == [2, 4, 5]

    def test_difficulty_with_few_problems_gives_all_and_the_harder_ones_share_the_rest(self) -> None:
        """Prevents: easy rows that are left out, or one difficulty that makes up for another alone."""
        rows = generate("tasks.sequence", 1000, seed=0, difficulty=4, curriculum=True)
        shares = [sum(row.columns["difficulty"] == level for row in rows) for level in (1, 2, 3, 4)]
        easy = {row.question for seed in range(9) for row in generate("tasks.sequence", 45, seed=seed, difficulty=1)}
        assert {row.question for row in rows if row.columns["difficulty"] == 1} >= easy
        assert shares[0] < 60 and shares[1] == 250 + (250 - shares[0]) // 3 and shares[3] - shares[1] <= 1

    def test_curriculum_that_has_too_few_problems_altogether_is_an_error(self) -> None:
        with pytest.raises(DataError, match="too few problems of difficulty 1 and 2 "):
            generate("tasks.sequence", 4000, seed=0, difficulty=2, curriculum=True)

    def test_too_many_rows_are_an_error_and_no_endless_loop(self) -> None:
        with pytest.raises(DataError, match="too few problems"):
            generate("tasks.moves", 4000, seed=0, difficulty=1, heldout=True)

    def test_games_are_set_aside_by_their_opening(self) -> None:
        """Prevents: a warm-up that sets half of all games aside, since each ends with the same hint."""
        lessons = read_lessons(
            WarmupConfig(dataset="tasks.guess", demonstrations=100, eval_size=10), DataConfig(dataset="tasks.guess"), TAGS, measured=[])
        assert 10 <= len(lessons.heldout) < 30
        opened = [{lesson.prompt.messages[0]["content"] for lesson in part} for part in (lessons.train, lessons.heldout)]
        assert not opened[0] & opened[1]

    @pytest.mark.parametrize("settings", [
        {"dataset": "arithmetic", "mistakes": 0.1}, {"dataset": "tasks.sort", "forget_carry": 0.1},
        {"dataset": "rows.jsonl", "mistakes": 0.1}, {"dataset": "rows.jsonl", "demonstrations": 5},
        {"mistakes": 0.1}, {"dataset": "tasks.sort", "mistakes": 1.5},
    ])
    def test_settings_of_other_demonstrations_are_errors(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            WarmupConfig(**settings)


def test_spoiled_text_differs_in_one_character() -> None:
    draw = random.Random(0)
    for text in ("-5", "a b", "}])", "4.07"):
        for _ in range(50):
            other = spoiled(text, draw)
            assert len(other) == len(text) and sum(a != b for a, b in zip(text, other, strict=True)) == 1
