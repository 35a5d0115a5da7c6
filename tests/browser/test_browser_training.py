"""The page beside a real training: what a trainer records is what the screens draw."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import SCREENS, go

Visit = Callable[..., Any]
ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, heron

def variety(completion: str) -> float:
    return len(set(completion)) / 10

heron.train(
    "arithmetic", model={"name": sys.argv[1], "device": "cpu"}, run_dir=sys.argv[2], rewards=[variety], quiet=True, data={"limit": 40},
    rollout={"num_generations": 4, "max_completion_length": 12}, evaluation={"size": 8, "samples": 1},
    train={"max_steps": 30, "prompts_per_step": 4, "learning_rate": 3e-3},
)
"""


@pytest.mark.slow
def test_every_screen_on_a_real_training(visit: Visit, runs: Path, tiny_folder: Callable[[str], Path]) -> None:
    """A name that the trainer logs otherwise than the page asks for leaves a chart empty, which no made-up record would show."""
    command, run = [sys.executable, "-c", PROGRAM, str(tiny_folder("qwen3")), str(runs / "trained")], runs / "trained"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    training = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while training.poll() is None and not (run / "metrics.jsonl").exists():
        time.sleep(0.05)
    page = visit("trained", "now")
    _, errors = training.communicate(timeout=60)
    assert training.returncode == 0, errors
    page.wait_for_selector("#head .pill.finished")
    assert "step 30 of 30" in page.inner_text("#head") and "GiB" in page.inner_text(".memory").replace("MiB", "GiB")
    for screen in SCREENS:
        go(page, "trained", screen)
        empty = page.locator(".chart", has_text="not recorded").locator("h3").all_inner_texts()
        assert set(empty) <= {"Distance from the start"}, "no reference was computed, so no KL; all else must be there"
    go(page, "trained", "groups", "?step=7")
    assert page.locator(".entry").count() == 4 and page.locator(".sibling").count() >= 1
