"""The batch that broke a step, kept in the run: `dumps/step-000123.jsonl`, a first line on what was wrong and a line per answer.

There are at most MOST_DUMPS of them, of at most MOST_BYTES each: a run that breaks in every step must not fill the disk as well. What had
no room is counted in the first line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heron.run import records
from heron.types import Group, Rollout

FOLDER = "dumps"
MOST_DUMPS, MOST_BYTES = 8, 32 * 2**20


def dump(run: Path, step: int, about: Mapping[str, Any], groups: Sequence[Group]) -> Path | None:
    """Write the answers of a step; None if there are dumps enough already."""
    folder = run / FOLDER
    path = folder / f"step-{step:06d}.jsonl"
    if not path.exists() and len(list(folder.glob("step-*.jsonl"))) >= MOST_DUMPS:
        return None
    folder.mkdir(exist_ok=True)
    rows, room = [], MOST_BYTES
    for number, group in enumerate(groups):
        for sibling, rollout in enumerate(group.rollouts):
            row = _row(number, sibling, rollout)
            room -= len(records.to_json(row))
            rows += [row] if room >= 0 else []
    left_out = sum(len(group.rollouts) for group in groups) - len(rows)
    records.write_lines(path, [{"step": step, **about, "rollouts": len(rows), "left_out": left_out}, *rows])
    return path


def _row(group: int, sibling: int, rollout: Rollout) -> dict[str, Any]:
    return {
        "group": group, "sibling": sibling, "prompt": rollout.prompt.id, "reward": rollout.reward, "rewards": dict(rollout.rewards),
        "advantage": rollout.advantage, "text": rollout.text, "turns": [
            {
                "prompt_ids": turn.prompt_ids, "token_ids": turn.completion.token_ids, "logprobs": turn.completion.logprobs,
                "finish_reason": str(turn.completion.finish_reason), "policy_version": turn.completion.policy_version,
            }
            for turn in rollout.turns
        ],
    }
