"""A run as a trainer would have recorded it, in an instant: sums that are learnt, with every number that the screens show.

`python tests/recorded.py FOLDER SECONDS` writes one step after another until it is stopped, as a live run.
"""

from __future__ import annotations

import dataclasses
import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pstdev

from heron.run import RunWriter, Watchman
from heron.types import Completion, FinishReason, Group, Prompt, Rollout, Turn

CONFIG = 'recipe = "arithmetic"\n[train]\nmax_steps = {steps}\nlearning_rate = {rate}\nseed = 0\n[rollout]\nmax_completion_length = 64\n'
FUNCTIONS = {"number_found": 1.0, "number_right": 1.0, "follows_format": 0.5}
SIBLINGS = 6


def record(folder: Path, *, steps: int = 40, rate: float = 2e-4, texts: Sequence[str] = (), finish: bool = True) -> RunWriter:
    """A whole run. `texts` are answers that the first group of every step is given, whatever they are."""
    writer = begin(folder, steps=steps, rate=rate)
    for step in range(1, steps + 1):
        write_step(writer, step, rate=rate, texts=texts)
    evaluate(writer, "after", steps, rate)
    if finish:
        writer.finish("finished", {"seconds": 61.5, "steps": steps})
    return writer


def begin(folder: Path, *, steps: int = 40, rate: float = 2e-4) -> RunWriter:
    """A run before its first step."""
    manifest = {"recipe": "arithmetic", "model": "embedded", "method": "full", "seed": 0, "rewards": FUNCTIONS}
    writer = RunWriter.create(folder, config_toml=CONFIG.format(steps=steps, rate=rate), manifest=manifest)
    writer.subscribe(Watchman(writer))
    writer.event(
        "start", max_steps=steps, first_step=1, model="embedded", parameters=2134400, trainable_parameters=2134400, rollouts_per_step=24,
        estimate="memory planned: 578.0 MiB at the peak: 65.0 MiB while sampling, 578.0 MiB while training",
    )
    parts = [{"name": "activations", "gib": 0.457}, {"name": "weights", "gib": 0.107}]
    writer.event("memory_plan", place="host", phase="train", parts=parts)
    evaluate(writer, "before", 0, rate)
    writer.event("message", text="Memory up to the end of the first step: 203.9 MiB measured.")
    return writer


def write_step(writer: RunWriter, step: int, *, rate: float = 2e-4, texts: Sequence[str] = (), prompts: int = 4) -> None:
    """One step: rollouts, then numbers."""
    chance, dice = skill(step, rate), random.Random(f"{rate} {step}")
    groups = [_group(dice, number, chance, texts if number == 0 else ()) for number in range(prompts)]
    writer.rollouts(step, groups)
    writer.log(step, _metrics(groups, step, chance, dice))
    if step % 10 == 0:
        writer.event("checkpoint", step=step, path=f"step-{step:06d}", bytes=1, free_bytes=10)


def evaluate(writer: RunWriter, name: str, step: int, rate: float = 2e-4) -> None:
    """A measurement on held-out problems."""
    accuracy = skill(step, rate)
    totals = {"problems": 256, "accuracy": accuracy, "accuracy_low": accuracy - 0.03, "accuracy_high": accuracy + 0.03, "step": step,
              "mean_reward": 4 * accuracy, "mean_length": 31.0, "truncated": 0.0, "format_rate": 1.0}  # fmt: skip
    writer.evaluation(name, [], totals)


def skill(step: int, rate: float = 2e-4) -> float:
    """The chance of a right answer."""
    return 0.15 + 0.78 * (1 - math.exp(-step * rate / 3e-3))


def _group(dice: random.Random, number: int, chance: float, texts: Sequence[str]) -> Group:
    one, other = dice.randint(100, 999), dice.randint(100, 999)
    prompt = Prompt(id=f"sum:{number}" if texts else f"sum:{one}+{other}", columns={"answer": str(one + other)},
                    messages=({"role": "user", "content": f"What is {one} + {other}?"},))  # fmt: skip
    rollouts = [_rollout(dice, prompt, one + other, chance) for _ in range(SIBLINGS)]
    rollouts = [_rollout(dice, prompt, 0, 0.0, text=text) for text in texts] + rollouts[len(texts) :]
    mean, spread = fmean(row.reward or 0.0 for row in rollouts), pstdev(row.reward or 0.0 for row in rollouts)
    scored = [dataclasses.replace(row, advantage=((row.reward or 0.0) - mean) / (spread + 1e-4)) for row in rollouts]
    return Group(prompt=prompt, rollouts=tuple(scored))


def _rollout(dice: random.Random, prompt: Prompt, answer: int, chance: float, text: str | None = None) -> Rollout:
    is_right = dice.random() < chance
    said = answer if is_right else answer + dice.choice((-10, 1, 10, 100))
    rewards = {"number_found": 1.0, "number_right": 3.0 if is_right else -1.0, "follows_format": 1.0}
    length = dice.randint(28, 36)
    completion = Completion(token_ids=tuple(range(length)), logprobs=(-0.1,) * length, finish_reason=FinishReason.STOP, policy_version=0)
    return Rollout(
        prompt=prompt, turns=(Turn(prompt_ids=(1,), completion=completion),), rewards=rewards, reward=sum(rewards.values()),
        text=f"<working>carry the ones</working><answer>{said}</answer>" if text is None else text,
        verdict="right" if is_right else "wrong", extracted=str(said) if text is None else text, follows_format=True,
    )  # fmt: skip


def _metrics(groups: Sequence[Group], step: int, chance: float, dice: random.Random) -> dict[str, float]:
    rows = [row for group in groups for row in group.rollouts]
    right = [[row.verdict == "right" for row in group.rollouts] for group in groups]
    lengths = [float(len(row.completion_ids)) for row in rows]
    metrics = {"reward": fmean(row.reward or 0.0 for row in rows), "reward_std": pstdev(row.reward or 0.0 for row in rows)}
    for name in FUNCTIONS:
        values = [float(row.rewards[name] or 0.0) for row in rows]
        metrics |= {f"rewards/{name}/mean": fmean(values), f"rewards/{name}/std": pstdev(values), f"rewards/{name}/none": 0.0}
    all_right, all_wrong = fmean(all(one) for one in right), fmean(not any(one) for one in right)
    entropy, norm = 0.4 * (1.05 - chance) + dice.random() / 50, 0.2 + dice.random() / 5
    sample, train = 0.4 + dice.random() / 10, 0.3
    return metrics | {
        "groups/with_signal": 1 - all_right - all_wrong, "groups/all_right": all_right, "groups/all_wrong": all_wrong,
        "groups/mixed": 1 - all_right - all_wrong, "pass@1": fmean(sum(one) / len(one) for one in right), "pass@k": 1 - all_wrong,
        "completions/mean_length": fmean(lengths), "completions/p10_length": min(lengths), "completions/p90_length": max(lengths),
        "completions/mean_terminated_length": fmean(lengths), "completions/mean_length_right": fmean(lengths) - 1,
        "completions/mean_length_wrong": fmean(lengths) + 1, "completions/clipped_ratio": 0.0, "completions/unreadable": 0.0,
        "entropy": entropy, "grad_norm": norm, "grad_norm_clipped": norm, "learning_rate": 2e-4, "loss": -0.01, "num_tokens": 780.0 * step,
        "clip_ratio/low_mean": 0.0, "clip_ratio/high_mean": 0.0, "ratio/max": 1.0, "ratio/min": 1.0, "kl": 0.002 * step,
        "sampling/logp_difference_mean": 1.4e-7, "sampling/logp_difference_max": 6e-6, "advantages/max": 1.6, "advantages/min": -2.1,
        "advantages/abs_mean": 0.5, "memory/peak_gib": 0.63, "memory/planned_gib": 0.564, "time/sample": sample, "time/score": 0.02,
        "time/train": train, "time/record": 0.005, "time/unaccounted": 0.001, "time/step": sample + train + 0.026,
        "throughput/sample_tokens_per_second": 5139.0, "throughput/train_tokens_per_second": 907.0,
    }  # fmt: skip


if __name__ == "__main__":
    live = begin(Path(sys.argv[1]), steps=100000)
    for number in range(1, 100000):
        write_step(live, number)
        print(number, flush=True)
        time.sleep(float(sys.argv[2]))
