"""Extraction: where the answer is, and the ways to have two."""

import pytest

from heron.rewards import answer_text, parts
from heron.types import Tags


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<reasoning>2+3</reasoning><answer>5</answer>", "5"),
        ("<reasoning>\n2\n+3\n</reasoning>\n<answer>\n 5 \n</answer>\n", "5"),
        ("<answer>5</answer>", "5"),
        ("<answer>first line\nsecond line</answer>", "first line\nsecond line"),
        ("2+3<answer>5</answer>", "5"),
        ("<answer>5</answer><reasoning>", "5"),
        ("<reasoning>2+3<answer>5</answer>", None),
        ("<reasoning>maybe <answer>5</answer>, no, wait", None),
        ("<reasoning>a</reasoning><reasoning>maybe <answer>5</answer>", None),
        ("<answer>maybe <reasoning>5</answer>", None),
        ("<reasoning>a</reasoning><answer><reasoning>5</answer>", None),
        ("<reasoning>I must write <answer> first</reasoning><answer>5</answer>", "5"),
        ("<answer></answer>", ""),
        ("<answer>{0.__class__} [bold]5[/bold]</answer>", "{0.__class__} [bold]5[/bold]"),
        ("5", None),
        ("", None),
        ("<answer>5", None),
        ("5</answer>", None),
        ("</answer>5<answer>", None),
        ("<answer>5</answer><answer>6</answer>", None),
        ("<answer><answer>5</answer></answer>", None),
        ("<answer>5</answer></answer>", None),
        ("<reasoning><answer>5</answer></reasoning>", None),
        ("<ANSWER>5</ANSWER>", None),
    ],
)
def test_one_answer_or_none(tags: Tags, completion: str, answer: str | None) -> None:
    """Prevents: first-or-last bets on two answers, an answer hidden in the reasoning, half a number cut at the limit."""
    assert answer_text(completion, tags) == answer


def test_prefilled_opening_tag_counts_as_written(tags: Tags) -> None:
    """Prevents: answers lost with templates that open a tag in the prompt."""
    assert answer_text("5</answer>", tags, "<answer>") == "5"
    assert answer_text("2+3</reasoning><answer>5</answer>", tags, "<reasoning>") == "5"
    assert answer_text("maybe <answer>5</answer>, no, wait", tags, "<reasoning>") is None
    assert answer_text("maybe <answer>5</answer></reasoning>", tags, "<reasoning>") is None


def test_parts_are_the_text_cut_at_its_tags(tags: Tags) -> None:
    """Prevents: characters lost or stripped between the tags."""
    text = "a<reasoning> b\n</reasoning>c<answer> d </answer>e"
    found = parts(text, tags)
    assert found is not None
    assert (found.before, found.reasoning, found.between, found.answer, found.after) == ("a", " b\n", "c", " d ", "e")
    assert not found.is_clean
    assert parts("<answer>d</answer><reasoning>b</reasoning>", tags) is None


@pytest.mark.parametrize("piece", ["<answer>", "</reasoning>", "<answer", "<reasoning></reasoning><answer></answer>"])
def test_tag_soup_of_any_length_has_no_answer(tags: Tags, piece: str) -> None:
    """Prevents: patterns that backtrack over repeated tags."""
    soup = piece * (200_000 // len(piece))
    assert answer_text(soup + "<reasoning>", tags) in (None, "")
    assert parts(soup, tags) is None
