"""Calling reward functions: by name, in batches, async; and what happens when they raise."""

import asyncio
import functools
import subprocess
import sys
from pathlib import Path

import pytest

from heron.errors import ConfigError, RewardError
from heron.rewards import Rubric
from heron.rewards.calling import RewardFunction
from heron.rewards.watching import Log, Watch
from heron.types import Tags

TAGS = Tags()


def called(function, rollouts):
    """The scores that a function gives these rollouts; raises its first error."""
    made = RewardFunction.of(function)
    return made.outcomes(rollouts, TAGS, Log(made.name, len(rollouts)), Watch(made.name), stop=True)


def test_row_form_gets_what_it_names(make_rollout) -> None:
    """Prevents: arguments mixed up, columns turned into text, answers without their conversation."""
    seen = {}

    def spy(completion, prompt, messages, answer, tags, prefilled, completion_ids, truncated, columns, level, extra="none"):
        seen.update(locals())
        return 1.0

    rollout = make_rollout("five", answer=5, level="easy", prefilled="<think>")
    assert called(spy, [rollout]) == [1.0]
    assert seen["completion"] == "five" and seen["prompt"] == "2 + 3?" and seen["prefilled"] == "<think>"
    assert seen["answer"] == 5 and seen["level"] == "easy" and seen["extra"] == "none"
    assert seen["columns"] == {"answer": 5, "level": "easy"} and seen["tags"] is TAGS
    assert seen["completion_ids"] == [7, 8] and seen["truncated"] is False
    assert [message["role"] for message in seen["messages"]] == ["system", "user", "assistant"]
    assert seen["messages"][-1]["content"] == "five"


def test_batch_form_gets_lists_as_trl_gives_them(make_rollout) -> None:
    """Prevents: a reward function pasted from a TRL notebook that fails, or reads the wrong text."""

    def correctness_reward_func(prompts, completions, answer, **kwargs):
        responses = [completion[0]["content"] for completion in completions]
        assert [prompt[-1]["content"] for prompt in prompts] == ["2 + 3?", "2 + 3?"]
        assert kwargs["completion_ids"] == [[7, 8], [7, 8]] and kwargs["level"] == [1, None]
        return [2.0 if response == wanted else 0.0 for response, wanted in zip(responses, answer, strict=True)]

    rollouts = [make_rollout("5", answer="5", level=1), make_rollout("6", answer="5", row="rows.jsonl:2")]
    assert called(correctness_reward_func, rollouts) == [2.0, 0.0]


def test_batch_form_gets_strings_for_plain_prompts(make_rollout) -> None:
    """Prevents: message lists where the dataset's prompt was a bare string."""

    def lengths(prompts, completions):
        return [len(prompt) + len(completion) for prompt, completion in zip(prompts, completions, strict=True)]

    assert called(lengths, [make_rollout("12345", plain=True)]) == [11]


def test_function_that_edits_its_messages_leaves_the_row_alone(make_rollout) -> None:
    """Prevents: a reward function that changes the next prompt."""

    def vandal(prompts, completions):
        prompts[0][0]["content"] = "changed"
        return [0.0]

    rollout = make_rollout()
    called(vandal, [rollout])
    assert rollout.prompt.messages[0]["content"] == "Be brief."


def test_async_rows_run_together(make_rollout) -> None:
    """Prevents: judges that are asked one after another: each of these waits for the other."""
    arrived: list[str] = []

    async def judge(completion):
        arrived.append(completion)
        while len(arrived) < 2:
            await asyncio.sleep(0)
        return float(completion)

    assert called(judge, [make_rollout("1"), make_rollout("2")]) == [1.0, 2.0]


def test_async_batch_inside_a_running_loop(make_rollout) -> None:
    """Prevents: `asyncio.run() cannot be called from a running event loop` in a notebook."""

    async def judge(completions):
        await asyncio.sleep(0)
        return [0.5] * len(completions)

    async def notebook():
        return called(judge, [make_rollout()])

    assert asyncio.run(notebook()) == [0.5]


def _row(completion, answer):
    return 1 / (int(answer) - 5)


async def _async_row(completion, answer):
    return _row(completion, answer)


@pytest.mark.parametrize("function", [_row, _async_row])
def test_exception_names_function_row_completion_and_place(make_rollout, function) -> None:
    """Prevents: a typo in a reward that trains on zeros, or that cannot be found."""
    rollouts = [make_rollout("fine", answer=6), make_rollout("long " * 1000, answer=5, row="rows.jsonl:2")]
    with pytest.raises(RewardError) as caught:
        called(function, rollouts)
    message = str(caught.value)
    assert function.__name__ in message and "rows.jsonl:2" in message and "long long" in message and "..." in message and len(message) < 600
    assert "ZeroDivisionError" in message and "test_reward_calling.py:" in message
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("is_async", [False, True])
def test_exception_of_a_batch_is_chained(make_rollout, is_async: bool) -> None:
    """Prevents: an exception returned as if it were a list of scores."""

    def batch(completions):
        raise KeyError("gone")

    async def async_batch(completions):
        raise KeyError("gone")

    with pytest.raises(RewardError, match=r"2 rows from rows\.jsonl:1 on") as caught:
        called(async_batch if is_async else batch, [make_rollout(), make_rollout()])
    assert isinstance(caught.value.__cause__, KeyError)


def test_missing_names_what_neither_heron_nor_the_row_has() -> None:
    """Prevents: a misspelt column found out at the first step."""

    def row(completion, anwser, level=3):
        return 0.0

    def batch(completions, prompts, trainer_state, environments, **kwargs):
        return []

    assert RewardFunction.of(row).missing({"answer"}) == ["anwser"]
    assert RewardFunction.of(batch).missing({"answer"}) == ["environments"]


def test_keyword_catch_all_in_row_form_gets_everything(make_rollout) -> None:
    """Prevents: `**kwargs` that stays empty."""
    def function(completion, **kwargs):
        return float(kwargs["answer"])

    assert called(function, [make_rollout(answer=4)]) == [4.0]


def test_names_of_partials_and_objects() -> None:
    """Prevents: two partials logged under the name `partial`, and objects without a name."""

    class Length:
        def __call__(self, completion):
            return 0.0

    assert RewardFunction.of(functools.partial(_row, answer=3)).name == "_row"
    assert RewardFunction.of(Length()).name == "Length"


@pytest.mark.parametrize("function", [lambda *args: 0.0, "correct", 3, lambda completion, /: 0.0])
def test_what_cannot_be_called_by_name_is_refused(function) -> None:
    """Prevents: a failure in the first step that could be told at the start."""
    with pytest.raises(ConfigError):
        RewardFunction.of(function)


def quits(completion):
    sys.exit()


def quits_a_batch(completions):
    raise SystemExit(3)


async def quits_later(completion):
    raise SystemExit


async def is_cancelled(completion):
    raise asyncio.CancelledError


async def quits_a_batch_later(completions):
    raise GeneratorExit


@pytest.mark.parametrize("function", [quits, quits_a_batch, quits_later, is_cancelled, quits_a_batch_later])
@pytest.mark.filterwarnings("ignore:The reward function")
def test_a_function_that_ends_the_process_is_an_error_under_both_policies(make_rollout, function) -> None:
    """Prevents: a command that exits with 0 and without a verdict, and a run that stops without a word, by sys.exit in a reward."""
    with pytest.raises(RewardError, match=rf"(?s){function.__name__}.*(SystemExit|CancelledError|GeneratorExit).*rows\.jsonl:1"):
        Rubric([function], tags=TAGS).score([make_rollout()])
    (scored,) = Rubric([function], tags=TAGS, on_error="exclude").score([make_rollout()])
    assert scored.reward is None and function.__name__ in scored.error


def interrupts(completion):
    raise KeyboardInterrupt


async def interrupts_later(completion):
    raise KeyboardInterrupt


@pytest.mark.parametrize("function", [interrupts, interrupts_later])
def test_ctrl_c_is_not_the_functions_own(make_rollout, function) -> None:
    """Prevents: a Ctrl-C that is swallowed as a reward's failure, so that the run cannot be ended."""
    with pytest.raises(KeyboardInterrupt):
        Rubric([function], tags=TAGS, on_error="exclude").score([make_rollout()])


FORKING = """
import os, sys
sys.path.insert(0, {root!r})
from tests.rewards.conftest import make_rollout
from heron.rewards import Rubric
from heron.types import Tags

def forks(completion):
    os.fork()
    return float(completion)

def forks_and_raises(completion):
    if os.fork() == 0:
        raise ValueError
    return float(completion)

def forks_a_batch(completions):
    os.fork()
    return [float(said[-1]["content"]) for said in completions]

async def forks_later(completion):
    os.fork()
    return float(completion)

make = make_rollout.__wrapped__()
scored = Rubric([{name}], tags=Tags()).score([make(str(number)) for number in range(5)])
print([rollout.reward for rollout in scored], flush=True)
"""


@pytest.mark.parametrize("name", ["forks", "forks_and_raises", "forks_a_batch", "forks_later"])
def test_a_copy_of_the_trainer_does_not_train_on(name) -> None:
    """Prevents: a reward that forks leaves a second trainer, which writes into the same run."""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", FORKING.format(root=root, name=name)], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[0.0, 1.0, 2.0, 3.0, 4.0]\n", done.stderr
    assert f"The reward function {name} forked this process" in done.stderr
