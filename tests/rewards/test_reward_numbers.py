"""Reading numbers: the table of `heron.rewards.numbers`, and the traps of existing graders."""

from fractions import Fraction

import pytest

from heron.errors import RewardError
from heron.rewards.numbers import bare_number, last_number, number, only_number

READ = {
    "18": 18, "0": 0, "007": 7, "-5": -5, "+5": 5, "2.5": "5/2", ".5": "1/2", "-.5": "-1/2", "18.": 18, "18.00": 18,
    "1.000": 1, "1,000": 1000, "1,000,000.5": "2000001/2", "1_000": 1000, "1'000": 1000, "1’000": 1000,
    "1\u00a0000": 1000, "1\u202f000": 1000, "100,200": 100200,
    "− 5": -5, "−5": -5, "–5": -5, "－5": -5, "- 5": -5, "x = - 5": -5, "(-5)": -5, "\\boxed{-5}": -5,
    "$18": 18, "-$5": -5, "$-5": -5, "$ 1,000.50": "2001/2", "\\$18": 18, "18 €": 18, "€18": 18, "₹500": 500, "$.50": "1/2",
    "18%": 18, "50 %": 50, "18 apples": 18, "5kg": 5, "The answer is 18.": 18, "**18**": 18, "3rd": 3,
    "3/4": "3/4", "-7/2": "-7/2", "3/4.": "3/4", "1e3": 1000, "2.5E-2": "1/40", "1e+3": 1000,
    "١٢": 12, "１２": 12, "1\u200b8": 18, "\u202e18": 18, "答案是18": 18, "答案是-5": -5,
    "<b>18</b>": 18, "<h1>18</h1>": 18, "x2 is 5": 5, "H2O: 3": 3, "\n 18 \n": 18, "5\x00": 5,
}  # fmt: skip

NOT_ONE: dict[str, str] = {
    "": "nothing", "cat": "words", "twelve": "words", "IV": "roman", "x2": "a name", "-": "a sign", "½": "a vulgar fraction",
    "3 or 4": "two answers", "3, maybe 4": "two answers", "2+2": "an expression", "9 * 2": "an expression", "2x4": "an expression",
    "10 - 5": "a difference", "36/2": "a division", "2/4": "not in lowest terms", "4/1": "not in lowest terms", "1/0": "no value",
    "3 / 4": "a division", "2 1/2": "a mixed number", "3-7": "a range", "3–7": "a range", "3:45": "a time",
    "2024-01-15": "a date", "1/15/2024": "a date", "555-1234": "a phone number", "1.2.3": "a version", "192.168.0.1": "an address",
    "1,2,3": "a list", "3,5": "a decimal comma", "1,00": "a wrong group", "1,2345": "a wrong group", "0,123": "a decimal comma",
    "5^2": "a power", "5**2": "a power", "5²": "a power", "2½": "a vulgar fraction", "10^6": "a power", "0x1F": "hexadecimal",
    "1e31": "too large", "1e999999999": "too large", "9" * 41: "too long", "1.5/2": "a division", "18<br>19": "two answers",
    "5...6": "a range", "5'6": "feet and inches",
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), READ.items())
def test_one_number_is_read_exactly(text: str, value: int | str) -> None:
    """Prevents: `$72`, `1,072`, `72.0` or a Unicode minus marked wrong, a lost sign, floats that are nearly equal."""
    assert only_number(text) == last_number(text) == number(text) == Fraction(value)


@pytest.mark.parametrize("text", NOT_ONE)
def test_what_is_not_one_finished_number_is_not_read(text: str) -> None:
    """Prevents: full marks for two answers, for work left undone, for a date; `²` as a digit; powers computed."""
    assert only_number(text) is None
    assert bare_number(text) is None


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("12 apples and 5 pears", 5),
        ("12 apples, -5 pears", -5),
        ("so 48/2 = 24 clips", 24),
        ("1,2,3", 3),
        ("3-7", 7),
        ("2024-01-15", 15),
        ("- 4 apples\n- 5 pears", 5),
        ("first 7, then 48/2", None),
        ("first 7, then 1.2.3", None),
        ("no number", None),
    ],
)
def test_last_number_is_the_last_or_none(text: str, last: int | None) -> None:
    """Prevents: falling back to an earlier number when the last one cannot be read."""
    assert last_number(text) == last


@pytest.mark.parametrize(
    ("text", "value"),
    [("18", 18), (" $1,000. ", 1000), ("-5%", -5), ("**7**", 7), ("5 apples", None), ("x = 5", None), ("1,2", None), ("²", None)],
)
def test_bare_number_takes_no_words(text: str, value: int | None) -> None:
    """Prevents: paying the integer reward to a sentence."""
    assert bare_number(text) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("She sold 48/2 = <<48/2=24>>24 clips.\n#### 1,072", 1072),
        ("#### 3 #### 4", 4),
        (42, 42),
        (-2.5, Fraction(-5, 2)),
        (0.1, Fraction(1, 10)),
        (Fraction(1, 3), Fraction(1, 3)),
        ("2/4", Fraction(1, 2)),
        ("48/2", 24),
    ],
)
def test_number_trusts_references(value: object, expected: object) -> None:
    """Prevents: 0.1 from a JSON file being unequal to `0.1` in an answer; GSM8K's marks read as part of the answer."""
    assert number(value) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["cat", "", "3 or 4", "#### ", True, None, [3], float("nan"), float("inf"), "1/0"])
def test_number_raises_where_there_is_none(value: object) -> None:
    """Prevents: an unreadable reference taken for 0, so that every answer of its row is wrong."""
    with pytest.raises(RewardError):
        number(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "piece",
    ["9", "1,", "1,111,", "- 1 ", "-", "$", "1/", "1e", "1.", ".", "'", "²", "\u202e", "１,", "1^", "x1", "**1", "- "],
)
def test_long_inputs_are_read_in_linear_time(piece: str) -> None:
    """Prevents: one completion that stalls a step. Quadratic reading of 200,000 characters would take minutes."""
    text = piece * (200_000 // len(piece))
    assert bare_number(text) is None
    last_number(text)
