"""The comparison of engines by whole steps: its table and its bar, from made-up measurements."""

from __future__ import annotations

import pytest

from benchmarks import step_with_engines
from benchmarks.step_with_engines import NATIVE, PEERS, Timed
from benchmarks.timing import StepTime


def timed(*seconds: float, tokens: int = 1200, sampling: float | None = None) -> Timed:
    steps = tuple(StepTime(seconds=value, tokens=tokens) for value in seconds)
    return Timed(steps=steps, sampling=() if sampling is None else (sampling,) * len(steps))


def sides(native: Timed, **peers: Timed) -> dict[str, Timed]:
    return {NATIVE: native, "Heron, hf engine": timed(6.0)} | dict(zip(PEERS, peers.values(), strict=False))


def test_better_way_of_the_peer_decides() -> None:
    """Prevents: winning against the slower of TRL's two ways to sample."""
    found = sides(timed(2.0), generate=timed(14.0), batching=timed(10.0))
    assert step_with_engines.bar(found).line() == "bar step_with_engines: missed, 5.0x (goal 6.0x)"
    assert step_with_engines.bar(sides(timed(2.0), generate=timed(14.0), batching=timed(13.0))).met


def test_fewer_tokens_are_no_speed() -> None:
    """Prevents: winning by sampling shorter completions."""
    assert not step_with_engines.bar(sides(timed(1.0, tokens=600), generate=timed(10.0))).met


def test_share_of_sampling_is_over_all_steps() -> None:
    """Prevents: a share that is one step's, and one made up for a side that keeps no clock."""
    table = step_with_engines.table(sides(timed(1.0, 3.0, 3.0, sampling=0.7), generate=timed(18.0)))
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert (rows[NATIVE]["of it sampling"], rows["TRL, generate"]["of it sampling"]) == ("30 %", "-")
    assert (rows[NATIVE]["s a step"], rows["TRL, generate"]["Heron's native engine over it"]) == ("3.00", "6.0x")


def test_absent_peer_misses_the_bar() -> None:
    """Prevents: a comparison with nobody that passes."""
    alone = {NATIVE: timed(1.0)}
    assert step_with_engines.bar(alone).exit_code == 1 and "TRL is absent" in step_with_engines.table(alone).notes[0]


def test_arguments() -> None:
    assert step_with_engines.parser().parse_args(["--quick", "--write"]).quick
    with pytest.raises(SystemExit):
        step_with_engines.parser().parse_args(["--rounds"])
