"""The table and the bar of the speed comparison, from made-up measurements."""

from __future__ import annotations

import pytest

from benchmarks import step_vs_trl
from benchmarks.step_vs_trl import Measured
from benchmarks.timing import StepTime


def steps(*seconds: float, tokens: int = 1000) -> tuple[StepTime, ...]:
    return tuple(StepTime(seconds=value, tokens=tokens) for value in seconds)


def measured(ours: tuple[StepTime, ...], theirs: tuple[StepTime, ...], *, settings: str = "4 micro-batches") -> Measured:
    return Measured(name="arithmetic", shape="16 x 8", ours=ours, theirs=theirs, settings=settings)


def test_bar_is_the_ratio_of_medians() -> None:
    """Prevents: one slow outlier of the peer that makes the bar."""
    bar = step_vs_trl.bar([measured(steps(1.0, 1.0, 1.0), steps(2.0, 2.0, 90.0))])
    assert bar.line() == "bar step_vs_trl: missed, 2.0x (goal 3.0x)" and bar.exit_code == 1
    assert step_vs_trl.bar([measured(steps(1.0, 9.0, 1.0), steps(3.5, 3.5, 3.5))]).line().startswith("bar step_vs_trl: met, 3.5x")


def test_fewer_tokens_are_no_speed() -> None:
    """Prevents: winning by sampling shorter completions; and losing nothing where the peer's are shorter."""
    half = step_vs_trl.bar([measured(steps(1.0, tokens=500), steps(4.0, tokens=1000))])
    assert not half.met and half.figure == "2.0x"
    assert step_vs_trl.bar([measured(steps(1.0, tokens=1000), steps(4.0, tokens=500))]).figure == "4.0x"


def test_bar_is_held_on_the_first_workload() -> None:
    slow = measured(steps(1.0), steps(1.0))
    assert step_vs_trl.bar([measured(steps(1.0), steps(4.0)), slow]).met
    assert not step_vs_trl.bar([slow, measured(steps(1.0), steps(4.0))]).met


def test_row_shows_time_and_work_of_both_sides() -> None:
    table = step_vs_trl.table([measured(steps(0.5, 0.6, 0.4), steps(2.0, 1.6, 3.0, tokens=990))])
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "workload": "arithmetic", "batch": "16 x 8", "Heron steps/min": "120.0", "TRL steps/min": "30.0", "Heron s": "0.50",
        "TRL s": "2.00", "Heron tokens": "1000", "TRL tokens": "990", "ratio": "4.0x", "best/best": "4.0x",
    }
    assert "4 micro-batches (arithmetic)" in table.notes[1]


def test_absent_peer_is_named_and_misses_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a comparison with nobody that passes."""
    monkeypatch.setattr(step_vs_trl, "installed", lambda package: None)
    alone = measured(steps(1.0), (), settings="")
    table = step_vs_trl.table([alone])
    assert table.rows[0].count("absent") == 3
    assert table.notes == ("Peers here: none; absent, not measured: trl, vllm, unsloth.",)
    assert step_vs_trl.bar([alone]).line() == "bar step_vs_trl: missed, not measured, TRL is not installed (goal 3.0x)"
    assert step_vs_trl.bar([alone]).exit_code == 1


def test_arguments() -> None:
    options = step_vs_trl.parser().parse_args(["--quick", "--threads", "2"])
    assert (options.quick, options.write, options.threads) == (True, False, 2)
    with pytest.raises(SystemExit):
        step_vs_trl.parser().parse_args(["--qick"])


def test_main_measures_every_workload_and_returns_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plans: list[object] = []

    class Workload:
        name = "arithmetic"

    def measure(workload: object, plan: object, scratch: object) -> Measured:
        plans.append(plan)
        return measured(steps(1.0), steps(9.0))

    monkeypatch.setattr(step_vs_trl, "_workloads", lambda scratch: [Workload()])
    monkeypatch.setattr(step_vs_trl, "measure", measure)
    assert step_vs_trl.main(["--quick"]) == 0
    assert plans == [step_vs_trl.QUICK["arithmetic"]]
    assert capsys.readouterr().out.splitlines()[-1] == "bar step_vs_trl: met, 9.0x (goal 3.0x)"
