"""The rules of the e-mail task: titles are no names, columns that are empty pay nobody and are found before training."""

import pytest

from heron.errors import DataError
from heron.rewards import Rubric
from heron.rewards.email import exact_match, has_signature, names_recipient, required_keywords, too_long
from heron.rewards.similarity import similarity
from heron.types import Tags

TAGS = Tags()
LETTER = "Dear Anna,\nyes, of course.\nJo Smith\n+49 30 1234\njo@x.org\nUferweg 3, Berlin"


@pytest.mark.parametrize(
    ("greeting", "recipient", "score"),
    [
        ("Dear Ms Weber,", "Ms Weber", 1), ("Dear Ms Miller,", "Ms Weber", 0), ("Dear Ms,", "Ms Weber", 0),
        ("Dear Dr. Miller,", "Dr. Anna Weber", 0), ("Dear Anna,", "Prof. Dr. Anna Weber", 1), ("Dear Prof. Dr. Anna Weber,",
        "Prof. Dr. Anna Weber", 1), ("Liebe Frau Müller,", "Frau Weber", 0), ("Hi Ana,", "Anna Weber", 0), ("Dear Ms Weber,", "Weber", 1),
    ],
)  # fmt: skip
def test_a_title_is_no_name(greeting: str, recipient: str, score: float) -> None:
    """Prevents: pay for `Ms`, whoever it is."""
    assert names_recipient(f"{greeting}\nyes.", recipient, TAGS) == score


@pytest.mark.parametrize("keywords", [[4711, "refund"], "4711, refund", ("4711", "refund"), 4711])
def test_a_number_is_a_keyword(make_rollout, keywords) -> None:
    """Prevents: a crash at an order number that a file holds as a number."""
    rubric = Rubric([required_keywords], tags=TAGS)
    good = make_rollout("We are sorry about order 4711; your refund is on its way.", keywords=keywords)
    bad = make_rollout("We are sorry about order 4712; your money is on its way.", keywords=keywords)
    rubric.check([good.prompt])
    assert [rollout.reward for rollout in rubric.score([good, bad])] == [1.0, 0.0]


@pytest.mark.parametrize("empty", ["phone", "email", "address"])
@pytest.mark.parametrize("value", ["", " - ", None])
def test_an_empty_part_of_the_signature_is_refused(make_rollout, empty: str, value: str | None) -> None:
    """Prevents: a reward for a telephone number that is not there, as nothing is in every text."""
    columns = {"phone": "+49 301234", "email": "jo@x.org", "address": "Uferweg 3 Berlin"}
    rubric = Rubric([has_signature], tags=TAGS)
    rubric.check([make_rollout(**columns).prompt])
    assert has_signature(LETTER, **columns, tags=TAGS) == 1.0
    if (empty, value) == ("email", " - "):
        return
    with pytest.raises(DataError, match=rf"rows\.jsonl:1.*column {empty}"):
        rubric.check([make_rollout(**columns | {empty: value}).prompt])
    assert value is None or has_signature(LETTER, **columns | {empty: value}, tags=TAGS) == 0.0


@pytest.mark.parametrize(
    ("function", "columns"),
    [
        (required_keywords, {"keywords": []}), (required_keywords, {"keywords": " , "}), (required_keywords, {"keywords": {"a": 1}}),
        (required_keywords, {"keywords": None}), (required_keywords, {"keywords": ["a", None]}), (exact_match, {"answer": " "}),
        (exact_match, {"answer": None}), (similarity, {"answer": None}),
        (similarity, {"answer": ""}), (names_recipient, {"recipient": "Ms"}), (names_recipient, {"recipient": ""}),
        (names_recipient, {"recipient": None}), (too_long, {"most_words": "150"}), (too_long, {"most_words": 0}),
        (too_long, {"most_words": float("nan")}), (too_long, {"most_words": True}),
    ],
)  # fmt: skip
def test_a_row_that_asks_for_nothing_is_refused_before_training(make_rollout, function, columns) -> None:
    """Prevents: rows that no reply can satisfy, or every one, found after a night."""
    (name,) = columns
    with pytest.raises(DataError, match=rf"rows\.jsonl:1.*column {name}"):
        Rubric([function], tags=TAGS).check([make_rollout(**columns).prompt])


@pytest.mark.parametrize("columns", [{}, {"most_words": None}, {"most_words": 150}, {"most_words": 150.0}])
def test_the_limit_of_words(make_rollout, columns) -> None:
    """Prevents: a crash at a row whose limit is missing among rows that have one."""
    rubric = Rubric([too_long], tags=TAGS)
    rollouts = [make_rollout("word " * 150, **columns), make_rollout("word " * 151, **columns)]
    rubric.check([rollout.prompt for rollout in rollouts])
    assert [rollout.reward for rollout in rubric.score(rollouts)] == [0.0, -1.0]
