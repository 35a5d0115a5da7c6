"""What becomes of a rollout that cannot be scored, what a function may record, and which rows a function is for."""

import time
import warnings

import pytest

from heron.errors import ConfigError, DataError, RewardError
from heron.objective import advantages
from heron.rewards import Rubric, for_task, gsm8k, load_functions
from heron.rewards.watching import Log, Watch
from heron.training.statistics import rollout_metrics
from heron.types import Group, Tags

TAGS = Tags()


def picky(completion):
    return 1.0 / len(completion.replace("bad", ""))


def length(completion):
    return len(completion)


@pytest.mark.filterwarnings("ignore:The reward function")
def test_an_excluded_rollout_gets_no_reward_from_anyone_and_counts_in_no_mean(make_rollout) -> None:
    """Prevents: half a total that looks like a bad answer, and siblings that are compared with it."""
    scored = Rubric([picky, length], tags=TAGS, on_error="exclude").score([make_rollout("a"), make_rollout("bad"), make_rollout("abcd")])
    assert scored[1].rewards == {"picky": None, "length": None} and scored[1].reward is None
    assert "ZeroDivisionError" in scored[1].error
    assert [rollout.reward for rollout in scored] == [2.0, None, 4.25]
    first, excluded, last = advantages([[rollout.reward for rollout in scored]])[0]
    assert excluded == 0.0 and first == -last != 0.0
    metrics = rollout_metrics([Group(prompt=scored[0].prompt, rollouts=tuple(scored))], {"picky": 1.0, "length": 1.0})
    assert metrics["rewards/excluded"] == 1 and metrics["reward"] == 3.125


def test_other_policies_are_refused() -> None:
    """Prevents: a typo that means `exclude`."""
    with pytest.raises(ConfigError, match="must be one of stop, exclude"):
        Rubric([picky], tags=TAGS, on_error="skip")


def test_every_function_tells_of_its_first_failure_with_the_traceback(make_rollout) -> None:
    """Prevents: a policy that hides the reason, and a terminal full of the same one."""
    rubric = Rubric([picky, length], tags=TAGS, on_error="exclude")
    with pytest.warns(UserWarning, match="(?s)picky.*excluded.*Traceback.*test_reward_policy") as told:
        rubric.score([make_rollout("bad"), make_rollout("bad")])
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rubric.score([make_rollout("bad")])


@pytest.mark.parametrize("returned", [[1.0], "12", [1.0, float("nan")], [True, 1.0]])
@pytest.mark.filterwarnings("ignore:The reward function")
def test_bad_batches_are_excluded_row_by_row_where_rows_are_told_apart(make_rollout, returned) -> None:
    """Prevents: a whole batch lost for one NaN, and a short list that is padded."""

    def batch(completions):
        return returned

    scored = Rubric([batch], tags=TAGS, on_error="exclude").score([make_rollout(), make_rollout()])
    told_apart = isinstance(returned, list) and len(returned) == 2
    assert [rollout.reward for rollout in scored].count(None) == (1 if told_apart else 2)


def test_recorders_of_trl_are_given_to_batches(make_rollout) -> None:
    """Prevents: a reward function from a TRL notebook that dies at log_extra, and numbers that nobody sees."""

    def judged(completions, log_extra, log_metric, **kwargs):
        log_extra("said", [text[0]["content"].upper() for text in completions])
        log_metric("share", 0.5)
        return [0.0] * len(completions)

    scored = Rubric([judged], tags=TAGS).score([make_rollout("a"), make_rollout("b")])
    assert [rollout.extras["said"] for rollout in scored] == ["A", "B"]
    assert rollout_metrics([Group(prompt=scored[0].prompt, rollouts=tuple(scored))], {"judged": 1.0})["logged/share"] == 0.5


def test_recorders_refuse_what_cannot_be_recorded() -> None:
    """Prevents: columns that slide to the neighbour, and NaN in the metrics."""
    log = Log("judged", 2)
    for values in (["one"], "ab"):
        with pytest.raises(RewardError, match="judged called log_extra"):
            log.extra("said", values)
    for value in (float("nan"), True, "1"):
        with pytest.raises(RewardError, match="judged called log_metric"):
            log.metric("share", value)


def test_a_function_that_hangs_is_named_with_its_row(make_rollout) -> None:
    """Prevents: a run that stands still and looks as if the GPU were slow."""
    told = r"slow has not come back for 0\.05 seconds; it is at row rows\.jsonl:7"
    with pytest.warns(UserWarning, match=told), Watch("slow", 0.05) as watch:
        watch.at = "row rows.jsonl:7"
        time.sleep(0.08)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Watch("quick", 0.05):
            pass
        time.sleep(0.08)


def test_each_task_has_its_own_functions(make_rollout) -> None:
    """Prevents: an e-mail that is punished for holding no number, in a mixed dataset."""
    (math,) = load_functions("gsm8k.correctness@math")
    rubric = Rubric([math, (for_task(length, "text"), 0.5), picky], tags=Tags(solution_start="<answer>", solution_end="</answer>"))
    assert rubric.names == ("correctness@math", "length@text", "picky")
    rollouts = [make_rollout("<answer>5</answer>", answer=5, task="math"), make_rollout("ab", task="text", answer="words")]
    rubric.check([rollout.prompt for rollout in rollouts])
    scored = rubric.score(rollouts)
    assert scored[0].rewards == {"correctness@math": 2.0, "length@text": None, "picky": pytest.approx(1 / 18)}
    assert scored[1].rewards == {"correctness@math": None, "length@text": 2.0, "picky": 0.5}
    with pytest.raises(DataError, match="cannot be verified"):
        rubric.check([make_rollout(answer="words", task="math").prompt])


@pytest.mark.parametrize("task", [1, 1.0, "1"])
def test_a_task_may_be_a_number(make_rollout, task) -> None:
    """Prevents: rows of task 1 that `f@1` never scores, since a name is a text."""
    (named,) = load_functions("gsm8k.correctness@1")
    rubric = Rubric([named, for_task(length, task), (for_task(picky, 2), 0.5)], tags=TAGS)
    assert rubric.names == ("correctness@1", "length@1", "picky@2")
    rubric.check([make_rollout(answer=5, task=task).prompt])
    (scored,) = rubric.score([make_rollout("ab", answer=5, task=task)])
    assert scored.rewards == {"correctness@1": 0.0, "length@1": 2.0, "picky@2": None}
    with pytest.raises(DataError, match="its task is True"):
        rubric.check([make_rollout(answer=5, task=True).prompt])


def test_a_generated_task_can_be_named() -> None:
    """Prevents: a task whose name has a colon, and so can be given no function."""
    (function,) = load_functions("tasks.right@reasoning_gym:leg_counting")
    assert Rubric([function], tags=TAGS).names == ("right@reasoning_gym:leg_counting",)


def test_a_task_that_nobody_scores_is_found_before_training(make_rollout) -> None:
    """Prevents: rows that are sampled in every step and teach nothing, for a typo in their task."""
    rubric = Rubric([for_task(gsm8k.correctness, "math"), (length, 0.0)], tags=TAGS)
    with pytest.raises(DataError, match="its task is 'maths', and there are functions for math"):
        rubric.check([make_rollout(answer=5, task="maths").prompt])


def test_settings_in_a_name(make_rollout) -> None:
    """Prevents: settings that are ignored, and a name that is run as code."""
    (overlong,) = load_functions("shaping.overlong(most=4, buffer=4)")
    assert Rubric([overlong], tags=TAGS).score([make_rollout()])[0].reward == -0.5
    for name, message in (
        ("shaping.overlong(most=__import__('os'))", "plain values"), ("shaping.overlong(mots=4)", 'Did you mean "most"'),
        ("shaping.overlong(4)", "plain values"), ("gsm8k.integer(a=1)", "no settings"), ("shaping.overlong(most=4", "plain values"),
        ("shaping.overlong(most=4, buffer=5)", "buffer <= most"), ("language.speaks(language='english')", "cannot tell"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_functions(name)
