"""Every built-in reward against the table in its docstring, also with a pre-filled opening tag."""

import time

import pytest

from heron.rewards import BUILT_IN
from heron.rewards.arithmetic import number_found, number_right
from heron.rewards.calling import RewardFunction
from heron.rewards.format import approximate, follows_format
from heron.rewards.proximity import closeness
from heron.types import Tags

DEFAULT = Tags()
WORKED = "<reasoning>2+3\n=5</reasoning>\n<answer>5</answer>"


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("<reasoning>2+2=4</reasoning><answer>4</answer>", 1.0),
        ("\n<reasoning>\n2+2\n=4\n</reasoning>\n\n<answer>\n4\n</answer>\n", 1.0),
        ("<reasoning></reasoning><answer>4</answer>", 1.0),
        ("<reasoning>2+2=4</reasoning><answer> </answer>", 0.0),
        ("Sure! <reasoning>2+2=4</reasoning><answer>4</answer>", 0.0),
        ("<reasoning>2+2=4</reasoning> so <answer>4</answer>", 0.0),
        ("<reasoning>2+2=4</reasoning><answer>4</answer> Hope it helps", 0.0),
        ("2+2=4</reasoning><answer>4</answer>", 0.0),
        ("<reasoning>2+2=4<answer>4</answer>", 0.0),
        ("<reasoning>2+2=4</reasoning><answer>4", 0.0),
        ("<answer>4</answer><reasoning>2+2=4</reasoning>", 0.0),
        ("<reasoning>2+2=4</reasoning><answer>4</answer>" * 2, 0.0),
        ("<reasoning><reasoning>2+2=4</reasoning><answer>4</answer>", 0.0),
        ("<think>2+2=4</think><answer>4</answer>", 0.0),
        ("", 0.0),
    ],
)
def test_follows_format_table(tags: Tags, completion: str, score: float) -> None:
    """Prevents: reasoning of several lines without reward, and tag stuffing with one."""
    assert follows_format(completion, tags) == score


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        (WORKED, 2.0),
        ("<reasoning>2+3</reasoning><answer>5", 1.0),
        ("<answer>5</answer>", 0.0),
        (WORKED * 2, -2.0),
        ("5", -2.0),
    ],
)
def test_approximate_table(tags: Tags, completion: str, score: float) -> None:
    """Prevents: repeated tags that are paid each time."""
    assert approximate(completion, tags) == score


@pytest.mark.parametrize(
    ("completion", "found", "right"),
    [
        ("<SOLUTION>7</SOLUTION>", 1.0, 3.0),
        ("<SOLUTION>7.0 apples</SOLUTION>", 1.0, 3.0),
        ("<SOLUTION>8</SOLUTION>", 1.0, -3.0),
        ("<SOLUTION>3+4</SOLUTION>", -1.0, -3.0),
        ("<SOLUTION>6 or 7</SOLUTION>", -1.0, -3.0),
        ("<SOLUTION>cat</SOLUTION>", -1.0, -3.0),
        ("<SOLUTION>7", -1.0, -3.0),
        ("7", -1.0, -3.0),
    ],
)
def test_arithmetic_table(completion: str, found: float, right: float) -> None:
    """Prevents: luck without a reward, and a bet on two numbers with one."""
    assert number_found(completion, DEFAULT) == found
    assert number_right(completion=completion, answer="7", tags=DEFAULT) == right


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("10", "10", 1.0), ("10.0", "10", 1.0), ("9", "10", 0.5), ("11", "10", 0.5), ("8", "10", 0.25), ("7.9", "10", -0.5),
        ("3", "10", -0.5), ("-10", "10", -0.5), ("ten", "10", -1.0), ("9 or 10", "10", -1.0),
        ("0", "0", 1.0), ("0.1", "0", 0.5), ("-0.2", "0", 0.25), ("1", "0", -0.5),
        ("-10", "-10", 1.0), ("-9", "-10", 0.5), ("-12", "-10", 0.25), ("10", "-10", -0.5),
        ("1000000", "1050000", 0.5), ("0.5", "0.45", 0.5),
    ],
)  # fmt: skip
def test_closeness_table(tags: Tags, answer: str, reference: str, score: float) -> None:
    """Prevents: division by a reference of 0, and negatives whose far side counts as near."""
    assert closeness(f"<answer>{answer}</answer>", reference, tags) == score


def test_closeness_is_best_at_the_reference_and_falls_with_distance(tags: Tags) -> None:
    """Prevents: bands in the wrong order."""
    scores = [closeness(f"<answer>{value}</answer>", 100, tags) for value in (100, 105, 115, 300)]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 4
    assert scores[-1] > closeness("100", 100, tags)


COLUMNS = {
    "answer": "5", "keywords": ["5"], "recipient": "5", "phone": "5", "email": "5", "address": "5", "schema": {"type": "integer"},
    "verifier": "exact",
}  # fmt: skip
"""Whatever a built-in function may ask for."""
OF_TEXT = [name for name in BUILT_IN if not name.startswith("code.")]
"""Those that run a program have tests of their own."""


def _score(name: str, completion: str, tags: Tags, prefilled: str = "") -> float:
    function = RewardFunction.of(BUILT_IN[name])
    columns = {column: COLUMNS[column] for column in function.missing(())}
    return float(function.function(completion=completion, tags=tags, prefilled=prefilled, **columns))


@pytest.mark.parametrize("name", OF_TEXT)
def test_prefilled_opening_tag_changes_no_score(tags: Tags, name: str) -> None:
    """Prevents: a format reward that never fires because the chat template opened the reasoning."""
    whole = "<reasoning>\n2+3\n=5\n</reasoning>\n<answer>\n5\n</answer>"
    rest = whole.removeprefix("<reasoning>")
    assert _score(name, rest, tags, "<reasoning>") == _score(name, whole, tags)
    assert _score(name, rest, tags, "<reasoning>") > 0 or name.startswith("email.") or name == "format.no_stuffing"
    assert _score(name, rest.lstrip(), tags, "<reasoning>") == _score(name, whole, tags)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name.startswith(("format.", "gsm8k.strict", "gsm8k.soft"))])
def test_prefilled_tag_written_again_is_a_repeated_tag(tags: Tags, name: str) -> None:
    """Prevents: full format score for writing the opening tag a second time."""
    whole = "<reasoning>\n2+3\n=5\n</reasoning>\n<answer>\n5\n</answer>"
    assert _score(name, whole, tags, "<reasoning>") < _score(name, whole, tags)


@pytest.mark.parametrize("name", OF_TEXT)
def test_every_builtin_survives_hostile_text(tags: Tags, name: str) -> None:
    """Prevents: a completion that crashes or stalls the scoring."""
    for text in ("\x00\ud800", "<answer>" * 20_000, "<answer>" + "9" * 200_000 + "</answer>", "<answer>1e999999999</answer>"):
        begun = time.perf_counter()
        assert isinstance(_score(name, text, tags), float)
        assert time.perf_counter() - begun < 2.0
