"""The sampling benchmark: the sides do the same work, useful tokens are counted, the ideal schedule is ideal, the worst line decides."""

from __future__ import annotations

import json
import math
import stat
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks import sampling, sampling_draw, sampling_floor, sampling_memory, sampling_sides, sampling_skew
from benchmarks.sampling_checks import Check, worst
from benchmarks.sampling_draw import Row
from benchmarks.sampling_loads import PLAIN, SMALL, WIDE, Load, Shape, rollout, save_counting, save_model
from benchmarks.sampling_sides import Sampled, Speed, useful_tokens
from benchmarks.sampling_skew import Costs

TINY = Shape(name="tiny", vocabulary=3000, width=128, inner=64, layers=1, heads=2, key_heads=2)
LOAD = Load(name="rollout", prompts=2, siblings=2, prompt_tokens=5, max_tokens=6)

WORKER = """
import json, sys
print(json.dumps({"version": "9.9"}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps({"tokens": len(asked["prompts"]) * asked["siblings"] * asked["max_tokens"], "cpu": 1.0, "wall": 2.0}), flush=True)
"""


def speed(value: float) -> Speed:
    return Speed(cpu=value, wall=value / 2, tokens=1000)


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_counting(tmp_path_factory.mktemp("counting"), TINY)


def test_useful_tokens_end_with_the_first_end_token() -> None:
    """Prevents: padding that counts as speed, and an end token that one side counts and the other does not."""
    assert useful_tokens([5, 6, 0, 1, 1], ends=(0, 9)) == 3
    assert useful_tokens([5, 9, 0], ends=(0, 9)) == 2
    assert useful_tokens([5, 6, 7], ends=(0,)) == useful_tokens([5, 6, 7], ends=()) == 3


@pytest.mark.parametrize("name", ["heron", "hf", "static", "batching"])
def test_a_planned_length_is_the_length(counting: Path, name: str) -> None:
    """Prevents: sides that stop at different end tokens, or a counting model that miscounts: then tokens a second compare nothing."""
    sides = {
        "heron": lambda: sampling_sides.Heron(counting, "float32"), "hf": lambda: sampling_sides.HuggingFace(counting, "float32"),
        "static": lambda: sampling_sides.HuggingFace(counting, "float32", cache="static"),
        "batching": lambda: sampling_sides.ContinuousBatching(counting, "float32"),
    }
    load = replace(LOAD, siblings=1, ends=(1500,))
    prompts = [(2100, 2200, 1497), (2300, 2400, 1499)]  # 3 tokens and 1
    prompts = [(2500, 2500, *prompt) for prompt in prompts]
    side = sides[name]()
    assert side.sample(load, prompts, seed=1).tokens == 3 + 1
    assert side.sample(replace(load, ends=()), prompts, seed=1).tokens == 2 * load.max_tokens
    if isinstance(side, sampling_sides.HuggingFace):  # once all have ended it stops: no peer is made to work for nothing
        assert side.generate(load, prompts).sequences.shape[1] == load.prompt_tokens + 3


def test_prompts_are_the_same_for_the_same_round() -> None:
    """Prevents: a prefix cache that answers later rounds, and sides that get different work."""
    assert LOAD.draw(3000, seed=1) == LOAD.draw(3000, seed=1) != LOAD.draw(3000, seed=2)
    asked: dict[str, list[object]] = {"a": [], "b": []}

    class Side:
        def __init__(self, name: str) -> None:
            self.name = name

        def sample(self, load: Load, prompts: object, seed: int) -> Sampled:
            asked[self.name].append(prompts)
            return Sampled(tokens=10 * len(asked[self.name]), cpu=1.0, wall=2.0)

    speeds = sampling_sides.take_turns({"a": Side("a"), "b": Side("b")}, LOAD, 3000, rounds=3)
    assert asked["a"] == asked["b"] and len({str(prompts) for prompts in asked["a"]}) == 4
    assert speeds["a"] == Speed(cpu=30.0, wall=15.0, tokens=30)  # of rounds with 20, 30 and 40 tokens: the warm-up is not counted


def test_end_tokens_make_a_mean_of_44() -> None:
    assert SMALL.vocabulary / len(rollout(SMALL).ends) == pytest.approx(44, rel=0.01)
    assert not PLAIN.ends and PLAIN.answers == rollout(SMALL).answers == 64


def test_vllm_answers_through_its_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a worker whose rounds get mixed up, or one that has died and is waited for without end."""
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{WORKER}")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    with sampling_sides.vllm(python, tmp_path, "float32", tmp_path) as sides:
        side = sides["vLLM"]
        assert side.sample(LOAD, LOAD.draw(3000, 0), seed=1) == Sampled(tokens=24, cpu=1.0, wall=2.0)
        assert side.sample(replace(LOAD, max_tokens=1), LOAD.draw(3000, 0), seed=2).tokens == 4
    python.write_text(f"#!{sys.executable}\nraise SystemExit('no such model')")
    with pytest.raises(RuntimeError, match="no such model"), sampling_sides.vllm(python, tmp_path, "float32", tmp_path):
        pass
    with sampling_sides.vllm(None, tmp_path, "float32", tmp_path) as sides:
        assert sides == {}


def test_longest_first_keeps_every_slot_busy() -> None:
    """Prevents: an ideal that is no lower bound: its steps must hold all tokens, and be as many as the longest answer needs."""
    assert sampling_skew.rows_of_steps([4, 1, 1, 1, 1], slots=2) == [2, 2, 2, 2]
    assert sampling_skew.rows_of_steps([1, 1, 1, 6], slots=4) == [4, 1, 1, 1, 1, 1]
    lengths = sampling_skew.skewed(128)
    rows = sampling_skew.rows_of_steps(lengths, slots=32)
    assert sum(rows) == sum(lengths) and len(rows) == max(lengths) and max(rows) == 32
    assert sorted(lengths)[-4:] == [384] * 4 and set(lengths[:-4]) <= {24, 384} and len(lengths) == 128


def test_ideal_counts_prompts_and_steps() -> None:
    costs = Costs(prompt=10.0, steps={1: 1.0, 4: 4.0})
    assert [costs.step(rows) for rows in (1, 2, 4)] == [1.0, 2.0, 4.0]
    # two answers of 3 tokens and one of 1: the first tokens come with the prompts
    assert sampling_skew.ideal_seconds([3, 1, 3], slots=2, costs=costs) == 30.0 + 2 * 2.0
    assert sampling_skew.ideal_seconds([3, 1, 3], slots=1, costs=costs) == 30.0 + 4 * 1.0


def test_skewed_lengths_are_measured_on_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: planned lengths that the model does not keep, for then the ideal is that of other work."""
    monkeypatch.setattr(sampling_skew, "SMALL", TINY)
    monkeypatch.setattr(sampling_skew, "SLOTS", 4)
    monkeypatch.setattr(sampling_skew, "STEPS", 3)
    monkeypatch.setattr(sampling_skew, "SHORT", 4)
    monkeypatch.setattr(sampling_skew, "LONG", 40)
    found = sampling_skew.measure(tmp_path, rounds=1, answers=32)
    assert found.figure > 0 and found.at_most and found.goal == 1.15
    monkeypatch.setattr(sampling_skew, "END", sampling_skew.END + 1)
    save_model(tmp_path / "random", TINY)
    monkeypatch.setattr(sampling_skew, "save_counting", lambda folder, shape: tmp_path / "random")
    with pytest.raises(RuntimeError, match="were planned"):
        sampling_skew.measure(tmp_path, rounds=1, answers=32)


def test_floor_is_the_longer_of_products_and_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a floor that leaves out the head, or the keys of some rows."""
    side = sampling_sides.Heron(save_model(tmp_path, TINY), "float32")
    load = replace(LOAD, siblings=4, prompt_tokens=10, max_tokens=20)
    slow, fast = (sampling_floor.floor(side.policy, load, bandwidth) for bandwidth in (1.0, 1e30))
    weights = sum(weight.numel() for weight in side.policy.model.parameters() if weight.ndim == 2)
    assert slow.flops == 2 * 8 * weights
    assert slow.read == 4 * weights + 8 * (10 + 20 / 2) * (2 * 1 * 2 * 64 * 4) == slow.seconds
    assert fast.seconds == fast.products > 0
    monkeypatch.setattr(sampling_floor, "LARGE_ARRAY", 1 << 22)
    assert 1e8 < sampling_floor.read_bandwidth() < 1e12


def test_formula_of_the_padded_cache_is_transformers_own(tmp_path: Path) -> None:
    """Prevents: a ratio to a cache that nobody has."""
    shape = replace(TINY, layers=2, key_heads=1)
    side = sampling_sides.HuggingFace(save_model(tmp_path, shape), "float32")
    cache = side.generate(LOAD, LOAD.draw(3000, 0)).past_key_values
    held = sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert sampling_memory.padded_megabytes(shape, LOAD, LOAD.max_tokens, 4) * 2**20 == held


def test_memory_is_pages_over_the_padded_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a ratio turned upside down, or one of bfloat16 over float32."""
    whole = 2 * SMALL.layers * 64 * (512 + 100 - 1) * SMALL.key_heads * 64 * 4 / 2**20
    used = sampling_memory.Used(pages=whole / 5, growth=whole / 2, longest=100)
    monkeypatch.setattr(sampling_memory, "_in_process", lambda model, dtype: used)
    pages, growth = sampling_memory.measure(Path("model"), "float32")
    assert pages.figure == pytest.approx(0.2) and pages.cells()[2:4] == ("<= 0.25x", "met")
    assert growth.figure == pytest.approx(0.5) and growth.goal is None
    assert sampling_memory.measure(Path("model"), "bfloat16")[0].figure == pytest.approx(0.4)


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_memory_counts_what_sampling_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a peak that is read before the call, or after its memory was given back; pages of one layer alone."""
    monkeypatch.setattr(sampling_memory, "load", lambda: replace(LOAD, prompt_tokens=64, max_tokens=40))
    monkeypatch.setattr(sampling_memory, "SMALL", TINY)
    sample = sampling_memory._sample

    def hungry(side: sampling_sides.Heron) -> Any:
        held = bytearray(200 << 20)
        found = sample(side)
        del held
        return found

    monkeypatch.setattr(sampling_memory, "_sample", hungry)
    sampling_memory._main([str(save_model(tmp_path, replace(TINY, layers=2))), "float32"])
    used = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 190 < used["growth"] < 300 and used["longest"] == 40
    page = 2 * 32 * 2 * 2 * 64 * 4 / 2**20  # layers, tokens, keys and values, heads, width, float32
    least = 2 * 2 + 4 * 2  # two prompts of two pages each; four answers of up to 40 tokens
    assert least <= used["pages"] / page <= least + 8  # siblings may begin on one page, and a page may move


@pytest.mark.parametrize(("figure", "goal", "at_most", "verdict"), [
    (7.0, 7.0, False, "met"), (6.9, 7.0, False, "missed"), (1.1, 1.15, True, "met"), (1.2, 1.15, True, "missed"), (9.0, None, False, ""),
    (math.nan, 7.0, False, ""),
])
def test_verdicts(figure: float, goal: float | None, at_most: bool, verdict: str) -> None:
    assert Check(what="", figure=figure, goal=goal, at_most=at_most).cells()[3] == verdict


def test_worst_line_decides() -> None:
    """Prevents: a bar that the best line holds, or the first; a small ratio that is no worse than a large one below its goal."""
    small, large = Check(what="plain", figure=1.9, goal=1.8), Check(what="rollout", figure=6.3, goal=7.0)
    inform, skew = Check(what="floor", figure=0.1), Check(what="skew", figure=1.1, goal=1.15, at_most=True)
    bar = worst([small, inform, large, skew], name="sampling")
    assert bar.line() == (
        "bar sampling: missed, 2 of 3 lines held, the worst at 0.90 of its goal (rollout: 6.30x) (goal >= 7x there, all lines held)"
    )
    assert worst([small, inform, skew], name="sampling").exit_code == 0
    assert worst([small, replace(skew, figure=1.2)], name="sampling").exit_code == 1


def test_absent_peer_is_named_and_alone_is_no_success() -> None:
    """Prevents: a comparison with nobody that passes, and one that hides who was missing."""
    absent = Check(what="over vLLM", figure=math.nan, goal=1.5)
    bar = worst([Check(what="over HF", figure=8.0, goal=7.0), absent], name="sampling")
    assert bar.met and "not compared: over vLLM" in bar.figure
    assert not worst([absent], name="sampling").met


def test_every_way_of_a_peer_is_shown() -> None:
    """Prevents: hiding the setting in which a peer is faster than as everybody calls it."""
    speeds: Mapping[str, Speed] = {
        sampling.HF: speed(70), sampling.STATIC: speed(100), sampling.BATCHING: speed(500), "Heron": speed(700),
    }
    peers = (sampling.HF, sampling.STATIC, sampling.VLLM, sampling.BATCHING)
    hf, static, vllm, batching = sampling.compare(sampling.CASES[0], rollout(SMALL), speeds, peers=peers)
    assert (hf.figure, hf.goal, static.figure, static.goal, batching.figure, batching.goal) == (10.0, 7.0, 7.0, None, 1.4, None)
    assert vllm.cells()[1] == "absent" and vllm.goal == 1.5
    assert "Heron 700" in hf.behind and "HF generate 70 (35 by the clock)" in hf.behind


def test_whole_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a part that is measured and not shown, a peer that was asked for and not run, and an exit code that contradicts the bar."""
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{WORKER}")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    plain = replace(LOAD, name="plain decode")
    goals = {"rollout": {"HF generate": 1e-9, "vLLM": 1e9}, "plain decode": {"HF generate": 1e-9}}
    case = sampling.Case(shape=TINY, dtype="float32", goals=goals)
    monkeypatch.setattr(sampling, "QUICK", sampling.Plan(rounds=1, cases=(case,), batching=True, vllm_dtypes=("float32",)))
    monkeypatch.setattr(sampling, "SMALL", TINY)
    monkeypatch.setattr(sampling, "PLAIN", plain)
    monkeypatch.setattr(sampling, "rollout", lambda shape: replace(LOAD, ends=(5,)))
    monkeypatch.setattr(sampling_floor, "LARGE_ARRAY", 1 << 22)
    monkeypatch.setattr(sampling_memory, "measure", lambda model, dtype: [Check(what=f"memory {dtype}", figure=0.2)])
    monkeypatch.setattr(sampling_skew, "measure", lambda folder, rounds: Check(what="skew", figure=1.1))
    monkeypatch.setattr(sampling_draw, "measure", lambda quick: [Row(what="multinomial", ours=1.0, theirs=40.0)])
    assert sampling.main(["--quick", "--vllm-python", str(python)]) == 1
    output = capsys.readouterr().out
    lines = output[output.index("what  "):].splitlines()
    for what in ("rollout, tiny, float32: over ", "plain decode, tiny, float32: over "):
        measured = [line for line in lines if line.startswith(what)]
        assert [line[len(what) :].split("  ")[0] for line in measured] == [
            "HF generate", "HF with a static cache", "vLLM", "HF continuous batching",
        ]
        assert not any("absent" in line for line in measured)
    for what in ("a decode step of 4 rows", "memory float32", "memory bfloat16", "skew", "draw of 64 rows: over multinomial"):
        assert sum(line.startswith(what) for line in lines) == 1
    assert lines[-1].startswith("bar sampling: missed, 2 of 3 lines held") and "rollout, tiny, float32: over vLLM" in lines[-1]


def test_step_leaves_prompts_out() -> None:
    """Prevents: prompts' time that is counted as steps'."""
    floor = sampling_floor.Floor(products=0.002, flops=1e9, reading=0.001, read=1e6)
    found = sampling.step(sampling.CASES[0], PLAIN, Speed(cpu=1000, wall=1, tokens=1016), first=0.508, floor=floor, how="onednn route")
    assert found.figure == pytest.approx((1.016 - 0.508) / 127 / 0.002)


def test_goals_of_the_draw_are_kept() -> None:
    """Prevents: a line of the sampler that loses its goal on the way into this table, or one that only informs and gets one."""
    asked, informs = (sampling.drawn(Row(what="multinomial", ours=0.001, theirs=0.02, goal=goal)) for goal in (30.0, 0.0))
    assert asked.figure == pytest.approx(20) and asked.cells()[3] == "missed" and informs.cells()[3] == ""


def test_arguments_and_goals() -> None:
    options = sampling.parser().parse_args(["--quick", "--vllm-python", "/x/python"])
    assert (options.quick, options.write, options.vllm_python) == (True, False, Path("/x/python"))
    assert sampling.parser().parse_args([]).vllm_python is None
    asked = {(case.shape.name, case.dtype, load, peer): goal for case in sampling.CASES for load, goals in case.goals.items()
             for peer, goal in goals.items()}
    assert asked == {
        ("10 M", "float32", "rollout", "HF generate"): 7.0, ("10 M", "float32", "rollout", "vLLM"): 1.5,
        ("10 M", "float32", "plain decode", "HF generate"): 1.8, ("10 M", "bfloat16", "rollout", "HF generate"): 9.0,
        ("10 M", "bfloat16", "rollout", "vLLM"): 1.1, ("10 M", "bfloat16", "plain decode", "HF generate"): 3.0,
        (WIDE.name, "float32", "rollout", "HF generate"): 7.0, (WIDE.name, "float32", "rollout", "vLLM"): 1.5,
        (WIDE.name, "bfloat16", "rollout", "HF generate"): 9.0, (WIDE.name, "bfloat16", "rollout", "vLLM"): 1.1,
        ("100 M", "float32", "rollout", "HF generate"): 2.0, ("100 M", "bfloat16", "rollout", "HF generate"): 2.0,
        ("100 M", "float32", "plain decode", "HF generate"): 2.0, ("100 M", "bfloat16", "plain decode", "HF generate"): 2.0,
    }
