"""The number verifier on numbers written in every supported way, and perturbed; and on a sample of GSM8K's gold answers."""

import json
from fractions import Fraction
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from heron.rewards import Verdict, verifiers
from heron.rewards.numbers import LONGEST

number = verifiers["number"]
DIGITS = [0x30, 0x660, 0x966, 0xFF10, 0x1D7CE]
MINUSES = "-−－﹣"
DRESSES = [
    "{}", "${}", "{} €", "{}%", "{}.", "**{}**", "The answer is {}.", "{} apples", "\\boxed{{{}}}", "x = {}", "<b>{}</b>", "\n{}\n", "({})",
]  # fmt: skip


@st.composite
def decimals(draw) -> tuple[str, Fraction]:
    """A number as somebody writes it, and its value."""
    whole, places = draw(st.integers(0, 10**12)), draw(st.integers(0, 6))
    digits = draw(st.text("0123456789", min_size=places, max_size=places))
    text = f"{whole:,}".replace(",", draw(st.sampled_from(["", ",", "_", "'", "\u202f"]))) + (f".{digits}" if places else "")
    value = Fraction(whole) + (Fraction(int(digits), 10**places) if places else 0)
    return text, value


@st.composite
def fractions(draw) -> tuple[str, Fraction]:
    value = Fraction(draw(st.integers(1, 10**6)), draw(st.integers(2, 10**6)))
    return (f"{value.numerator}/{value.denominator}" if value.denominator > 1 else str(value)), value


@st.composite
def scientific(draw) -> tuple[str, Fraction]:
    mantissa, exponent = draw(st.integers(1, 9999)), draw(st.integers(-12, 12))
    return f"{mantissa}{draw(st.sampled_from('eE'))}{exponent}", Fraction(mantissa) * Fraction(10) ** exponent


@st.composite
def written(draw) -> tuple[str, Fraction]:
    """In any script, with or without a sign."""
    text, value = draw(st.one_of(decimals(), fractions(), scientific()))
    zero = draw(st.sampled_from(DIGITS))
    text = "".join(chr(zero + int(c)) if c in "0123456789" else c for c in text)
    return (draw(st.sampled_from(MINUSES)) + text, -value) if draw(st.booleans()) else (text, value)


def reference(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


@settings(max_examples=400, deadline=None, derandomize=True)
@given(written(), st.sampled_from(DRESSES))
def test_any_number_in_any_form_is_right(pair, dress) -> None:
    """Prevents: a right answer that is marked wrong for how it is written."""
    text, value = pair
    assert number(dress.format(text), reference(value)) is Verdict.RIGHT


@settings(max_examples=400, deadline=None, derandomize=True)
@given(written(), st.sampled_from(DRESSES), st.fractions(-1000, 1000, max_denominator=1000).filter(bool))
def test_any_other_number_is_wrong(pair, dress, by) -> None:
    """Prevents: a tolerance, a lost sign, a lost digit."""
    text, value = pair
    assume(len(reference(value + by)) <= LONGEST)
    assert number(dress.format(text), reference(value + by)) is Verdict.WRONG


@settings(max_examples=200, deadline=None, derandomize=True)
@given(written(), written(), st.sampled_from(["{} or {}", "{} + {}", "{} * {}", "{} and {}", "{}; {}", "from {} to {}"]))
def test_two_numbers_are_no_answer(one, other, form) -> None:
    """Prevents: a bet on two answers, and a computation left undone, that are paid."""
    assert number(form.format(one[0], other[0]), reference(one[1])) is Verdict.UNREADABLE


def test_gold_answers_of_gsm8k() -> None:
    """Prevents: a gold answer that cannot be read. (benchmarks.gsm8k_verifiers takes all of them.)"""
    lines = (Path(__file__).parent / "gsm8k_sample.jsonl").read_text(encoding="utf-8").splitlines()
    golds = [json.loads(line)["answer"].rpartition("####")[2].strip() for line in lines]
    for gold, other in zip(golds, [*golds[1:], golds[0]], strict=True):
        assert number(gold, gold) is number(f"${gold}.00", gold) is Verdict.RIGHT
        assert gold == other or number(other, gold) is Verdict.WRONG
