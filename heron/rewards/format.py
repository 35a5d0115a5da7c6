"""Rewards for the shape of a completion: reasoning between its tags, then the answer between its tags.

The hard idea: format rewards are what a model learns to game first, so each tag counts only if it is there exactly
once, and an opening tag that the chat template already put in the prompt counts as there. What is said inside is not
looked at.
"""

from __future__ import annotations

from heron.rewards.answers import parts
from heron.types import Tags


def follows_format(completion: str, tags: Tags, prefilled: str = "") -> float:
    """1.0 for each tag exactly once, in order, an answer that is not blank, and only whitespace outside; else 0.0.

    | completion                                               | score |
    |----------------------------------------------------------|-------|
    | `<think>2+2=4</think><answer>4</answer>`                 | 1.0   |
    | the same over many lines, or with nothing in the thinking | 1.0   |
    | `2+2=4</think><answer>4</answer>`, `<think>` prefilled   | 1.0   |
    | `Sure! <think>...`, or text after the answer             | 0.0   |
    | a tag missing, repeated or out of order; a blank answer  | 0.0   |
    """
    found = parts(completion, tags, prefilled)
    return 1.0 if found is not None and found.is_clean else 0.0


def approximate(completion: str, tags: Tags, prefilled: str = "") -> float:
    """+0.5 for each tag that is there exactly once, -0.5 for each that is missing or repeated; order is free.

    | completion                                             | score |
    |--------------------------------------------------------|-------|
    | `<think>2+2=4</think><answer>4</answer>`               | 2.0   |
    | `2+2=4</think><answer>4</answer>`, `<think>` prefilled | 2.0   |
    | `<think>2+2=4</think><answer>4`                        | 1.0   |
    | `4`                                                    | -2.0  |
    """
    text = prefilled + completion
    return sum(0.5 if text.count(tag) == 1 else -0.5 for tag in tags)


def no_stuffing(completion: str, tags: Tags, prefilled: str = "") -> float:
    """-0.25 for each tag beyond the first of its kind, at least -2.0; else 0.0.

    | completion                                                  | score |
    |-------------------------------------------------------------|-------|
    | `<think>2+2=4</think><answer>4</answer>`, or no tags        | 0.0   |
    | the same with `<answer>4</answer>` once more                | -0.5  |
    | `<answer>` a hundred times                                  | -2.0  |
    """
    text = prefilled + completion
    return max(-2.0, sum(-0.25 * (count - 1) for tag in tags if (count := text.count(tag)) > 1) + 0.0)
