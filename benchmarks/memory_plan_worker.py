"""One configuration, loaded, sampled and trained in a process of its own, and how far the process grew in each phase.

    python -m benchmarks.memory_plan_worker '{"settings": {...}, "prompt_tokens": 128, "warm": "/a/tiny/model"}'

prints bytes by phase. The baseline is the process after the same work on a tiny model: libraries, compiled kernels and the tracer are
there then, and what a phase adds to it belongs to the model. A phase is measured in the second step, when the optimizer has its state; the
first one is short. No answer ends early and all rows of a group count, so a step is as large as the settings allow.
"""

from __future__ import annotations

import ctypes
import gc
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heron.config import Config
    from heron.types import Group

SHORT = {"prompt_tokens": 8, "max_tokens": 4}
"""Of the step that only makes the optimizer's state, and of the warm-up."""


class Peaks:
    """Growth of the resident process over its baseline, by phase."""

    def __init__(self) -> None:
        self.baseline = _settled()
        self.bytes: dict[str, int] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """The most that the process held meanwhile."""
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        yield
        self.bytes[name] = max(self.bytes.get(name, 0), _bytes_of("VmHWM") - self.baseline)


class Side:
    """A policy, its engine and its optimizer, made as a run makes them."""

    def __init__(self, config: Config) -> None:
        from heron.engine import make_engine
        from heron.models import load_policy
        from heron.training.compiled import objective_of
        from heron.training.optimizer import make_optimizer
        from heron.training.updater import Updater

        self.config = config
        self.policy = load_policy(config.model, config.tags)
        rollout = config.rollout
        self.engine = make_engine(rollout.engine, self.policy, max_concurrent=rollout.max_concurrent, cache_gib=rollout.cache_gib)
        self.updater = Updater(
            policy=self.policy, objective=objective_of(config.objective), temperature=1.0, max_grad_norm=1.0,
            optimizer=make_optimizer(self.policy.trainable(), config.train, activations=self.policy.dtype),
            engine_is_exact=self.engine.exact_logprobs,
        )

    def touch(self) -> None:
        """Read every weight once: a file that is mapped takes memory when it is read."""
        for weight in self.policy.model.parameters():
            weight.detach().flatten()[::64].float().sum()

    def sample(self, *, prompt_tokens: int, max_tokens: int) -> list[Group]:
        """Groups whose answers are all of the same length, with advantages of either sign."""
        from heron.engine import Request, SamplingParams
        from heron.types import Group, Prompt, Rollout, Turn

        draw, train = random.Random(0), self.config.train
        prompts = [tuple(draw.randrange(250) for _ in range(prompt_tokens)) for _ in range(train.prompts_per_step)]
        seeds = tuple(range(self.config.rollout.num_generations))
        params = SamplingParams(max_tokens=max_tokens, ignore_end=True)
        made = self.engine.generate([Request(prompt_ids=prompt, seeds=seeds) for prompt in prompts], params)
        groups = []
        for number, (ids, completions) in enumerate(zip(prompts, made, strict=True)):
            prompt = Prompt(id=str(number), messages=({"role": "user", "content": "?"},))
            rollouts = tuple(
                Rollout(prompt=prompt, turns=(Turn(prompt_ids=ids, completion=completion),), text="", advantage=(-1.0) ** place)
                for place, completion in enumerate(completions)
            )
            groups.append(Group(prompt=prompt, rollouts=rollouts))
        return groups

    def train(self, groups: Sequence[Group]) -> None:
        """One optimizer step."""
        from heron.objective import FixedEntropy
        from heron.training.batch import pack
        from heron.training.samples import Weighing, make_samples
        from heron.training.updater import Minibatch

        config = self.config
        samples = make_samples(groups, Weighing(scheme="tokens", max_completion_length=config.rollout.max_completion_length, keep_all=True))
        self.policy.model.train(config.model.gradient_checkpointing)
        batches = tuple(pack(samples, budget=config.train.micro_batch_tokens, device=self.policy.device))
        self.updater.run([Minibatch(batches=batches)], FixedEntropy(coef=0.0), report=lambda done, total: None)
        self.policy.version += 1


def _main(arguments: Sequence[str]) -> None:
    import torch

    from heron.config import load_config

    torch.set_num_threads(1)
    task = json.loads(arguments[0])
    config = load_config("arithmetic", task["settings"])
    warm_up(load_config("arithmetic", _with_model(task["settings"], task["warm"])))
    peaks = Peaks()
    with peaks.phase("load"):
        side = Side(config)
        side.touch()
    side.train(side.sample(**SHORT))
    with peaks.phase("sample"):
        groups = side.sample(prompt_tokens=task["prompt_tokens"], max_tokens=config.rollout.max_completion_length)
    with peaks.phase("train"):
        side.train(groups)
    print(json.dumps(peaks.bytes))


def warm_up(config: Config) -> None:
    """The same on a tiny model, and a recording, so that the tracer is loaded."""
    side = Side(config)
    if side.policy.is_hosted:
        side.policy.recorder.replay()
    side.train(side.sample(prompt_tokens=256, max_tokens=32))


def _with_model(settings: Mapping[str, Any], folder: str) -> dict[str, Any]:
    return {**settings, "model": {**settings["model"], "name": folder}}


def _settled() -> int:
    """What is resident when nothing that was freed is held back."""
    gc.collect()
    trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    trim(0)
    return _bytes_of("VmRSS")


def _bytes_of(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}: peaks can be measured on Linux only.")


if __name__ == "__main__":
    _main(sys.argv[1:])
