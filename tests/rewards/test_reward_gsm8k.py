"""The five rewards of GSM8K: gold answers in the asked layout earn all of them, and nothing less earns as much."""

import random
import tomllib
from importlib import resources

import pytest

from heron.rewards import BUILT_IN, number
from heron.types import Tags

RECIPE = tomllib.loads(resources.files("heron.config").joinpath("recipes/gsm8k.toml").read_text(encoding="utf-8"))
TAGS = Tags(**RECIPE["tags"])
FULL = {"correctness": 2.0, "integer": 0.5, "strict_format": 0.5, "soft_format": 0.5, "tag_count": 0.5}


def _scores(completion: str, answer: str, prefilled: str = "") -> dict[str, float]:
    scores = {}
    for name in RECIPE["rewards"]["functions"]:
        columns = {"answer": answer} if name == "gsm8k.correctness" else {}
        scores[name.removeprefix("gsm8k.")] = BUILT_IN[name](
            completion=completion, tags=TAGS, prefilled=prefilled, **columns
        )
    return scores


def _asked_layout(reasoning: str, answer: str) -> str:
    """The recipe's own system prompt, with its two ellipses filled in."""
    layout = RECIPE["data"]["system_prompt"].split("\n", 1)[1].format(**RECIPE["tags"])
    assert layout.count("...") == 2
    return layout.replace("...", reasoning, 1).replace("...", answer, 1)


def _gold_rows(count: int) -> list[tuple[str, str]]:
    """Rows as the dataset has them: reasoning lines with calculator marks, `#### ` and an answer in its many spellings."""
    draw = random.Random(0)
    rows = []
    for index in range(count):
        a, b = draw.randint(2, 999), draw.randint(2, 99)
        lines = [
            f"She sold {a}*{b} = $<<{a}*{b}={a * b}>>{a * b:,} of clips in April.",
            f'That is "{b}%" more, isn\'t it?  <b>Yes</b> & {a}/{b} < 1 is {a < b}.',
            "",
            "Let's check: 1/2 + 1/2 = 1 (€, ½, 数).",
        ][: draw.randint(1, 4)]
        value = draw.choice([a * b, a, b, -a, a * 1000, 0])
        answer = [f"{value}", f"{value:,}", f"{'-' if value < 0 else ''}${abs(value):,}", f"{value}.", f"{value}%"][index % 5]
        rows.append(("\n".join(lines), answer))
    return rows


@pytest.mark.parametrize("prefilled", ["", TAGS.reasoning_start])
def test_gold_answers_in_the_asked_layout_earn_everything(prefilled: str) -> None:
    """Prevents: the ideal answer of several lines that scores 0 on both formats, `1,000` or `-5` that is no integer."""
    rows = [*_gold_rows(200), ("One line.", "1,000"), ("a\nb", "-5"), ("a\n\nb", "$18")]
    for reasoning, answer in rows:
        completion = _asked_layout(reasoning, answer).removeprefix(prefilled)
        assert _scores(completion, f"{reasoning}\n#### {answer}", prefilled) == FULL, (reasoning, answer)
        assert _scores(completion, str(number(answer)), prefilled) == FULL, (reasoning, answer)


@pytest.mark.parametrize("answer", ["2.5", "3/4", "-0.125"])
def test_integer_pays_integers_only(answer: str) -> None:
    """Prevents: a fraction paid as an integer, or its correctness lost."""
    assert _scores(_asked_layout("a\nb", answer), answer) == FULL | {"integer": 0.0}


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("18", 0.5), ("-5", 0.5), ("− 5", 0.5), ("1,000", 0.5), ("$18", 0.5), ("18.", 0.5), ("18%", 0.5), ("72.0", 0.5),
        ("2.5", 0.0), ("3/4", 0.0), ("18 eggs", 0.0), ("9*2", 0.0), ("36/2", 0.0), ("²", 0.0), ("1,2", 0.0), ("", 0.0), ("cat", 0.0),
    ],
)  # fmt: skip
def test_integer_table(answer: str, score: float) -> None:
    """Prevents: `isdigit`, which takes a superscript and refuses a minus."""
    assert _scores(f"<answer>{answer}</answer>", "18")["integer"] == score


@pytest.mark.parametrize(
    ("answer", "score"),
    [("72", 2.0), ("72.0", 2.0), ("$72", 2.0), ("72 clips", 2.0), ("-72", 0.0), ("172", 0.0), ("70+2", 0.0), ("71 or 72", 0.0)],
)
def test_correctness_compares_numbers(answer: str, score: float) -> None:
    """Prevents: string equality, and 2.0 for a bet."""
    assert _scores(f"<answer>{answer}</answer>", "72")["correctness"] == score


def test_bare_answer_earns_nothing() -> None:
    """Prevents: 2.0 for the right number without the tags, so that the format is never learnt."""
    assert set(_scores("72", "72").values()) == {0.0}


@pytest.mark.parametrize(
    ("change", "strict", "soft"),
    [
        (lambda text: text + "\n", 0.5, 0.5),
        (lambda text: text + "\n\n", 0.5, 0.5),
        (lambda text: "\n" + text, 0.0, 0.5),
        (lambda text: text.replace("\n", ""), 0.0, 0.5),
        (lambda text: text.replace("\n", " "), 0.0, 0.5),
        (lambda text: text.replace("</reasoning>\n", "</reasoning>\n\n"), 0.0, 0.5),
        (lambda text: text.replace("\n</answer>", "</answer>"), 0.0, 0.5),
        (lambda text: text.replace("a\nb", " "), 0.0, 0.5),
        (lambda text: text.replace("18", " "), 0.0, 0.0),
        (lambda text: "Sure!\n" + text, 0.0, 0.0),
        (lambda text: text + "\nDone.", 0.0, 0.0),
        (lambda text: text + "\n" + text, 0.0, 0.0),
        (lambda text: text.replace("</reasoning>\n", ""), 0.0, 0.0),
    ],
)
def test_strict_and_soft_differ_in_whitespace_alone(change, strict: float, soft: float) -> None:
    """Prevents: strict that means soft, and either that pays for text outside the tags."""
    scores = _scores(change(_asked_layout("a\nb", "18")), "18")
    assert (scores["strict_format"], scores["soft_format"]) == (strict, soft)


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        (_asked_layout("a\nb", "18"), 0.5),
        (_asked_layout("a\nb", "18") + "\n", 0.5),
        (_asked_layout("a\nb", "18") + "x" * 100, 0.4),
        (_asked_layout("a\nb", "18") + "x" * 10_000, 0.0),
        ("<answer>18</answer>", 0.25),
        ("<answer>1</answer><answer>2</answer>", 0.0),
        ("<answer>18", 0.125),
        ("", 0.0),
    ],
)
def test_tag_count_table(completion: str, score: float) -> None:
    """Prevents: a column that is negative for long answers, and tags that are paid twice."""
    assert _scores(completion, "18")["tag_count"] == pytest.approx(score)
