"""The signal probe: does the start of the run succeed sometimes, so that there is something to learn from?

The one hard idea: a group whose answers are all paid the same moves no weight. If that is so of every group, a run is wasted, however long
it is. So a few prompts are sampled, scored and compared exactly as a step of the run would do it, by its engine, rubric and estimator.

An answer that is right is best; where none is, answers that are paid more than halfway from a wrong one to the right one show that there
is a way (a reply by several rules is hardly ever word for word the reference). What it leaves out: rare success. `N` prompts without one
leave room for about 3 in `N`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from statistics import fmean

from heron.checking.findings import Finding, Level, Signal, Trial
from heron.checking.trials import wrong_and_gold
from heron.engine import SamplingParams
from heron.rewards import Verdict
from heron.rollout import Collector
from heron.rollout.collect import Report
from heron.types import Prompt, Rollout

EXAMPLES = 3
"""Unreadable answers that are shown."""
FEW_MIXED, MUCH_TRUNCATED, MUCH_UNREADABLE, NEARLY_ALL = 0.1, 0.3, 0.5, 0.95
"""Shares from which on something is worth a warning."""
EASIER = "RL cannot learn this yet: use easier rows, a warm-up (`heron warmup`) or a model tuned for instructions, or a longer limit "\
         "(rollout.max_completion_length)."


def chosen(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """At most `count` of them, evenly spaced."""
    count = min(count, len(prompts))
    return [prompts[index * len(prompts) // count] for index in range(count)]


def probe(
    collector: Collector, prompts: Sequence[Prompt], params: SamplingParams, *, samples: int, seed: int, report: Report,
) -> Signal:
    """Sample, score, compare, count; the collector gives verdicts."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rollouts that a function fails at: they are counted
        groups = collector.collect(prompts, params, siblings=samples, seed=seed, report=report)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    judged = [group for group in groups if all(rollout.verdict is not None for rollout in group.rollouts)]
    unreadable = [rollout for group in judged for rollout in group.rollouts if rollout.verdict == Verdict.UNREADABLE]
    return Signal(
        prompts=len(groups), samples=samples, **_passes([[rollout.verdict for rollout in group.rollouts] for group in judged]),
        mixed=fmean(group.has_signal for group in groups),
        truncated=fmean(rollout.truncated for rollout in rollouts), failed=sum(rollout.error is not None for rollout in rollouts),
        best=max((rollout.reward for rollout in rollouts if rollout.reward is not None), default=None),
        examples=_examples(unreadable), seconds=time.perf_counter() - began,
    )


def findings_of(signal: Signal, trials: Sequence[Trial], *, stops: bool) -> list[Finding]:
    """Whether there is something to learn, in plain words, and what stands in the way."""
    return [*_failures(signal, stops), *_learnable(signal, trials), *_in_the_way(signal)]


def _passes(judged: Sequence[Sequence[str | None]]) -> dict[str, float | None]:
    if not judged:
        return {"pass_at_1": None, "pass_at_g": None, "unreadable": None}
    return {
        "pass_at_1": fmean(fmean(each == Verdict.RIGHT for each in group) for group in judged),
        "pass_at_g": fmean(Verdict.RIGHT in group for group in judged),
        "unreadable": fmean(each == Verdict.UNREADABLE for group in judged for each in group),
    }


def _examples(unreadable: Sequence[Rollout]) -> tuple[tuple[str, str], ...]:
    """Of different rows first."""
    by_row = {rollout.prompt.id: rollout for rollout in reversed(unreadable)}
    return tuple((name, rollout.text) for name, rollout in list(by_row.items())[::-1][:EXAMPLES])


def _failures(signal: Signal, stops: bool) -> list[Finding]:
    if not signal.failed:
        return []
    return [Finding(
        level=Level.ERROR if stops else Level.WARNING, topic="rewards",
        text=f"A reward function failed at {signal.failed} of {signal.prompts * signal.samples} sampled answers. "
             + ("Such an answer would stop the run." if stops else "Such answers are left out of their groups."),
        advice="`heron reward table` shows how single answers are scored.",
    )]


def _learnable(signal: Signal, trials: Sequence[Trial]) -> list[Finding]:
    asked = f"{signal.prompts} prompts × {signal.samples} answers"
    if signal.pass_at_1 == 1.0 and not signal.mixed:
        return [_signal(Level.ERROR, f"Every one of {asked} is right: nothing is left to learn.", "Use harder rows.")]
    if not signal.mixed:
        return [_signal(Level.ERROR, f"The answers to each prompt are all paid the same ({asked}): no step would change the model"
                                     f"{_and_pass(signal)}.", EASIER)]
    if signal.pass_at_g == 0.0:
        return [_without_success(signal, trials, asked)]
    found = []
    if signal.mixed < FEW_MIXED:
        found.append(_signal(Level.WARNING, f"Only {signal.mixed:.0%} of the groups have answers that are paid differently: most of every "
                                            "step teaches nothing.", "Use easier or harder rows, or a larger rollout.num_generations."))
    if signal.pass_at_1 is not None and signal.pass_at_1 >= NEARLY_ALL:
        found.append(_signal(Level.WARNING, f"{signal.pass_at_1:.0%} of the answers are right already: little is left to learn.",
                             "Use harder rows."))
    return found or [_signal(Level.NOTE, f"There is something to learn from: {signal.mixed:.0%} of {signal.prompts} groups are mixed"
                                         f"{_and_pass(signal)}.", "")]


def _without_success(signal: Signal, trials: Sequence[Trial], asked: str) -> Finding:
    """No answer is right. That some are paid well all the same is a way to get there."""
    none_right = f"pass@{signal.samples} is 0: none of {asked} is right"
    bounds = wrong_and_gold(trials)
    if bounds is not None and signal.best is not None and signal.best > sum(bounds) / 2:
        return _signal(
            Level.WARNING, f"{none_right} by evaluation.verifier, but the best is paid {signal.best:g}, where a wrong one gets "
            f"{bounds[0]:g} and the reference {bounds[1]:g}.", "RL can learn from that; accuracy will say little about it.",
        )
    return _signal(
        Level.ERROR, f"{none_right}. Only the shape of answers could be learnt.",
        f"{EASIER} If success is rarer than 3 in {signal.prompts} prompts, a larger --prompts finds it.",
    )


def _in_the_way(signal: Signal) -> list[Finding]:
    found = []
    if signal.truncated > MUCH_TRUNCATED:
        found.append(_signal(Level.WARNING, f"{signal.truncated:.0%} of the answers are cut at rollout.max_completion_length.",
                             "Raise it, or look at the answers: a model that never ends has the wrong chat template or end token."))
    if signal.unreadable is not None and signal.unreadable > MUCH_UNREADABLE:
        found.append(_signal(Level.WARNING, f"{signal.unreadable:.0%} of the answers cannot be read by evaluation.verifier.",
                             "Ask for the format in data.system_prompt, or warm the model up on it (`heron warmup`)."))
    return found


def _and_pass(signal: Signal) -> str:
    if signal.pass_at_1 is None or signal.pass_at_g is None:
        return ""
    return f"; pass@1 is {signal.pass_at_1:.0%}, pass@{signal.samples} {signal.pass_at_g:.0%}"


def _signal(level: Level, text: str, advice: str) -> Finding:
    return Finding(level=level, topic="signal", text=text, advice=advice)

