"""The verifier `math`: what math-verify is asked, what it is never asked, and what becomes of a text that takes too long."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from heron.errors import DataError, MissingExtra, RewardError
from heron.rewards import Rubric, algebra, reward, verifiers
from heron.types import Tags

pytest.importorskip("math_verify")
math = verifiers["math"]


@pytest.mark.parametrize(
    ("answer", "reference", "verdict"),
    [
        (r"$\frac{1}{2}$", "0.5", "right"), ("0.5", r"\frac12", "right"), (r"\boxed{1/2}", r"\dfrac{1}{2}", "right"),
        ("1e3", "1,000", "right"),
        ("− 4", "-4", "right"), (r"\frac{\sqrt2}{2}", r"\frac{1}{\sqrt{2}}", "right"), ("x^2+2x+1", "(x+1)^2", "right"),
        (r"\{2, 1\}", r"\{1, 2\}", "right"), ("x=5", "5", "right"),
        (r"3\sqrt{2}", r"\sqrt{18}", "right"), (r"\pi r^2", r"\pi r^2", "right"),
        ("2^{2015}", "2^{2015}", "right"), ("0.333333", r"\frac{1}{3}", "wrong"), ("4", "-4", "wrong"), (r"\{1, 2\}", "2", "wrong"),
        ("x^2", "(x+1)^2", "wrong"), ("2+2", "4", "unreadable"), (r"(16-3-4)\times 2", "18", "unreadable"), ("36/2", "18", "unreadable"),
        (r"\frac{36}{2}", "18", "unreadable"), ("4!/6", "4", "unreadable"), (r"\sqrt{4}", "2", "unreadable"), ("2^2", "4", "unreadable"),
        (r"2+3+\sqrt3", r"5+\sqrt3", "unreadable"), ("maybe 3, maybe 4", "4", "unreadable"), (r"\boxed{3} \boxed{4}", "4", "unreadable"),
        ("__import__('os')", "4", "unreadable"), ("", "4", "unreadable"), ("9" * 1000 + "x", "4", "unreadable"),
        ("(" * 50 + "4+0" + ")" * 50, "4", "unreadable"),
    ],
)  # fmt: skip
def test_table(answer: str, reference: str, verdict: str) -> None:
    """Prevents: full marks for work left undone, for two answers, for a rounded value, or a lost sign."""
    assert math(answer, reference) == verdict


@pytest.mark.parametrize("reference", ["the answer is four", "", "$1$ and $2$", "\x00"])
def test_a_gold_that_cannot_be_read_is_a_mistake_of_the_data(make_rollout, reference: str) -> None:
    """Prevents: a row whose every answer is wrong, found at step 400."""
    with pytest.raises(RewardError, match="reference"):
        math("4", reference)
    rubric = Rubric([reward(math, right=1, wrong=0, unreadable=0)], tags=Tags())
    with pytest.raises(DataError, match=r"rows\.jsonl:1"):
        rubric.check([make_rollout(answer=reference).prompt])


def test_a_text_that_takes_too_long_is_unreadable_and_the_next_one_is_judged(monkeypatch) -> None:
    """Prevents: one completion that stands still the scoring of a whole step, and a pool that is broken after it."""
    assert math("x+1", "1+x") == "right"
    long = "+".join(["x"] * 150)
    with monkeypatch.context() as impatient:
        impatient.setattr(algebra, "SECONDS", 0.005)
        begun = time.perf_counter()
        assert math(long, "x") == "unreadable"
        assert time.perf_counter() - begun < 2
        with pytest.raises(RewardError, match="cannot be compared with itself: it was killed"):
            math(long, long)
    assert math("x+1", "1+x") == "right"


def test_an_absent_package_is_told_of_before_training(monkeypatch) -> None:
    """Prevents: a run that ends at the first answer that is not a plain number."""
    algebra._pool.cache_clear()
    monkeypatch.setattr(algebra.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"heron-rl\[math\]"):
        math("4", "4")


def test_it_works_in_any_thread() -> None:
    """Prevents: a deadline made of signals, which only the main thread hears."""
    with ThreadPoolExecutor(max_workers=4) as threads:
        assert list(threads.map(math, ["x+1", "x+2"] * 4, ["1+x"] * 8)) == ["right", "wrong"] * 4
