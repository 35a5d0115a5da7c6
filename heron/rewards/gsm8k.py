"""The five classical rewards of grade-school mathematics, made correct.

The hard idea: the layout that is asked for has *lines*, so reasoning of many lines must score in full; the well-known
versions match `.` without newlines, and pay nothing to the ideal answer. They also compare strings (`72.0` is not
`72`), take `²` for an integer and `-5` for none. Here answers are compared as numbers, and tags are found by
searching, not by a pattern.

The layout, whose best score is 4.0 in total (correctness 2.0, the others 0.5 each):

    <reasoning>
    ...
    </reasoning>
    <answer>
    18
    </answer>
"""

from __future__ import annotations

from heron.rewards.answers import answer_text, parts
from heron.rewards.format import follows_format
from heron.rewards.numbers import bare_number
from heron.rewards.verifying import number, reward
from heron.types import Tags

PENALTY = 0.001
"""What `tag_count` takes off for each character behind the answer."""

correctness = reward(number, right=2.0, wrong=0.0, unreadable=0.0, name="correctness")
"""2.0 if the answer's only number equals the reference, else 0.0: `$18.00` is 18; `18` without tags is no answer."""


def integer(completion: str, tags: Tags, prefilled: str = "") -> float:
    """0.5 if the answer is an integer and nothing else, else 0.0; whether it is right is not asked.

    | answer                                   | score |
    |------------------------------------------|-------|
    | `18`, `-5`, `1,000`, `$18`, `18.`, `18%` | 0.5   |
    | `2.5`, `3/4`, `18 eggs`, `9*2`, `²`, none | 0.0  |
    """
    answer = answer_text(completion, tags, prefilled)
    value = None if answer is None else bare_number(answer)
    return 0.5 if value is not None and value.denominator == 1 else 0.0


def strict_format(completion: str, tags: Tags, prefilled: str = "") -> float:
    """0.5 for the layout with its line breaks: every tag on a line of its own, no blank lines between, nothing outside.

    A line break behind the last tag is free, and so is the one behind an opening tag that is in the prompt already.

    | completion                                                        | score |
    |-------------------------------------------------------------------|-------|
    | the layout, with any number of reasoning lines                    | 0.5   |
    | the layout from behind its first tag, `<reasoning>` prefilled     | 0.5   |
    | `<reasoning>..</reasoning><answer>18</answer>` on one line        | 0.0   |
    | a blank reasoning or answer, text outside, a tag repeated         | 0.0   |
    """
    found = parts(completion, tags, prefilled)
    if found is None or not found.is_clean or not found.reasoning.strip():
        return 0.0
    opening = "\n" if not prefilled else ""
    has_lines = (
        found.reasoning.startswith(opening)
        and found.reasoning.endswith("\n")
        and found.answer.startswith("\n")
        and found.answer.endswith("\n")
    )
    has_nothing_else = found.before == "" and found.between == "\n" and found.after.strip("\n") == ""
    return 0.5 if has_lines and has_nothing_else else 0.0


def soft_format(completion: str, tags: Tags, prefilled: str = "") -> float:
    """0.5 for the layout with any whitespace, or none, around the tags, else 0.0 (see `format.follows_format`)."""
    return 0.5 * follows_format(completion, tags, prefilled)


def tag_count(completion: str, tags: Tags, prefilled: str = "") -> float:
    """0.125 for each tag that is there exactly once, less 0.001 for each character behind the answer; at least 0.

    | completion                                     | score |
    |------------------------------------------------|-------|
    | all four tags once                             | 0.5   |
    | all four tags once, then 100 more characters   | 0.4   |
    | `<answer>18</answer>`                          | 0.25  |
    | `<answer>1</answer><answer>2</answer>`         | 0.0   |
    """
    text = prefilled + completion
    score = sum(0.125 for tag in tags if text.count(tag) == 1)
    trailing = text.rpartition(tags.solution_end)[2] if tags.solution_end in text else ""
    return max(0.0, score - PENALTY * len(trailing.strip()))
