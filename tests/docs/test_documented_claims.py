"""What the pages say beside a peer's published figures is what the planner says."""

from __future__ import annotations

import re

import pytest

from heron.config import load_config, parse_overrides
from heron.memory.devices import find_device
from heron.memory.guide import tables
from heron.memory.known import SHAPES
from heron.memory.seconds import step_seconds
from tests.docs.documents import ROOT

PEERS = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
MEMORY = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")


def sampled_a_second(method: str) -> float:
    """Tokens, by the plan for an A100, of the recipe for the model that the claim is about."""
    config = load_config("llama-3.2-3b", parse_overrides([f"--model.method={method}"]))
    step = step_seconds(config, SHAPES["Llama-3.2-3B"], prompt_tokens=256, device=find_device("A100-40"))
    return config.train.prompts_per_step * config.rollout.num_generations * config.rollout.max_completion_length / step.sampling


def test_the_estimate_beside_the_claimed_speed_is_the_planners() -> None:
    """Prevents: a figure for an A100 that no plan gives any more."""
    told = re.search(r"estimates ([\d,]+) with 64 answers at once \(([\d,]+) in 16 bits", PEERS)
    assert told is not None
    assert [int(figure.replace(",", "")) for figure in told.groups()] == [
        pytest.approx(sampled_a_second(method), rel=0.02) for method in ("qlora", "lora")]


def test_how_much_more_16_bits_take_is_in_the_table() -> None:
    """Prevents: a range that is not that of the table above it."""
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in tables()["sizes"].splitlines()[2:]]
    published = [float(row[5]) / float(row[2]) for row in cells if row[5] != "-"]
    planned = [float(row[6]) / float(row[3]) for row in cells]
    ranges = [f"{min(ratios):.1f} to {max(ratios):.1f}" for ratios in (published, planned)]
    assert f"it is {ranges[0]} times, in Heron's plan {ranges[1]}:" in " ".join(MEMORY.split())
