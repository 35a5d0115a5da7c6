"""Made-up answers to real rows, scored as a run would score them: does the reward rise with what is wanted?

The one hard idea: the five answers differ in one thing at a time, so their order can be foreseen. The right answer in the format must be
paid best; the same format around a wrong answer, and no answer at all, must be paid less. A reward that breaks this order teaches
something else than what is meant.

The format is written in two layouts, tags in one line and each on a line of its own, and the one that is paid better is taken. What it
leaves out: hostile answers, and rows without a reference.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from heron.checking.findings import Finding, Level, Trial
from heron.environments import Environment
from heron.models import Policy
from heron.rewards import Rubric, bare_number
from heron.types import Completion, FinishReason, Message, Prompt, Rollout, Tags, Turn

Function = Callable[..., Any]

GOLD, BARE, EMPTY, WRONG, OTHERS = KINDS = (
    "gold in the format", "gold without the format", "empty", "wrong answer in the format", "another row's gold",
)
"""What is tried, best first."""
LAYOUTS = ("", "\n")
"""What stands between the parts of an answer in the format: nothing, or every tag is on a line of its own."""
ROWS = 4
"""Rows that are tried, as different ones as there are."""
REASONING = "First I read the question with care, then I work it out step by step."
NO_ANSWER = "I do not know."


def tried(
    prompts: Sequence[Prompt], functions: Sequence[tuple[Function, float]], policy: Policy, environment: Environment
) -> list[Trial]:
    """The answers to a few of the rows that have a reference, with their scores; in the layout that is paid better."""
    rows = _chosen([prompt for prompt in prompts if prompt.answer is not None])
    by_layout = [_scored(rows, between, functions, policy, environment) for between in LAYOUTS]
    return max(by_layout, key=lambda scored: sum(trial.total or 0.0 for trial in scored if trial.kind == GOLD))


def findings_of(trials: Sequence[Trial], *, stops: bool) -> list[Finding]:
    """What is wrong with the order, what raised, and what never varied. `stops`: a failing function ends the run."""
    if not trials:
        return [Finding(
            level=Level.NOTE, topic="rewards", text="No row has a reference answer, so the rewards could not be tried on a right one.",
            advice="Name the column with the answers in data.answer_column, if there is one.",
        )]
    return [*_failures(trials, stops), *_disorder(trials), *_constant(trials)]


def wrong_and_gold(trials: Sequence[Trial]) -> tuple[float, float] | None:
    """What wrong answers in the format and right ones are paid, on average; None if that is not known."""
    totals = {kind: [trial.total for trial in trials if trial.kind == kind and trial.total is not None] for kind in (WRONG, GOLD)}
    if not all(totals.values()):
        return None
    wrong, gold = (sum(values) / len(values) for values in totals.values())
    return wrong, gold


def _chosen(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Evenly spaced rows, no two with the same answer: another row's gold is to be wrong."""
    first_with = {_meaning(str(prompt.answer)): prompt for prompt in reversed(prompts)}
    distinct = list(first_with.values())[::-1]
    count = min(ROWS, len(distinct))
    return [distinct[index * len(distinct) // count] for index in range(count)]


def _meaning(answer: str) -> Any:
    """Equal for answers that a reward may well call equal: the number, if it is one (`2`, `2.0`), else the words."""
    value = bare_number(answer)
    return " ".join(answer.casefold().split()) if value is None else value


def _scored(
    prompts: Sequence[Prompt], between: str, functions: Sequence[tuple[Function, float]], policy: Policy, environment: Environment
) -> list[Trial]:
    rollouts, kinds = [], []
    for number, prompt in enumerate(prompts):
        for kind, text in _answers(prompt, prompts[(number + 1) % len(prompts)], policy.tags, between).items():
            rollouts.append(_rollout(prompt, environment.start(prompt), text, policy))
            kinds.append(kind)
    scores = [_by_one(function, rollouts, policy.tags) for function, _ in functions]
    weights = {name: weight for (name, _), (_, weight) in zip(scores, functions, strict=True)}
    return [
        _trial(rollout, kind, {name: each[row] for name, each in scores}, weights)
        for row, (rollout, kind) in enumerate(zip(rollouts, kinds, strict=True))
    ]


def _by_one(function: Function, rollouts: Sequence[Rollout], tags: Tags) -> tuple[str, list[Rollout]]:
    """The rollouts, scored by one function alone: what it fails at does not hide the others."""
    rubric = Rubric([(function, 1.0)], tags=tags, on_error="exclude")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is excluded: it is a finding
        return rubric.names[0], rubric.score(rollouts)


def _trial(rollout: Rollout, kind: str, scored: dict[str, Rollout], weights: dict[str, float]) -> Trial:
    rewards = {name: each.rewards[name] for name, each in scored.items()}
    errors = {name: each.error for name, each in scored.items() if each.error is not None}
    paid = [weights[name] * value for name, value in rewards.items() if value is not None and weights[name]]
    return Trial(
        row=rollout.prompt.id, kind=kind, text=rollout.text, rewards=rewards, errors=errors,
        total=sum(paid) if paid and not errors else None,
    )


def _answers(prompt: Prompt, other: Prompt, tags: Tags, between: str) -> dict[str, str]:
    gold = str(prompt.answer)

    def formatted(answer: str) -> str:
        parts = (tags.reasoning_start, REASONING, tags.reasoning_end, tags.solution_start, answer, tags.solution_end)
        return between.join(parts)

    answers = {GOLD: formatted(gold), BARE: gold, EMPTY: "", WRONG: formatted(wrong_answer(gold))}
    return answers if other is prompt else answers | {OTHERS: formatted(str(other.answer))}


def wrong_answer(gold: str) -> str:
    """The next number to a number; else words that answer nothing."""
    value = bare_number(gold)
    return NO_ANSWER if value is None else str(value + 1)


def _rollout(prompt: Prompt, messages: tuple[Message, ...], text: str, policy: Policy) -> Rollout:
    """As if the model had said it, behind an opening tag that the template writes itself."""
    rendered = policy.render_text(messages)
    prefilled = policy.prefilled(rendered)
    said = text.removeprefix(prefilled)
    ids = (*policy.encode(said), min(policy.end_ids))
    answer = Completion(token_ids=ids, logprobs=(0.0,) * len(ids), finish_reason=FinishReason.STOP, policy_version=0)
    return Rollout(
        prompt=prompt, turns=(Turn(prompt_ids=policy.encode(rendered), completion=answer),), text=said, prefilled=prefilled,
        messages=(*messages, {"role": "assistant", "content": prefilled + said}),
    )


def _failures(trials: Sequence[Trial], stops: bool) -> list[Finding]:
    rows: dict[str, list[str]] = {}
    for trial in trials:
        for name, error in trial.errors.items():
            rows.setdefault(name, []).append(f"{trial.row}, {trial.kind}: {error}")
    return [
        Finding(
            level=Level.ERROR if stops else Level.WARNING, topic="rewards",
            text=f"The reward function {name} failed at {len(errors)} of {len(trials)} made-up answers. "
                 + ("Such an answer would stop the run." if stops else "Such answers are left out of their groups."),
            advice="Let it return None where it does not apply, and a number elsewhere.", rows=tuple(errors),
        )
        for name, errors in rows.items()
    ]


def _disorder(trials: Sequence[Trial]) -> list[Finding]:
    totals = {(trial.row, trial.kind): trial.total for trial in trials}
    names = list(dict.fromkeys(trial.row for trial in trials))
    better: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for row, kind in product(names, KINDS[1:]):
        gold, paid = totals.get((row, GOLD)), totals.get((row, kind))
        if gold is not None and paid is not None and (paid > gold or (paid == gold and kind != BARE)):
            better[kind].append(f"{row}: {kind} is paid {paid:g}, {GOLD} {gold:g}")
    found = [_paid_too_well(kind, rows, len(names)) for kind, rows in better.items() if rows]
    return found or _format_unpaid(totals, names)


def _paid_too_well(kind: str, rows: Sequence[str], total: int) -> Finding:
    what = {
        BARE: "the right answer without the format is paid better than in it", EMPTY: "no answer is paid like a right one, or better",
        WRONG: "a wrong answer is paid like a right one, or better", OTHERS: "another row's answer is paid like the right one, or better",
    }[kind]
    return Finding(
        level=Level.WARNING if kind == BARE else Level.ERROR, topic="rewards", text=f"In {len(rows)} of {total} tried rows {what}.",
        advice="Mend the reward functions or their weights: the model learns what is paid, not what is meant.", rows=tuple(rows),
    )


def _format_unpaid(totals: dict[tuple[str, str], float | None], names: Sequence[str]) -> list[Finding]:
    if any(totals.get((row, GOLD)) != totals.get((row, BARE)) for row in names):
        return []
    return [Finding(level=Level.NOTE, topic="rewards", text="The format is not paid for: the right answer scores the same without it.")]


def _constant(trials: Sequence[Trial]) -> list[Finding]:
    """Of all functions together: nothing to learn; of one: maybe a penalty that none of the answers deserves."""
    if len({trial.total for trial in trials if not trial.errors}) <= 1 and not any(trial.errors for trial in trials):
        return [Finding(
            level=Level.ERROR, topic="rewards", text=f"All {len(trials)} made-up answers, right, wrong and empty, are paid the same.",
            advice="Name a reward function that tells them apart.",
        )]
    names = [name for name in trials[0].rewards if not any(name in trial.errors for trial in trials)]
    flat = [name for name in names if len({trial.rewards[name] for trial in trials}) == 1]
    return [
        Finding(
            level=Level.NOTE, topic="rewards", text=f"The reward function {name} gave all {len(trials)} made-up answers the same: "
            f"{trials[0].rewards[name]}.", advice="Fine for a penalty that none of them deserves; else it teaches nothing.",
        )
        for name in flat
    ]
