"""Log-probs with gradients: Heron's kernel against full logits, TRL's fused head and Liger's, in time, memory and precision.

    python -m benchmarks.logprobs [--quick] [--write]

One thread. Time is CPU seconds of a forward and a backward pass, the least of several rounds in which the sides take turns; lines
without a bar only inform: the share of user time, and that the peak depends neither on V nor, beyond the gradient, on N. Memory is the
peak over what was there before, each figure from a process of its own. Precision is held against float64. `--quick` takes fewer tokens
and fewer rounds. The bar is held if every line of the table is.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.logprobs_measure import Seconds, errors, extra_megabytes, least_seconds
from benchmarks.logprobs_sides import PACKAGES, Case, is_here
from benchmarks.machine import describe_machine, installed
from benchmarks.report import Bar, Table, conclude

NAME = "logprobs"
FULL_LOGITS = "full logits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to measure."""

    rounds: int
    """Turns of each side."""
    tokens: int
    """Of the bfloat16 cases and those of memory."""
    float32_tokens: int
    """Of the float32 cases."""
    trained_vocabulary: int
    """Of the cases with a trained head."""
    measures_full_memory: bool
    """Whether full logits show their memory too: 12 GB."""


FULL = Plan(rounds=3, tokens=8192, float32_tokens=4096, trained_vocabulary=128_256, measures_full_memory=True)
QUICK = Plan(rounds=2, tokens=2048, float32_tokens=1024, trained_vocabulary=32_768, measures_full_memory=False)
SMALL, LARGE = 32_768, 128_256


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the table."""

    label: str
    """Which bar; empty for a figure that only informs."""
    what: str
    """What is measured, and where."""
    figure: float
    """What was reached; NaN if it could not be measured."""
    goal: float = math.inf
    """At most this."""
    unit: str = "x"
    """Of both."""
    behind: str = ""
    """The measurements themselves."""

    @property
    def is_held(self) -> bool:
        """Whether it is; a figure without a goal always is, one that is missing never."""
        return self.figure <= self.goal

    def cells(self) -> tuple[str, ...]:
        """Of its row."""
        verdict = "" if math.isinf(self.goal) else "met" if self.is_held else "absent" if math.isnan(self.figure) else "missed"
        goal = "" if math.isinf(self.goal) else f"<= {_number(self.goal)}{self.unit}"
        return self.label, self.what, f"{_number(self.figure)}{self.unit}", goal, verdict, self.behind


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    torch.set_num_threads(1)
    plan = QUICK if options.quick else FULL
    checks = []
    for check in _checks(plan):
        print("  ".join(check.cells()), flush=True)
        checks.append(check)
    return conclude(table(checks, plan), bar(checks), machine=describe_machine(1), write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="Log-probs with gradients, against three peers.")
    made.add_argument("--quick", action="store_true", help="fewer tokens and rounds: under five minutes on one core")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def table(checks: Sequence[Check], plan: Plan) -> Table:
    """A row for each check."""
    return Table(
        title=f"Log-probs, forward and backward (CPU seconds, least of {plan.rounds} rounds; MB over what was there before the call)",
        columns=("bar", "what", "Heron", "goal", "verdict", "measured"), rows=tuple(check.cells() for check in checks),
        notes=(_peers(), "Full logits are upcast to float32. Liger: the log-probs of its fused GRPO loss, eager. TRL: the fused head, "
               "without its optional outputs.",
               "System time is what the operating system takes to hand out memory, and on a virtual machine its host: for full logits and "
               "TRL it differs severalfold from hour to hour, and their ratios with it."),
    )


def bar(checks: Sequence[Check]) -> Bar:
    """Held if each check is."""
    asked = [check for check in checks if math.isfinite(check.goal)]
    missed = [check for check in asked if not check.is_held]
    figures = ", ".join(f"{check.label} {_number(check.figure)}{check.unit}" for check in missed)
    held = f"{len(asked) - len(missed)} of {len(asked)} held"
    return Bar(name=NAME, met=not missed, figure=f"{held}, missed: {figures}" if missed else held, goal="all of them")


def _checks(plan: Plan) -> Iterator[Check]:
    yield from _time(plan)
    yield from _memory(plan)
    yield from _trained(plan)
    yield from _precision()


def _time(plan: Plan) -> Iterator[Check]:
    case = Case(tokens=plan.tokens, vocabulary=SMALL)
    peers = [name for name in PACKAGES if is_here(name)]
    seconds = least_seconds(case, ["heron", "heron with entropy", FULL_LOGITS, *peers], rounds=plan.rounds)
    yield _ratio("C1 bf16", case, seconds, FULL_LOGITS, 0.42)
    yield _ratio("C3 liger", case, seconds, "liger", 0.40)
    yield _ratio("C3 trl", case, seconds, "trl", 0.15)
    yield _user_alone(case, seconds)
    added = 100 * (seconds["heron with entropy"].total / seconds["heron"].total - 1)
    yield Check(label="C6", what=f"entropy in the same pass, added time: {case.name}", figure=added, goal=18, unit=" %",
                behind=f"{seconds['heron with entropy']}, without {seconds['heron']}")
    case = Case(tokens=plan.float32_tokens, vocabulary=SMALL, dtype="float32")
    yield from _against_full("C1 fp32", case, plan, 0.60)


def _memory(plan: Plan) -> Iterator[Check]:
    for dtype, goal in (("bfloat16", 96.0), ("float32", 160.0)):
        case = Case(tokens=plan.tokens, vocabulary=LARGE, dtype=dtype)
        yield _megabytes(f"C2 {'bf16' if dtype == 'bfloat16' else 'fp32'}", case, "heron", goal)
    for tokens, vocabulary in ((plan.tokens, SMALL), (plan.tokens // 4, LARGE), (plan.tokens // 4, SMALL)):
        yield _megabytes("", Case(tokens=tokens, vocabulary=vocabulary), "heron", math.inf)
    others = [name for name in (FULL_LOGITS, "liger", "trl") if is_here(name) and plan.measures_full_memory]
    for name in others:
        yield _megabytes("", Case(tokens=plan.tokens, vocabulary=LARGE), name, math.inf)


def _trained(plan: Plan) -> Iterator[Check]:
    case = Case(tokens=2048, vocabulary=plan.trained_vocabulary, is_trained=True)
    yield from _trained_time("C4 time", case, plan, 0.72)
    yield from _trained_time("", replace(case, dtype="float32"), plan, math.inf)
    for dtype in ("bfloat16", "float32"):
        case = Case(tokens=2048, vocabulary=LARGE, dtype=dtype, is_trained=True)
        yield _megabytes(f"C4 {'bf16' if dtype == 'bfloat16' else 'fp32'}", case, "heron foreseen", 4 * LARGE * case.width / 2**20 + 300)


def _trained_time(label: str, case: Case, plan: Plan, goal: float) -> Iterator[Check]:
    """On-policy, where the loss's gradient is foreseen, and as it is on later passes."""
    seconds = least_seconds(case, ["heron foreseen", "heron", FULL_LOGITS], rounds=plan.rounds)
    yield _ratio("", case, seconds, FULL_LOGITS, math.inf)
    seconds["heron"] = seconds["heron foreseen"]
    on_policy = _ratio(label, case, seconds, FULL_LOGITS, goal)
    yield replace(on_policy, what=f"{on_policy.what}, on-policy")


def _precision() -> Iterator[Check]:
    case = Case(tokens=256, vocabulary=LARGE, dtype="float32")
    single = errors(case, ["heron", FULL_LOGITS])
    ours, full = single["heron"], single[FULL_LOGITS]
    yield Check(label="C5 logp", what=f"largest error against float64: {case.name}", figure=ours.logprob, goal=1e-4, unit="",
                behind=f"full logits {_number(full.logprob)}")
    yield Check(label="C5 grad", what=f"relative error of the gradient: {case.name}", figure=ours.gradient, goal=1e-5, unit="",
                behind=f"full logits {_number(full.gradient)}")
    case = Case(tokens=256, vocabulary=LARGE)
    half = errors(case, ["heron", FULL_LOGITS])
    yield Check(label="C5 bf16", what=f"error of the gradient over that of full logits: {case.name}",
                figure=half["heron"].gradient / half[FULL_LOGITS].gradient, goal=1.1,
                behind=f"{_number(half['heron'].gradient)}, full logits {_number(half[FULL_LOGITS].gradient)}")
    yield Check(label="C5 sign", what="highest log-prob of all of these", figure=max(ours.highest, half["heron"].highest), goal=0, unit="",
                behind="never above 0")


def _against_full(label: str, case: Case, plan: Plan, goal: float) -> Iterator[Check]:
    seconds = least_seconds(case, ["heron", FULL_LOGITS], rounds=plan.rounds)
    yield _ratio(label, case, seconds, FULL_LOGITS, goal)
    yield _user_alone(case, seconds)


def _user_alone(case: Case, seconds: dict[str, Seconds]) -> Check:
    """What is left of the ratio on a machine that hands out memory for nothing."""
    ours, theirs = seconds["heron"].user, seconds[FULL_LOGITS].user
    return Check(label="", what=f"the same, user time alone: {case.name}", figure=ours / theirs,
                 behind=f"{ours:.2f} s, {FULL_LOGITS} {theirs:.2f} s")


def _ratio(label: str, case: Case, seconds: dict[str, Seconds], peer: str, goal: float) -> Check:
    if peer not in seconds:
        return Check(label=label, what=f"time over {peer}: {case.name}", figure=math.nan, goal=goal, behind="not installed")
    ours, theirs = seconds["heron"], seconds[peer]
    return Check(label=label, what=f"time over {peer}: {case.name}", figure=ours.total / theirs.total, goal=goal,
                 behind=f"{ours}, {peer} {theirs}")


def _megabytes(label: str, case: Case, name: str, goal: float) -> Check:
    own = "" if name.startswith("heron") else f"{name}, "
    gradients = case.tokens * case.width + (case.vocabulary * case.width if case.is_trained else 0)
    size = 2 if case.dtype == "bfloat16" else 4
    return Check(label=label, what=f"extra peak: {own}{case.name}", figure=extra_megabytes(case, name), goal=goal, unit=" MB",
                 behind=f"of which gradients {gradients * size / 2**20:.0f} MB")


def _peers() -> str:
    found = {name: installed(package) for name, package in PACKAGES.items()}
    here = [f"{PACKAGES[name]} {version}" for name, version in found.items() if version]
    absent = [PACKAGES[name] for name, version in found.items() if not version]
    return f"Peers here: {', '.join(here) or 'none'}; absent, not measured: {', '.join(absent) or 'none'}."


def _number(value: float) -> str:
    """Short, whatever its size."""
    if value == 0 or 0.01 <= abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.1e}"


if __name__ == "__main__":
    raise SystemExit(main())
