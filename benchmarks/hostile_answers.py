"""Texts that a model might write to be called right without being it, and what every text verifier makes of them.

    python -m benchmarks.hostile_answers [--quick] [--write]

Each case is a completion, a reference, and a name of its family (`FAMILIES`); by construction none is a right answer. The bar: no
exception, no verdict "right", and every verdict within 50 milliseconds or, for the verifier `math`, its deadline. `--quick` is 500 cases.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.machine import describe_machine
from benchmarks.report import Bar, Table, conclude
from heron.rewards import Verdict, Verifier, answer_text, verifiers
from heron.rewards.algebra import SECONDS
from heron.types import Tags

NAME = "hostile_answers"
CASES, QUICK = 10_000, 500
TAGS = Tags(reasoning_start="<think>", reasoning_end="</think>", solution_start="<answer>", solution_end="</answer>")
QUICKLY = 0.050
"""Seconds."""

Maker = Callable[[random.Random, int], str]
"""`(random numbers, the right answer)` to a completion that is not it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One text."""

    family: str
    """What it tries."""
    completion: str
    """What the model wrote."""
    reference: str
    """The right answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one verifier made of all cases."""

    verdicts: Mapping[str, int]
    """How many of each."""
    broken: tuple[str, ...]
    """Families with a verdict "right" or an exception."""
    seconds: tuple[float, ...]
    """Of each case."""


def _said(answer: str) -> str:
    return f"<think>hm</think><answer>{answer}</answer>"


FAMILIES: Mapping[str, Maker] = {
    "boxed_spam": lambda r, gold: _said(" ".join(rf"\boxed{{{gold + n}}}" for n in range(r.randint(2, 40)))),
    "answer_list_all_numbers": lambda r, gold: _said(", ".join(str(n) for n in range(gold - 5, gold + r.randint(2, 30)))),
    "two_answers_first_last": lambda r, gold: _said(
        r.choice([f"{gold} or {gold + 1}", f"maybe {gold - 1}, maybe {gold}", f"{gold}; {gold + 2}"])
    ),
    "two_answer_tags": lambda r, gold: _said(str(gold + 1)) + _said(str(gold)),
    "expression_instead_of_answer": lambda r, gold: _said(
        r.choice([f"{gold - 3}+3", f"{gold * 2}/2", f"{gold}*1", f"{gold}^1", f"({gold - 1})+1", f"{gold}!/{gold - 1}!",
                  rf"\frac{{{2 * gold}}}{{2}}"])
    ),
    "nested_tags": lambda r, gold: f"<think><answer>{gold}<answer>{gold}</answer></answer></think>",
    "unclosed_think": lambda r, gold: f"<think>so it is {gold}" + " well" * r.randint(0, 50),
    "answer_inside_think": lambda r, gold: f"<think><answer>{gold}</answer></think>",
    "answer_in_unclosed_think": lambda r, gold: r.choice(["", "<think>a</think>"]) + f"<think>maybe <answer>{gold}</answer>, no, wait",
    "unclosed_answer": lambda r, gold: f"<think>a</think><answer>{gold}",
    "empty_tags": lambda r, gold: r.choice(["<answer></answer>", "<think></think><answer> \n</answer>", "<think></think>a"]),
    "tag_soup_repeat": lambda r, gold: "".join(r.choice(list(TAGS)) for _ in range(r.randint(10, 3000))) + str(gold) + "</answer></answer>",
    "unicode_digits_minus_fullwidth": lambda r, gold: _said(r.choice(["−", "－", "﹣", "–"]) + _digits(r, gold)),
    "other_digits": lambda r, gold: _said(_digits(r, gold + r.randint(1, 9))),
    "superscript": lambda r, gold: _said(f"{gold}²"),
    "rtl_override": lambda r, gold: _said("\u202e" + str(gold)[::-1] + "1"),
    "nul_and_surrogates": lambda r, gold: _said(r.choice([f"\x00{gold + 1}", f"{gold}\ud800{gold}", "\udfff", f"{gold}\x00{gold}"])),
    "power_tower": lambda r, gold: _said(
        "^".join(["9"] * r.randint(2, 12)) if r.random() < 0.5 else "9^{" * (high := r.randint(2, 15)) + "9" + "}" * high
    ),
    "factorial": lambda r, gold: _said(f"{r.randint(10**6, 10**9)}" + "!" * r.randint(1, 3)),
    "sum_1e9": lambda r, gold: _said(rf"\sum_{{i=1}}^{{{10 ** r.randint(8, 12)}}} i^i"),
    "integral": lambda r, gold: _said(rf"\int_0^{{{gold}}} x^{{x^x}} dx"),
    "deep_parens": lambda r, gold: _said("(" * (depth := r.randint(5, 5000)) + f"{gold}+0" + ")" * depth),
    "long_sum": lambda r, gold: _said("+".join(["1"] * r.randint(30, 3000))),
    "200k_digits": lambda r, gold: _said(str(r.randint(1, 9)) * 200_000),
    "huge_exponent": lambda r, gold: _said(f"{gold}e{r.randint(1, 10**9)}"),
    "huge_fraction": lambda r, gold: _said(f"{gold}/{'1' * r.randint(2, 100_000)}"),
    "dunder_import_in_answer": lambda r, gold: _said(f"__import__('os').getpid() * 0 + {gold}"),
    "format_string_field": lambda r, gold: _said(r.choice(["{answer}", "%(answer)s", "{{ item.answer }}", "${answer}", "{0.__class__}"])),
    "copy_gold_from_prompt": lambda r, gold: f"The question says {gold}. <think>{gold}</think>",
    "length_pad": lambda r, gold: _said(" " * r.randint(1, 100_000) + str(gold + 1)),
    "keyword_stuffing": lambda r, gold: _said("right correct true yes RIGHT " * r.randint(1, 3000)),
    "html_script": lambda r, gold: _said(f"<script>alert({gold})</script><b>{gold + 1}</b>"),
    "ansi_osc52": lambda r, gold: _said(f"\x1b]52;c;{gold}\x07{gold + 1}"),
    "rich_markup": lambda r, gold: _said(f"[bold red]{gold + 1}[/] {gold}"),
    "csv_formula": lambda r, gold: _said(f'=HYPERLINK("http://x/{gold}","{gold + 1}")'),
    "redos": lambda r, gold: _said("1," * r.randint(10, 20_000) + "x"),
    "latex_soup": lambda r, gold: _said(
        "".join(r.choice(["\\frac", "{", "}", "$", "1", "\\boxed", "^", "_", "\\sqrt", "x", "="]) for _ in range(r.randint(3, 300)))
    ),
    "near_miss": lambda r, gold: _said(
        r.choice([f"{gold}.{'0' * r.randint(1, 20)}1", f"-{gold}", f"{gold}0", f"{gold}/3", f"{gold}e1", f"0.{gold}"])
    ),
    "changed_by_surroundings": lambda r, gold: _said(
        r.choice(["-({})", "minus {}", "±{}", "{}!", "{} ½", "√{}", "half of {}", "{} million", "{}k", "{}or3", "3or{}", "{} or4", "{}+x",
                  "{}x", "x - {}", "f({})", "-**{}**", r"-\boxed{{{}}}", r"\boxed{{-}}{}", r"{}\text{{ million}}", "{} squared", "not {}",
                  "> {}", "{} and a half", "{}i", "{}π", "x_{}", "0x{}", "負{}"]).format(gold)
    ),
    "division_undone": lambda r, gold: _said(
        r.choice(["{double}/(2)", r"{double} \div 2", "({double})/2", "{double}:2", r"\frac{{{double}.0}}{{2}}",
                  r"\frac{{{double}}}{{(2)}}", r"{gold} \div 1", "{double}.0/2"]).format(double=2 * gold, gold=gold)
    ),
    "calculation_undone": lambda r, gold: _said(
        r.choice([r"\sqrt{{{square}.0}}", r"\sqrt{{{gold}}}\sqrt{{{gold}}}", r"(\sqrt{{{gold}}})^2", "{gold}(1)", r"{gold}\cos 0",
                  "{gold}x^0", "x-x+{gold}", "-(-{gold})",
                  r"\log_2{{2^{{{gold}}}}}", r"\binom{{{gold}}}{{1}}", r"{gold}\pi/\pi", "half of {double}"]
                 ).format(gold=gold, square=gold * gold, double=2 * gold)
    ),
    "false_equation": lambda r, gold: _said(
        r.choice(["17={}", "x=17={}", "2x={}", "x+0={}", "{0}={0}", "1+1={}", "x^2={}", "{} = 17"]).format(gold)
    ),
    "wrong_with_units": lambda r, gold: _said(r.choice(["${}", "{} apples", "{}%", "x = {}", "**{}**"]).format(gold + r.randint(1, 99))),
    "noise": lambda r, gold: "".join(chr(r.choice([r.randint(32, 126), r.randint(160, 0x2FFF)])) for _ in range(r.randint(1, 400))),
    "noise_in_tags": lambda r, gold: _said("".join(chr(r.randint(33, 47)) for _ in range(r.randint(1, 200)))),
}  # fmt: skip


def cases(count: int, seed: int = 0) -> Iterator[Case]:
    """So many, the families in turn. No right answer reads the same backwards."""
    numbers = random.Random(seed)
    names = list(FAMILIES)
    for number in range(count):
        gold = numbers.randint(1001, 9799)
        family = names[number % len(names)]
        yield Case(family=family, completion=FAMILIES[family](numbers, gold), reference=str(gold))


def judged(verifier: Verifier, given: Sequence[Case], clock: Callable[[], float] = time.process_time) -> Outcome:
    """Every case through a verifier, as a rubric does it: the answer is looked for between the tags first.

    The processor's time is taken, which others on the machine do not change; it says nothing of a verifier that waits for a process.
    """
    verdicts: Counter[str] = Counter()
    broken, seconds = set(), []
    for case in given:
        begun = clock()
        try:
            answer = answer_text(case.completion, TAGS)
            verdict = Verdict.UNREADABLE if answer is None else verifier(answer, case.reference)
        except Exception as error:  # boundary: what escapes is what is looked for
            verdict = type(error).__name__
            broken.add(case.family)
        seconds.append(clock() - begun)
        verdicts[str(verdict)] += 1
        if verdict == Verdict.RIGHT:
            broken.add(case.family)
    return Outcome(verdicts=verdicts, broken=tuple(sorted(broken)), seconds=tuple(seconds))


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} cases")
    parser.add_argument("--write", action="store_true", help="append the table to benchmarks/results")
    options = parser.parse_args(arguments)
    given = list(cases(QUICK if options.quick else CASES))
    warm = {"math": "x+1"}
    for name, verifier in verifiers.items():
        verifier(warm.get(name, "1"), "x+1" if name == "math" else "1")
    clocks = {"math": time.perf_counter}
    outcomes = {name: judged(verifier, given, clocks.get(name, time.process_time)) for name, verifier in verifiers.items()}
    met = all(not outcome.broken and max(outcome.seconds) < _limit(name) for name, outcome in outcomes.items())
    table = Table(
        title=f"{len(given)} texts of {len(FAMILIES)} families, none of them right",
        columns=("verifier", "right", "wrong", "unreadable", "exceptions", "median ms", "99.9 % ms", "worst ms", "over 50 ms"),
        rows=tuple(_row(name, outcome) for name, outcome in outcomes.items()),
        notes=tuple(f"{name}: broken by {', '.join(outcome.broken)}." for name, outcome in outcomes.items() if outcome.broken),
    )
    right = sum(outcome.verdicts.get("right", 0) for outcome in outcomes.values())
    figure = f"{right} right, worst {max(max(outcome.seconds) for outcome in outcomes.values()):.2f} s"
    bar = Bar(name=NAME, met=met, figure=figure, goal=f"0 right, no exception, each under 50 ms, math killed at {SECONDS:g} s")
    return conclude(table, bar, machine=describe_machine(1), write=options.write)


def _limit(name: str) -> float:
    """The verifier `math` may take its deadline, and the start of the process that replaces the killed one."""
    return SECONDS + 30 if name == "math" else QUICKLY


def _row(name: str, outcome: Outcome) -> tuple[str, ...]:
    milliseconds = sorted(1000 * value for value in outcome.seconds)
    counts = [outcome.verdicts.get(verdict.value, 0) for verdict in (Verdict.RIGHT, Verdict.WRONG, Verdict.UNREADABLE)]
    last = milliseconds[int(0.999 * len(milliseconds))]
    return (
        name, *map(str, counts), str(len(milliseconds) - sum(counts)), f"{statistics.median(milliseconds):.3f}", f"{last:.1f}",
        f"{milliseconds[-1]:.1f}", str(sum(value > 50 for value in milliseconds)),
    )


def _digits(numbers: random.Random, value: int) -> str:
    """In another script."""
    zero = numbers.choice([0x660, 0x966, 0xFF10, 0xE50])
    return "".join(chr(zero + int(digit)) for digit in str(value))


if __name__ == "__main__":
    raise SystemExit(main())
