"""From logits to tokens: Heron's sampler against `torch.multinomial`, with everything around it counted on both sides.

    python -m benchmarks.sampling_draw [--quick] [--write]

One thread, CPU seconds, the least of several rounds in which the sides take turns. Both sides start from float32 logits `[64, V]` and end
with a token and its log-prob for each row, as a rollout needs them; Heron's has the entropy as well. The lines with a bar hold the draw
against `torch.multinomial`: the whole of ours, softmax and all, against softmax and `multinomial`, tokens only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.machine import describe_machine
from benchmarks.report import Bar, Table, conclude
from heron.kernels.filters import lowest_logit
from heron.kernels.sampling import sample

NAME = "sampling_draw"
ROWS = 64
GOALS = {32_768: 30.0, 151_936: 12.0}
"""Least ratio by vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    what: str
    """Both sides, and where."""
    ours: float
    """CPU seconds."""
    theirs: float
    """CPU seconds."""
    goal: float = 0.0
    """Least ratio of theirs to ours; 0 only informs."""

    @property
    def ratio(self) -> float:
        """Of theirs to ours."""
        return self.theirs / self.ours

    @property
    def is_held(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio >= self.goal

    def cells(self) -> tuple[str, ...]:
        """Of the table."""
        goal, verdict = (f">= {self.goal:.0f}x", "met" if self.is_held else "missed") if self.goal else ("", "")
        return self.what, f"{self.ours * 1e3:.2f} ms", f"{self.theirs * 1e3:.1f} ms", f"{self.ratio:.1f}x", goal, verdict


def measure(quick: bool) -> list[Row]:
    """Every line. Sets torch to one thread for as long as it runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return [row for vocabulary in GOALS for row in _rows(vocabulary, rounds=4 if quick else 20)]
    finally:
        torch.set_num_threads(threads)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--write", action="store_true", help=f"append to benchmarks/results/{NAME}.md")
    options = parser.parse_args(arguments)
    rows = measure(options.quick)
    return conclude(table(rows), bar(rows), machine=describe_machine(1), write=options.write)


def table(rows: Sequence[Row]) -> Table:
    """Of what was measured."""
    return Table(
        title=f"From logits [{ROWS}, V] to tokens, one thread, CPU time, least of several rounds",
        columns=("what", "Heron", "peer", "ratio", "goal", "verdict"), rows=tuple(row.cells() for row in rows),
        notes=("Heron's time is always the whole way from logits to token, log-prob and entropy.",),
    )


def bar(rows: Sequence[Row]) -> Bar:
    """All goals together."""
    asked = [row for row in rows if row.goal]
    missed = [f"{row.what} {row.ratio:.1f}x" for row in asked if not row.is_held]
    figure = f"{len(asked) - len(missed)} of {len(asked)} held" + (f", missed: {'; '.join(missed)}" if missed else "")
    return Bar(name=NAME, met=not missed, figure=figure, goal="all of them")


def _rows(vocabulary: int, *, rounds: int) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, vocabulary, generator=generator) * 3  # entropy of a warm policy, a few nats
    uniforms = torch.rand(ROWS, generator=generator, dtype=torch.float64)
    probabilities = logits.softmax(-1)
    times = _least_seconds({
        "sample": lambda: sample(logits, uniforms),
        "tempered": lambda: sample(logits, uniforms, temperature=0.7),
        "nucleus": lambda: sample(
            logits, uniforms, temperature=0.7, at_least=lowest_logit(logits, temperature=0.7, top_k=50, top_p=0.9)
        ),
        "multinomial": lambda: torch.multinomial(probabilities, 1),
        "softmax": lambda: torch.multinomial(logits.softmax(-1), 1),
        "logprob": lambda: _as_transformers(logits),
        "warpers": lambda: _as_transformers(_warped(logits, 0.7, 50, 0.9)),
    }, rounds)
    where = f"V {vocabulary:,}".replace(",", " ")
    return [
        Row(what=f"softmax and multinomial, {where}", ours=times["sample"], theirs=times["softmax"], goal=GOALS[vocabulary]),
        Row(what=f"multinomial alone, {where}", ours=times["sample"], theirs=times["multinomial"]),
        Row(what=f"softmax, multinomial, log-prob, {where}", ours=times["sample"], theirs=times["logprob"]),
        Row(what=f"the same at temperature 0.7, {where}", ours=times["tempered"], theirs=times["logprob"]),
        Row(what=f"top-k 50, top-p 0.9 as in transformers, {where}", ours=times["nucleus"], theirs=times["warpers"]),
    ]


def _as_transformers(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Token and log-prob as `generate` and a trainer after it compute them."""
    tokens = torch.multinomial(scores.softmax(-1), 1)
    return tokens, scores.log_softmax(-1).gather(-1, tokens)


def _warped(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    ids = torch.zeros(len(logits), 1, dtype=torch.int64)
    return TopPLogitsWarper(top_p)(ids, TopKLogitsWarper(top_k)(ids, logits / temperature))


def _least_seconds(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Of each side's fastest round; slow ones take part in every fourth round only."""
    least = {name: _seconds(call) for name, call in sides.items()}  # the first calls also set libraries up
    for number in range(rounds):
        for name, call in sides.items():
            if least[name] < 0.05 or number % 4 == 0:
                least[name] = min(least[name], _seconds(call))
    return least


def _seconds(call: Callable[[], object]) -> float:
    before = time.process_time()
    call()
    return time.process_time() - before


if __name__ == "__main__":
    raise SystemExit(main())
