"""The embedded model's supervised start: it learns the format, sometimes, and to add, sometimes.

If a good answer has probability 0, reinforcement learning never finds one. So the model is first shown few demonstrations by a
pupil who often forgets to carry, sometimes guesses and sometimes breaks the format (`data.arithmetic`). What comes out follows the
format often and is right sometimes. It is built once and kept in the user's cache folder, under a name made of all its settings.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from heron.config.schema import Config, WarmupConfig
from heron.data.arithmetic import Demonstration, demonstrations
from heron.folders import cache_folder
from heron.kernels import attention
from heron.models import Policy
from heron.models.embedded import build_model, build_tokenizer
from heron.training.batch import Sample, pack
from heron.types import Tags

RECIPE_VERSION = 1
"""Raised whenever this file changes what the start is."""

Progress = Callable[[int, int], None]


def warm_start(config: Config, *, on_progress: Progress | None = None) -> Path:
    """Folder of the warmed-up embedded model, in Hugging Face format; built if it is not there yet."""
    folder = cache_folder() / "embedded" / _key(config)
    if not (folder / "config.json").is_file():
        _build(config, folder, on_progress or (lambda done, total: None))
    return folder


def _build(config: Config, folder: Path, on_progress: Progress) -> None:
    """Train in a temporary folder beside the final one and rename, so that an interruption leaves nothing half done."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    attention.register()
    tokenizer = build_tokenizer(config.tags)
    model = build_model(tokenizer, seed=config.warmup.seed)
    model.set_attn_implementation(attention.NAME)
    policy = Policy(model, tokenizer, tags=config.tags, source="embedded")
    fit(policy, teach(config.warmup, digits=config.data.digits, tags=config.tags), config.warmup, on_progress)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        policy.save(partial)
        if not folder.exists():
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def teach(config: WarmupConfig, *, digits: int, tags: Tags) -> list[Demonstration]:
    """The demonstrations that the start is made of."""
    return demonstrations(
        config.demonstrations, seed=config.seed, digits=digits, tags=tags, forget_carry=config.forget_carry,
        skip_working=config.skip_working, break_format=config.break_format,
    )


def fit(policy: Policy, lessons: Sequence[Demonstration], config: WarmupConfig, on_progress: Progress) -> None:
    """Supervised fine-tuning: raise the log-prob of what was demonstrated, every completion token weighing the same."""
    samples = [_sample(policy, lesson) for lesson in lessons]
    optimizer = torch.optim.AdamW(policy.model.parameters(), betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=config.learning_rate, total_steps=config.steps, pct_start=0.1, div_factor=25.0, final_div_factor=20.0
    )
    policy.model.train()
    for step, batch in enumerate(_batches(samples, config), start=1):
        tokens = sum(sum(sample.is_trained) for sample in batch)
        for micro in pack([batch], budget=1 << 30, device=policy.device):
            hidden = policy.hidden(micro.token_ids, micro.positions, micro.plan)
            logprobs, _ = policy.logprobs(hidden[0].index_select(0, micro.where), micro.targets, temperature=1.0)
            (-logprobs.sum() / tokens).backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        on_progress(step, config.steps)
    policy.model.eval()


def _sample(policy: Policy, lesson: Demonstration) -> Sample:
    """A demonstration, split behind its first token, so that a batch is one group and what all questions begin with is packed once."""
    prompt = policy.render(lesson.prompt.messages)
    answer = (*policy.encode(lesson.completion), policy.tokenizer.eos_token_id)
    return Sample(
        prompt_ids=prompt[:1], token_ids=(*prompt[1:], *answer), is_trained=(False,) * (len(prompt) - 1) + (True,) * len(answer),
        sampler_logprobs=(0.0,) * len(answer), keep=(True,) * len(answer), advantage=1.0, weight=1.0, entropy_weight=0.0,
    )


def _batches(samples: Sequence[Sample], config: WarmupConfig) -> Iterator[list[Sample]]:
    """`steps` batches; every epoch in a new order."""
    draw = random.Random(config.seed)
    queue: list[int] = []
    for _ in range(config.steps):
        while len(queue) < config.batch_size:
            queue += draw.sample(range(len(samples)), len(samples))
        yield [samples[index] for index in queue[: config.batch_size]]
        del queue[: config.batch_size]


def _key(config: Config) -> str:
    settings = {
        "version": RECIPE_VERSION, "warmup": asdict(config.warmup), "digits": config.data.digits, "tags": list(config.tags),
        "torch": torch.__version__.split("+")[0],
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
