"""What may stand around a number without changing it, and what may not."""

import pytest

from heron.errors import RewardError
from heron.rewards import Verdict, verifiers
from heron.rewards.numbers import last_number, number, only_number
from heron.rewards.surroundings import WINDOW

CHANGED = """
-(5) −(5) -{5} -\\boxed{5} -**5** -$(5)$ (-)5 {-}5 -<b>5</b> -\\left|5\\right| -~5 -⌊5⌋
minus 5; negative 5; The answer is minus 5.; **minus** 5; minus: 5; \\text{minus }5; menos 5; 负5; 答案是负5
四分之5; 5 (negative); -USD 5; the opposite of 5
±5; +-5; \\pm 5; $\\pm$5; x = ±5; +/-5
5!; 5 !; **5**!; (5)!; \\boxed{5}!; so it's 5!; 5！
5 ½; 5 1/2; 5 and a half; 5²; 5 squared; 5^x; 5 to the power x; 5 point two; point 5
√25; √(25); \\sqrt{25}; sqrt(25); square root of 25; $\\sqrt{}$25; &radic;25; log 5; sin(5); f(5); e^5
half of 10; **half** of 5; a third of 5; twice 5; double 5; the reciprocal of 5; factorial of 5
5 million; 5-million; 5 (million); **5** million; $5 million; 5\\text{ million}; \\boxed{5 \\text{million}}; 5 𝐦𝐢𝐥𝐥𝐢𝐨𝐧; 5 thousand; 5 dozen
$5M; 5k; 5 bn; 5万; 5 百万; 5 миллионов; hundred and 5; twenty 5
3or4; 3or5; 5 or4; 5or 3; 5 or six; six or 5; 5 or more; 18eggs20; 5/six; 5 five million; 5 and six tenths; 5 two-thirds; 5 more than five
5+x; x + 5; x - 5; x-5; 5 - x; 5x; 5 x; x*5; x * 5; 5*x; 5 × x; 5π; 5\\pi; π5; 5/x; x/5; 5(x+1)
(x)5; \\frac{5}{x}; \\frac{x}{5}; 5 apples + x
5i; 5e; 0b101; 0x5; x_5; x_{5}; <sup>5</sup>; <s>5</s>; ~~5~~; 0.5...; 0.5…; 0.\\overline{5}; 5\u0338
>5; x < 5; x \\ge 5; ≠5; x != 5; not 5; isn't 5; at least 5; less than 5; \\sqrt5 7; \\frac5 7
"""
KEPT = """
5. 5.00 +5 $5 $5.00 5$ US$5 €5 5% \\$5 5\\% $5$ $$5$$ \\(5\\) \\[5\\] \\boxed{5} \\boxed{5\\text{cm}} \\boxed{\\$5}
**5** *5* _5_ `5` "5" “5” (5) [5] |5|
5 dollars; 5 percent; 5 %; 5\\text{ cm}; 5~\\text{cm}; 5\\,\\text{cm}; 5 °C; 5°; 5cm
5 m; 5h; 5m2; 5 km/h; 5/hour; 5 miles; 5 millimeters; 5th; 5 g
x = 5; x=5; $x = 5$; x: 5; = 5; ≈ 5; ~5; → 5; => 5; -> 5; \\approx 5; \\text{The answer is }5; f(x) = 5; a + b = 5; |x| = 5; 5 = x
Answer: **5**; **Answer:** 5; **Answer: 5**; Answer:5; Answer — 5; ### Answer: 5; The answer is **5**.; It's 5; C) 5
Option B: 5; Train B takes 5 hours
5 apples!; 5 apples and some pears; 5 a day; 5 times as many; 5 more than Bob; 5 (five); 5 [apples]; 5-gallon; 5 — the answer; 5...
He has half as many, so 5; She will have 5 dollars left, since she spent half of it.; 5 quarters; 5 one-dollar bills; 5 half-hours
5 third graders; increased by 5; over the last 5 years; 5 T-shirts; 5 S'mores; 5 USD; 5 two-liter bottles
答案是5; 答案是**5**; 答案：5; 5个; 5 元; la respuesta es 5; é 5; Ответ: 5; 5 Äpfel; <b>5</b>; <h1>5</h1>; <|x|>5<|y|>; ✅ 5
"""


def _texts(table: str) -> list[str]:
    """Its texts: between semicolons, or between spaces on the lines without one."""
    lines = table.strip().splitlines()
    return [text for line in lines for text in (line.split("; ") if "; " in line else line.split(" "))]


@pytest.mark.parametrize("text", _texts(CHANGED))
def test_a_number_whose_surroundings_change_it_is_not_read(text: str) -> None:
    """Prevents: the reward of 5 for -5, 120, 2.5 or 5,000,000, because the digits are there."""
    assert only_number(text) is None
    assert all(verifiers["number"](text, gold) is not Verdict.RIGHT for gold in ("5", "4", "18", "25", "10", "7", "0.5"))


@pytest.mark.parametrize("text", _texts(KEPT))
def test_a_number_in_ordinary_company_stays_what_it_is(text: str) -> None:
    """Prevents: an honest answer that is unreadable for its unit, its dress or its sentence."""
    assert only_number(text) == last_number(text) == 5


@pytest.mark.parametrize("padding", [" ", "\n", "(", "<b>"])
@pytest.mark.parametrize(("before", "after"), [("half of", ""), ("twice", ""), ("-(", ""), ("", "!"), ("", "million")])
def test_what_changes_a_number_is_not_hidden_by_padding(padding: str, before: str, after: str) -> None:
    """Prevents: a sign that stands farther off than one looks."""
    for length in (1, WINDOW - 1, WINDOW, WINDOW + 1, 10 * WINDOW):
        pad = padding * length
        assert only_number(before + pad * bool(before) + "5" + pad * bool(after) + after) is None


@pytest.mark.parametrize("gold", ["-(5)", "5!", "±5", "5 million", "√25"])
def test_a_gold_that_is_changed_is_no_number_either(gold: str) -> None:
    """Prevents: a reference that means something else than its digits."""
    with pytest.raises(RewardError, match="One number is wanted"):
        number(gold)


@pytest.mark.parametrize("text", [
    "<think>2+3=5</think><answer>5</answer>", "<start_working_out>4+1=5<end_working_out><SOLUTION>5</SOLUTION>",
    "<reasoning>Anna has 5 apples</reasoning><answer>5</answer>",
])
def test_the_tags_of_an_answer_part_it_from_the_reasoning(text: str) -> None:
    """Prevents: a right answer that is never paid where only tags stand between it and the reasoning's last word: no call as in f(5)."""
    assert last_number(text) == 5


def test_tags_within_a_word_part_nothing() -> None:
    """Prevents: a digit that is written smaller, or bold, being read by itself."""
    assert {last_number(text) for text in ("f<b>5</b>", "f<strong>5</strong>", "2<small>5</small>", "x(<b>5</b>)")} == {None}
    assert {last_number(text) for text in ("f<STRONG>5</STRONG>", "2<superscript>5</superscript>", "x<Power>5</Power>")} == {None}
