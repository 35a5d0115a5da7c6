"""Rubrics: weights, None, refusals, and checks before training."""

import math
from fractions import Fraction

import pytest

from heron.errors import ConfigError, DataError, RewardError
from heron.rewards import Rubric, email, follows_format, for_task, gsm8k, shaping, takes_away
from heron.types import Tags

TAGS = Tags()


def length(completion):
    return len(completion)


def sometimes(completion):
    return None if completion == "skip" else 1.0


def never(completion):
    return None


def test_total_is_the_weighted_sum_of_what_applied(make_rollout) -> None:
    """Prevents: None counted as 0, weights given to the wrong function, scores given to the wrong rollout."""
    rubric = Rubric([length, (sometimes, 10.0)], tags=TAGS)
    scored = rubric.score([make_rollout("ab"), make_rollout("skip")])
    assert rubric.names == ("length", "sometimes") and rubric.weights == (1.0, 10.0)
    assert [dict(rollout.rewards) for rollout in scored] == [
        {"length": 2.0, "sometimes": 1.0},
        {"length": 4.0, "sometimes": None},
    ]
    assert [rollout.reward for rollout in scored] == [12.0, 4.0]
    assert rubric.score([]) == []


def test_nothing_applied_is_none_and_not_zero(make_rollout) -> None:
    """Prevents: a made-up 0 for a rollout that no counting function judged; weight 0 only logs."""
    (scored,) = Rubric([never, (length, 0.0)], tags=TAGS).score([make_rollout("ab")])
    assert scored.reward is None and scored.rewards == {"never": None, "length": 2.0}


def test_scoring_leaves_its_input_as_it_was(make_rollout) -> None:
    """Prevents: rollouts that are changed under their owner."""
    rollout = make_rollout("ab")
    (scored,) = Rubric([length], tags=TAGS).score([rollout])
    assert rollout.reward is None and rollout.rewards == {} and scored.text == "ab"


@pytest.mark.parametrize("value", [
    math.nan, math.inf, -math.inf, 10**400, pytest.param(10**5000, id="long"), pytest.param([10**5000], id="longs"), True, "1", 1j, [1.0],
    {"score": 1.0},
])  # fmt: skip
def test_what_is_no_score_is_refused(make_rollout, value) -> None:
    """Prevents: NaN that poisons the batch, True for a forgotten comparison."""

    def bad(completion):
        return value

    with pytest.raises(RewardError, match=r"(?s)bad.*rows\.jsonl:1.*hello"):
        Rubric([bad], tags=TAGS).score([make_rollout("hello")])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda numpy, torch: numpy.float32(0.5), 0.5),
        (lambda numpy, torch: numpy.array(2.5), 2.5),
        (lambda numpy, torch: numpy.int64(3), 3.0),
        (lambda numpy, torch: torch.tensor(0.25), 0.25),
        (lambda numpy, torch: torch.tensor(0.25, dtype=torch.bfloat16), 0.25),
    ],
)
@pytest.mark.filterwarnings("error")
def test_single_numbers_of_arrays_are_scores(make_rollout, make, expected) -> None:
    """Prevents: a warning about overflow with each float32, and tensors that count in a batch but not in a row."""
    value = make(pytest.importorskip("numpy"), pytest.importorskip("torch"))

    def row_form(completion):
        return value

    def batch_form(completions):
        return [value for _ in completions]

    (scored,) = Rubric([row_form, batch_form], tags=TAGS).score([make_rollout("ab")])
    assert dict(scored.rewards) == {"row_form": expected, "batch_form": expected}
    assert {type(score) for score in scored.rewards.values()} == {float}


@pytest.mark.parametrize(
    "make",
    [
        lambda numpy, torch: numpy.float32("nan"),
        lambda numpy, torch: numpy.float32("inf"),
        lambda numpy, torch: numpy.array(True),
        lambda numpy, torch: numpy.bool_(True),
        lambda numpy, torch: torch.tensor(float("nan")),
        lambda numpy, torch: torch.tensor(True),
        lambda numpy, torch: torch.tensor(1j),
        lambda numpy, torch: torch.tensor([1.0]),
        lambda numpy, torch: numpy.array("1"),
    ],
)
def test_arrays_that_are_no_score_are_refused(make_rollout, make) -> None:
    """Prevents: a truth value or NaN that passes because it came in a tensor."""
    value = make(pytest.importorskip("numpy"), pytest.importorskip("torch"))

    def bad(completion):
        return value

    with pytest.raises(RewardError, match=r"(?s)bad.*rows\.jsonl:1.*hello"):
        Rubric([bad], tags=TAGS).score([make_rollout("hello")])


@pytest.mark.parametrize("returned", [[1.0], [1.0, 2.0, 3.0], 1.0, "12", None, {0: 1.0, 1: 2.0}])
def test_batch_of_wrong_length_or_shape_is_refused(make_rollout, returned) -> None:
    """Prevents: scores that slide to the neighbour, a broadcast number."""

    def bad(completions):
        return returned

    with pytest.raises(RewardError, match=r"bad.*rows\.jsonl:1"):
        Rubric([bad], tags=TAGS).score([make_rollout(), make_rollout()])


@pytest.mark.parametrize("weight", [10.0, -1e200, 1e308])
def test_total_that_cannot_be_trained_on_is_an_error(make_rollout, weight: float) -> None:
    """Prevents: an infinite reward out of finite scores, in the average of a batch."""

    def huge(completion):
        return 9e29

    with pytest.raises(RewardError, match=r"rows\.jsonl:1 is -?(9e\+30|9e\+229|inf).*weights"):
        Rubric([(huge, weight)], tags=TAGS).score([make_rollout()])
    with pytest.warns(UserWarning, match="is excluded"):
        (scored,) = Rubric([(huge, weight)], tags=TAGS, on_error="exclude").score([make_rollout()])
    assert scored.reward is None and scored.rewards == {"huge": None} and "weighted sum" in str(scored.error)


@pytest.mark.parametrize("value", [1e200, -1e200, 1.0001e30, 10**40])
def test_a_score_that_cannot_be_trained_on_is_an_error(make_rollout, value: float) -> None:
    """Prevents: a run that dies in a variance, or trains on infinity, since a score was finite and absurd."""

    def absurd(completion):
        return value

    with pytest.raises(RewardError, match=r"absurd returned .* for row rows\.jsonl:1 .*beyond ±1e\+30"):
        Rubric([absurd], tags=TAGS).score([make_rollout()])
    with pytest.warns(UserWarning, match="is excluded"):
        (scored,) = Rubric([absurd], tags=TAGS, on_error="exclude").score([make_rollout()])
    assert scored.reward is None


def test_bad_value_in_a_batch_names_its_own_row(make_rollout) -> None:
    """Prevents: an error that points at the first row of the batch."""

    def bad(completions):
        return [1.0, math.nan]

    with pytest.raises(RewardError, match=r"rows\.jsonl:2"):
        Rubric([bad], tags=TAGS).score([make_rollout(), make_rollout(row="rows.jsonl:2")])


def test_numbers_of_other_kinds_and_arrays_are_taken(make_rollout) -> None:
    """Prevents: refusing a NumPy array or a tensor, which a vectorised reward returns."""

    class Array:
        def tolist(self):
            return [1, Fraction(1, 2)]

    def vectorised(completions):
        return Array()

    scored = Rubric([vectorised], tags=TAGS).score([make_rollout(), make_rollout()])
    assert [rollout.reward for rollout in scored] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ([length, length], "named 'length'"),
        ([lambda completion: 0.0, lambda completion: 1.0], "Rename"),
        ([], "Nothing is rewarded"),
        ([(length, 0.0)], "Nothing is rewarded"),
        ([(length, math.nan)], "weight"),
        ([(length, True)], "weight"),
        ([(length, 10**401)], "weight"),
        ([(length, 10**5000)], "weight"),
        ([(length, "1")], "weight"),
    ],
)
def test_rubrics_that_cannot_work_are_refused(functions, message: str) -> None:
    """Prevents: two columns under one name, and a run that rewards nothing."""
    with pytest.raises(ConfigError, match=message):
        Rubric(functions, tags=TAGS)


def test_check_names_the_missing_column_and_the_row(make_rollout) -> None:
    """Prevents: a column that is missing in row 7000 and found out after an hour."""

    def correct(completion, anwser):
        return 0.0

    good, bad = make_rollout(anwser=1).prompt, make_rollout(answer=1, row="rows.jsonl:2").prompt
    rubric = Rubric([correct, follows_format], tags=TAGS)
    rubric.check([good])
    with pytest.raises(DataError, match=r"correct asks for 'anwser', but row rows\.jsonl:2 .* Did you mean \"answer\"\?"):
        rubric.check([good, bad])


def test_check_refuses_a_reference_that_cannot_be_read(make_rollout) -> None:
    """Prevents: one row without a number that stops the run at step 400, or marks every answer of its row wrong."""
    rubric = Rubric([gsm8k.correctness], tags=TAGS)
    rubric.check([make_rollout(answer="... #### 1,000").prompt, make_rollout(answer=2.5).prompt])
    with pytest.raises(DataError, match=r"'twelve' of row rows\.jsonl:9"):
        rubric.check([make_rollout(answer="twelve", row="rows.jsonl:9").prompt])
    with pytest.raises(DataError, match="no answer to verify against"):
        rubric.check([make_rollout(answer=None).prompt])


def test_what_only_takes_away_is_known() -> None:
    """Prevents: a penalty that nothing has earned yet, called a reward function that is dead."""
    @takes_away
    def late(completion: str) -> float:
        return 0.0

    functions = [length, shaping.overlong(), (late, 0.1), (email.too_long, -1.0), for_task(shaping.repetition(), "essay")]
    assert Rubric(functions, tags=Tags()).penalties == ("overlong", "late", "repetition@essay"), "of a negative weight, it would pay"
