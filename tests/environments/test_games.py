"""Games: the whole state is in the messages, and the secret in none of them."""

from __future__ import annotations

from typing import Any

import pytest

from heron.config.environment import EnvironmentConfig
from heron.data.tasks import demonstrations, generate
from heron.environments import Environment, Guess, Moves, SingleTurn, make_environment, resolve_rewards
from heron.errors import ConfigError, DataError
from heron.rewards import Rubric, Verdict, verifiers
from heron.types import Completion, FinishReason, Message, Prompt, Rollout, Tags, Turn

TAGS = Tags()
GUESS = Prompt(
    id="g:1", messages=({"role": "user", "content": "Guess my number between 20 and 40."},),
    columns={"low": 20, "high": 40, "answer": "27"},
)
MOVES = Prompt(
    id="m:1", messages=({"role": "user", "content": "Make 27 from 8 1 3."},), columns={"numbers": [8, 1, 3], "target": 27, "answer": "27"},
)


def play(environment: Environment, prompt: Prompt, answers: list[str]) -> tuple[Message, ...]:
    messages = environment.start(prompt)
    for turn, answer in enumerate(answers, 1):
        messages = (*messages, {"role": "assistant", "content": answer})
        if turn in (len(answers), environment.max_turns) or environment.done(prompt, messages):
            break
        messages = (*messages, *environment.step(prompt, messages))
    return messages


def replies(messages: tuple[Message, ...]) -> list[str]:
    return [message["content"] for message in messages[1:] if message["role"] == "user"]


def scores(environment: Environment, prompt: Prompt, messages: tuple[Message, ...]) -> dict[str, Any]:
    """What a rubric of all the environment's rewards makes of a rollout with these messages."""
    names = [f"environment.{name}" for name in environment.rewards]
    rubric = Rubric(resolve_rewards(names, [], environment), tags=TAGS)
    turn = Turn(prompt_ids=(1,), completion=Completion(token_ids=(2,), logprobs=(0.0,), finish_reason=FinishReason.STOP, policy_version=0))
    rubric.check([prompt])
    (scored,) = rubric.score([Rollout(prompt=prompt, turns=(turn,), text=str(messages[-1]["content"]), messages=messages)])
    return {name.removeprefix("environment."): value for name, value in scored.rewards.items()}


class TestGuess:
    def test_hints_lead_to_the_number_and_end_there(self) -> None:
        """Prevents: hints the wrong way round, and a game that goes on behind the right guess."""
        messages = play(Guess(TAGS), GUESS, ["30", "<SOLUTION>25</SOLUTION>", "it is 27", "28"])
        assert replies(messages) == ["lower", "higher"]
        assert Guess(TAGS).verdict(GUESS, messages) is Verdict.RIGHT
        assert scores(Guess(TAGS), GUESS, messages) == {"solved": 1.0, "sense": 1.0}

    def test_what_is_no_guess_costs_a_turn_and_gives_nothing_away(self) -> None:
        """Prevents: an exception at what a model writes, a guess of two numbers at once, the secret in a reply."""
        for answer in ("", "25 or 27", "twenty", "27.5", "<SOLUTION>", "9" * 5000):
            messages = play(Guess(TAGS, max_turns=2), GUESS, [answer, "27"])
            assert "27" not in replies(messages)[0]
            assert Guess(TAGS).verdict(GUESS, messages[:2]) is not Verdict.RIGHT

    def test_only_the_last_guess_counts(self) -> None:
        """Prevents: a listing of all numbers in the reasoning that is paid as a hit."""
        messages = play(Guess(TAGS), GUESS, ["<start_working_out>27<end_working_out><SOLUTION>28</SOLUTION>"])
        assert scores(Guess(TAGS), GUESS, messages)["solved"] == 0.0

    def test_sense_is_the_share_of_guesses_within_the_hints(self) -> None:
        messages = play(Guess(TAGS), GUESS, ["30", "35", "25", "26"])
        assert scores(Guess(TAGS), GUESS, messages) == {"solved": 0.0, "sense": 0.75}

    def test_two_games_at_once_do_not_know_of_each_other(self) -> None:
        """Prevents: state in the object, which serves all rollouts."""
        game, other = Guess(TAGS), Prompt(id="g:2", messages=GUESS.messages, columns={"low": 20, "high": 40, "answer": "39"})
        first = (*game.start(GUESS), {"role": "assistant", "content": "30"})
        assert game.step(other, first)[0]["content"] == "higher"
        assert game.step(GUESS, first)[0]["content"] == "lower"

    def test_row_without_its_columns_is_refused_before_training(self) -> None:
        with pytest.raises(DataError, match="rows:7 has no column low and high"):
            Guess(TAGS).start(Prompt(id="rows:7", messages=GUESS.messages, columns={"answer": "3"}))


class TestMoves:
    def test_moves_lead_to_the_target(self) -> None:
        messages = play(Moves(TAGS), MOVES, ["8 + 1", "<SOLUTION>9 * 3</SOLUTION>"])
        assert replies(messages) == ["left: 3 9"]
        assert scores(Moves(TAGS), MOVES, messages) == {"solved": 1.0, "legal": 1.0}

    @pytest.mark.parametrize("move", ["8 * 8", "3 - 8", "8 / 3", "8 + 1 + 3", "2 + 3", "27", "", "8 ** 3", "8 / 0", "８ + 1"])
    def test_move_that_cannot_be_made_changes_nothing(self, move: str) -> None:
        """Prevents: a number used twice, numbers out of nowhere, the target that is just said."""
        messages = play(Moves(TAGS), MOVES, [move, "8 + 1", "9 * 3"])
        assert replies(messages) == ["no move; left: 8 1 3", "left: 3 9"]
        assert Moves(TAGS).verdict(MOVES, messages[:2]) is Verdict.UNREADABLE
        assert Moves(TAGS).verdict(MOVES, messages) is Verdict.RIGHT

    def test_it_is_over_where_no_move_is_left(self) -> None:
        messages = play(Moves(TAGS), MOVES, ["8 - 1", "7 * 3", "1 + 1"])
        assert len(messages) == 4
        assert Moves(TAGS).verdict(MOVES, messages) is Verdict.WRONG


@pytest.mark.parametrize(("name", "environment"), [("tasks.guess", Guess(TAGS, max_turns=9)), ("tasks.moves", Moves(TAGS, max_turns=9))])
def test_demonstrations_are_games_as_the_environment_plays_them(name: str, environment: Environment) -> None:
    """Prevents: a warm-up on replies that the environment would never give."""
    for lesson in demonstrations(name, 40, seed=1, difficulty=3, mistakes=0.4, tags=TAGS):
        answers = [m["content"] for m in lesson.prompt.messages if m["role"] == "assistant"]
        row = Prompt(id="x", messages=lesson.prompt.messages[:1], columns=lesson.prompt.columns)
        played = play(environment, row, [*answers, lesson.completion])
        assert played == (*lesson.prompt.messages, {"role": "assistant", "content": lesson.completion})


@pytest.mark.parametrize("name", ["tasks.guess", "tasks.moves"])
def test_flawless_player_solves_every_row(name: str) -> None:
    """Prevents: rows that cannot be solved, or a verdict that is never right."""
    environment: Environment = Guess(TAGS) if name == "tasks.guess" else Moves(TAGS)
    lessons = demonstrations(name, 20, seed=3, difficulty=2, mistakes=0.0, tags=TAGS)
    verdicts = [
        environment.verdict(lesson.prompt, (*lesson.prompt.messages, {"role": "assistant", "content": lesson.completion}))
        for lesson in lessons
    ]
    assert sum(verdict is Verdict.RIGHT for verdict in verdicts) >= (20 if name == "tasks.moves" else 12)


class TestMaking:
    def test_rows_of_every_task_start_in_its_environment(self) -> None:
        for name in ("guess", "moves"):
            made = make_environment(EnvironmentConfig(name=name), TAGS, verifier=verifiers["number"])
            for row in generate(f"tasks.{name}", 3, seed=0, difficulty=2):
                assert made.start(row) == row.messages

    def test_unknown_names_are_errors_with_a_suggestion(self) -> None:
        with pytest.raises(ConfigError, match="guess"):
            make_environment(EnvironmentConfig(name="gues"), TAGS, verifier=verifiers["number"])
        with pytest.raises(ConfigError, match=r"environment\.solved"):
            resolve_rewards(["environment.solve"], [], Guess(TAGS))
        with pytest.raises(ConfigError, match="has none"):
            resolve_rewards(["environment.solved"], [], SingleTurn())

    def test_weights_reach_their_functions(self) -> None:
        """Prevents: weights that slip by one where the environment's rewards stand among others."""
        found = resolve_rewards(["format.follows_format", "environment.solved", "arithmetic.number_found"], [0.1, 2.0, 0.3], Guess(TAGS))
        assert [(function.__name__, weight) for function, weight in found] == [
            ("follows_format", 0.1), ("environment.solved", 2.0), ("number_found", 0.3),
        ]

    def test_own_environment_from_a_file(self, tmp_path: Any) -> None:
        path = tmp_path / "game.py"
        path.write_text("from heron.environments import SingleTurn\nclass Twice(SingleTurn):\n    max_turns = 2\n"
                        "def make(tags): return Twice()\ndef half(tags): return object()\n")
        assert make_environment(EnvironmentConfig(name=f"{path}:make"), TAGS, verifier=verifiers["number"]).max_turns == 2
        with pytest.raises(ConfigError, match="has no max_turns"):
            make_environment(EnvironmentConfig(name=f"{path}:half"), TAGS, verifier=verifiers["number"])

    @pytest.mark.parametrize("settings", [
        {"max_turns": 3}, {"name": "guess", "tools": ("calculate",)}, {"name": "tool_use"}, {"tool_format": "plain"},
        {"name": "tool_use", "tools": ("calculate",), "tool_timeout": 2.0}, {"name": "python_tool", "tool_timeout": 0.0},
    ])
    def test_settings_that_could_do_nothing_are_errors(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            EnvironmentConfig(**settings)
