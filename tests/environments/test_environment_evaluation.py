"""Held-out measurement of a game: its end decides, as the environment judges it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tinymodels import TAGS, load_tiny, prompt

from heron.engine import ScriptedEngine
from heron.environments import Guess, Moves, resolve_rewards
from heron.rewards import Rubric, verifiers
from heron.rollout import Collector
from heron.rollout.verdicts import Verdicts
from heron.training.evaluation import Evaluator
from heron.types import Prompt


def measured(tiny_folder: Callable[[str], Path], environment: Guess | Moves, row: Prompt, said: list[str]) -> tuple[str, dict[str, float]]:
    """The greedy verdict and the totals of a model that says these texts one after the other."""
    policy = load_tiny(tiny_folder("qwen3"))
    opening = policy.encode("<|assistant|>")[0]
    engine = ScriptedEngine(lambda ids, sibling: (*policy.encode(said[ids.count(opening) - 1]), policy.tokenizer.eos_token_id))
    rubric = Rubric(resolve_rewards(["environment.solved"], [], environment), tags=TAGS)
    evaluator = Evaluator(
        collector=Collector(policy=policy, engine=engine, environment=environment, rubric=rubric), prompts=(row,),
        verdicts=Verdicts(environment=environment, verifier=verifiers["number"], tags=TAGS), samples=2, temperature=1.0, max_tokens=60,
        seed=0,
    )
    (found,), totals = evaluator.measure()
    assert found["sample_verdicts"] == [found["verdict"]] * 2
    assert [each["role"] for each in found["conversation"]] == ["assistant", *["user", "assistant"] * (len(found["conversation"]) // 2)]
    return found["verdict"], totals


def test_game_that_is_won_in_its_last_turn_is_right(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a measurement of the first answer, or of a game of one turn."""
    row = prompt(text="Guess.", low=1, high=9, answer="6")
    verdict, totals = measured(tiny_folder, Guess(TAGS), row, ["4", "8", "7", "6"])
    assert verdict == "right" and totals["accuracy"] == totals["pass_at_1"] == totals["mean_reward"] == 1.0


def test_game_that_runs_out_of_turns_is_wrong(tiny_folder: Callable[[str], Path]) -> None:
    row = prompt(text="Guess.", low=1, high=9, answer="6")
    verdict, totals = measured(tiny_folder, Guess(TAGS, max_turns=3), row, ["4", "8", "7", "6"])
    assert verdict == "wrong" and totals["accuracy"] == totals["mean_reward"] == 0.0


def test_end_of_the_game_decides_and_not_the_words_of_the_last_answer(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a model that is right because it says the target, which everybody can read in the prompt."""
    row = prompt(text="Make 27.", numbers=[8, 1, 3], target=27, answer="27")
    assert measured(tiny_folder, Moves(TAGS, max_turns=2), row, ["8 + 1", "<SOLUTION>27</SOLUTION>"])[0] == "unreadable"
    assert measured(tiny_folder, Moves(TAGS, max_turns=2), row, ["8 + 1", "<SOLUTION>9 * 3</SOLUTION>"])[0] == "right"
