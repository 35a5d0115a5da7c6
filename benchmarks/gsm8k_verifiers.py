"""Every gold answer of GSM8K through the verifier `number`: right for itself, wrong for another row's, never unreadable.

    python -m benchmarks.gsm8k_verifiers --data FOLDER [--write]

FOLDER holds `train.jsonl` and `test.jsonl` with the columns question and answer. Each gold is shown in several dresses that models use
(`DRESSES`), and each row is also compared with the gold of the next row that has another one. Also counted: rows whose five classical
rewards pay a well-formed right answer less than 4.0. The bar: 0 exceptions from the rule, over all rows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.report import Bar, Table, conclude
from heron.rewards import Verdict, answer_text, gsm8k, verifiers
from heron.rewards import number as value_of
from heron.types import Tags

NAME = "gsm8k_verifiers"
FILES = ("train.jsonl", "test.jsonl")
DRESSES = ("{}", "${}", "{}.", "**{}**", "The answer is {}.", "{} apples", r"\boxed{{{}}}", "{}.00", "x = {}")
TAGS = Tags(reasoning_start="<reasoning>", reasoning_end="</reasoning>", solution_start="<answer>", solution_end="</answer>")


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge all rows, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--write", action="store_true", help="append the table to benchmarks/results")
    options = parser.parse_args(arguments)
    counts = {name: judged(golds(options.data / name)) for name in FILES}
    table = Table(
        title="The verifier number on the gold answers of GSM8K",
        columns=("file", "rows", "gold shown", "right", "another's shown", "wrong", "unreadable", "not paid 4.0", "seconds"),
        rows=tuple(_row(name, count) for name, count in counts.items()),
        notes=(f"Each gold in {len(DRESSES)} dresses: {'  '.join(DRESSES)}",),
    )
    whole = sum(counts.values(), Counter())
    failures = whole["same"] - whole["right"] + whole["other"] - whole["wrong"] + whole["unpaid"]
    bar = Bar(name=NAME, met=failures == 0 and whole["rows"] > 0, figure=f"{failures} failures in {whole['rows']} rows", goal="0")
    return conclude(table, bar, machine=describe_machine(1), write=options.write)


def _row(name: str, count: Counter[str]) -> tuple[str, ...]:
    figures = (str(count[key]) for key in ("rows", "same", "right", "other", "wrong", "unreadable", "unpaid"))
    return (name, *figures, f"{count['seconds']:.1f}")


def golds(path: Path) -> list[str]:
    """What stands behind the last `####` of each row."""
    return [json.loads(line)["answer"].rpartition("####")[2].strip() for line in path.read_text(encoding="utf-8").splitlines()]


def judged(references: Sequence[str]) -> Counter[str]:
    """How many verdicts of each kind, over all rows."""
    begun = time.perf_counter()
    count: Counter[str] = Counter(rows=len(references))
    for row, reference in enumerate(references):
        others = (references[(row + step) % len(references)] for step in range(1, len(references)))
        other = next(each for each in others if value_of(each) != value_of(reference))
        for dress in DRESSES:
            same, wrong = (verifiers["number"](dress.format(shown), reference) for shown in (reference, other))
            count.update(same=1, other=1, right=same is Verdict.RIGHT, wrong=wrong is Verdict.WRONG)
            count["unreadable"] += [same, wrong].count(Verdict.UNREADABLE)
        count["unpaid"] += _paid(reference) != 4.0
    count["seconds"] = time.perf_counter() - begun  # type: ignore[assignment]
    return count


def _paid(reference: str) -> float:
    """What the five classical rewards give to a well-formed right answer."""
    completion = f"<reasoning>\nfirst\nsecond\n</reasoning>\n<answer>\n{reference}\n</answer>"
    assert answer_text(completion, TAGS) == reference
    shaped = (gsm8k.integer, gsm8k.strict_format, gsm8k.soft_format, gsm8k.tag_count)
    return gsm8k.correctness(completion=completion, answer=reference, tags=TAGS) + sum(each(completion, TAGS) for each in shaped)


if __name__ == "__main__":
    raise SystemExit(main())
