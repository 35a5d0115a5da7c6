"""One training step on packed groups that share their prompt, against padded rows that repeat it: same model, same batch, same gradient.

    python -m benchmarks.shared_prompt [--quick] [--write]

The padded side is what a plain trainer does with transformers: right-padded rows of prompt and completion, the model's default
attention, micro-batches of 16 rows, and either the logits of all positions (as `model(...)` returns them) or those of the completions
alone. Ours is the code that trains: weigh, pack, forward, log-probs, loss, backward. A random Qwen3 of ten million weights is trained in
full; no optimizer. One thread, seconds of the processor, the sides taking turns, the least of each; the bars take the logits of all
positions, and the table has both.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import describe_machine
from benchmarks.report import Bar, Table, conclude

if TYPE_CHECKING:
    import torch

    from heron.models import Policy
    from heron.types import Group

NAME = "shared_prompt"
MICRO_BATCH_ROWS, MICRO_BATCH_TOKENS = 16, 8192
LARGEST_ERROR = 1e-5
"""Of the gradient in float32, relative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A batch of groups."""

    name: str
    """In the table."""
    prompt: int
    """Tokens of every prompt."""
    lengths: tuple[int, ...]
    """Tokens of every completion, group after group."""
    siblings: int = 8
    """Completions of a prompt."""

    @property
    def padded_tokens(self) -> int:
        """What padded rows cost: every row as long as the longest."""
        return len(self.lengths) * (self.prompt + max(self.lengths))

    @property
    def packed_tokens(self) -> int:
        """What packed groups cost: a prompt once, no padding, and no last token, since it predicts nothing."""
        return len(self.lengths) // self.siblings * self.prompt + sum(self.lengths) - len(self.lengths)

    @property
    def token_ratio(self) -> float:
        """The ratio of the two: what there is to gain if time follows tokens."""
        return self.padded_tokens / self.packed_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the table."""

    shape: Shape
    """The batch."""
    dtype: str
    """Of weights and activations."""
    goal: float | None
    """Least ratio; None where the table only informs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A case with its seconds."""

    case: Case
    """What was measured."""
    ours: float
    """Seconds of Heron's step."""
    padded: float
    """Seconds of the padded step with the logits of all positions."""
    padded_completions: float
    """The same with the logits of the completions alone."""
    error: float
    """Of our gradient, relative to the padded one's norm."""

    @property
    def ratio(self) -> float:
        """Padded over ours."""
        return self.padded / self.ours

    @property
    def is_met(self) -> bool:
        """Fast enough, and in float32 the same gradient."""
        is_exact = self.case.dtype != "float32" or self.error <= LARGEST_ERROR
        return is_exact and (self.case.goal is None or self.ratio >= self.case.goal)


def shapes() -> tuple[Shape, Shape, Shape]:
    """Reasoning as it is usual (long prompts, most answers short), and two batches with little to gain (all answers near the cap)."""
    places = [(number + 0.5) / 64 for number in range(64)]  # quantiles: a sample without luck
    ragged = [min(max(1, round(-44 * math.log(1 - place))), 192) for place in places]
    return (
        Shape(name="prompt 256, exponential answers, cap 192", prompt=256, lengths=_shuffled(ragged)),
        Shape(name="prompt 64, answers near the cap of 64", prompt=64, lengths=_shuffled([round(48 + 16 * place) for place in places])),
        Shape(name="prompt 64, answers near the cap of 192", prompt=64, lengths=_shuffled([round(160 + 32 * place) for place in places])),
    )


def _shuffled(lengths: Sequence[int]) -> tuple[int, ...]:
    """Over the groups."""
    return tuple(random.Random(0).sample(lengths, len(lengths)))


def cases() -> list[Case]:
    """Every row of the table."""
    friendly, unfriendly, longer = shapes()
    return [
        Case(shape=friendly, dtype="float32", goal=7.0), Case(shape=friendly, dtype="bfloat16", goal=4.5),
        Case(shape=unfriendly, dtype="float32", goal=2.0), Case(shape=unfriendly, dtype="bfloat16", goal=None),
        Case(shape=longer, dtype="float32", goal=None),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = parser().parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_model(Path(scratch))
        measured = [measure(case, folder, rounds=1 if options.quick else 3) for case in cases()]
    return conclude(table(measured), bar(measured), machine=describe_machine(1), write=options.write)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description="Packed groups against padded rows.")
    made.add_argument("--quick", action="store_true", help="one round: under five minutes on two cores")
    made.add_argument("--write", action="store_true", help=f"append the table to benchmarks/results/{NAME}.md")
    return made


def measure(case: Case, folder: Path, *, rounds: int) -> Measured:
    """The sides take turns; the least of each counts. A warm-up goes before; ours records the modules, as happens once in a run."""
    import torch
    from transformers import AutoModelForCausalLM

    from heron.config.model import ModelConfig
    from heron.models import load_policy
    from heron.types import Tags

    policy = load_policy(ModelConfig(name=str(folder), dtype=case.dtype, device="cpu"), Tags())
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, case.dtype))
    groups = make_groups(case.shape)
    sides: dict[str, Callable[[], dict[str, torch.Tensor]]] = {
        "ours": lambda: heron_step(policy, groups),
        "padded": lambda: padded_step(plain, groups, completions_only=False),
        "padded_completions": lambda: padded_step(plain, groups, completions_only=True),
    }
    heron_step(policy, groups)
    padded_step(plain, groups[:1], completions_only=True)
    seconds: dict[str, float] = {}
    gradients: dict[str, dict[str, torch.Tensor]] = {}
    for _ in range(rounds):
        for name, step in sides.items():
            began = time.process_time()
            gradients[name] = step()
            seconds[name] = min(seconds.get(name, float("inf")), time.process_time() - began)
    return Measured(case=case, **seconds, error=relative_error(gradients["ours"], gradients["padded"]))


def heron_step(policy: Policy, groups: Sequence[Group]) -> dict[str, torch.Tensor]:
    """The gradient by Heron's own code."""
    from heron.config.schema import ObjectiveConfig
    from heron.training.batch import pack
    from heron.training.compiled import objective_of
    from heron.training.samples import Weighing, make_samples
    from heron.training.update import accumulate

    policy.model.zero_grad(set_to_none=True)
    objective = objective_of(ObjectiveConfig())
    samples = make_samples(groups, Weighing(scheme=objective.loss.weights, max_completion_length=192))
    for batch in pack(samples, budget=MICRO_BATCH_TOKENS, device=policy.device):
        accumulate(policy, batch, objective, temperature=1.0)
    return {name: weight.grad for name, weight in policy.trainable() if weight.grad is not None}


def padded_step(model: Any, groups: Sequence[Group], *, completions_only: bool) -> dict[str, torch.Tensor]:
    """The same gradient the plain way."""
    import torch

    model.zero_grad(set_to_none=True)
    rows = [rollout for group in groups for rollout in group.rollouts]
    prompt = len(rows[0].turns[0].prompt_ids)
    width = max(len(row.completion_ids) for row in rows)
    total = sum(len(row.completion_ids) for row in rows)
    ids = torch.zeros(len(rows), prompt + width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        whole = (*row.turns[0].prompt_ids, *row.completion_ids)
        ids[number, : len(whole)], mask[number, : len(whole)] = torch.tensor(whole), 1
    advantages = torch.tensor([row.advantage for row in rows])[:, None]
    predicting = torch.arange(prompt - 1, prompt + width - 1)
    for start in range(0, len(rows), MICRO_BATCH_ROWS):
        part = slice(start, start + MICRO_BATCH_ROWS)
        keep: Any = predicting if completions_only else 0
        logits = model(input_ids=ids[part], attention_mask=mask[part], logits_to_keep=keep, use_cache=False).logits
        if not completions_only:
            logits = logits[:, predicting]
        logprobs = logits.float().log_softmax(-1).gather(-1, ids[part, prompt:, None])[..., 0]
        ratio = torch.exp(logprobs - logprobs.detach())
        loss = -torch.minimum(ratio * advantages[part], ratio.clamp(0.8, 1.2) * advantages[part])
        ((loss * mask[part, prompt:]).sum() / total).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def relative_error(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Norm of the difference over the norm, all weights together."""
    assert ours.keys() == theirs.keys()
    gap = sum(float((ours[name].double() - theirs[name].double()).square().sum()) for name in theirs)
    norm = sum(float(theirs[name].double().square().sum()) for name in theirs)
    return (gap / norm) ** 0.5


def make_groups(shape: Shape) -> list[Group]:
    """Random tokens in the shape's lengths, every rollout with an advantage."""
    from heron.types import Completion, FinishReason, Group, Prompt, Rollout, Turn

    draw = random.Random(1)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(300, 8192) for _ in range(count))

    groups = []
    for start in range(0, len(shape.lengths), shape.siblings):
        prompt = Prompt(id=str(start), messages=({"role": "user", "content": "?"},))
        prompt_ids = tokens(shape.prompt)
        answers = [
            Completion(token_ids=tokens(length), logprobs=(0.0,) * length, finish_reason=FinishReason.STOP, policy_version=0)
            for length in shape.lengths[start : start + shape.siblings]
        ]
        groups.append(Group(prompt=prompt, rollouts=tuple(
            Rollout(prompt=prompt, turns=(Turn(prompt_ids=prompt_ids, completion=answer),), text="", advantage=draw.gauss(0, 1))
            for answer in answers
        )))
    return groups


def save_model(folder: Path) -> Path:
    """A random Qwen3 of ten million weights, with a tokenizer, in Hugging Face format."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from heron.models.embedded import build_tokenizer
    from heron.types import Tags

    tokenizer = build_tokenizer(Tags())
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=8192, hidden_size=384, intermediate_size=960, num_hidden_layers=5, num_attention_heads=6, num_key_value_heads=2,
        head_dim=64, max_position_embeddings=1024, tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def table(measured: Sequence[Measured]) -> Table:
    """A row for each case."""
    columns = (
        "batch", "dtype", "padded tokens", "packed tokens", "padded s", "completions' logits s", "Heron s", "ratio", "goal",
        "ratio to completions' logits", "token ratio", "gradient error",
    )
    return Table(
        title="Training step: forward, log-probs, loss, backward (least seconds of one thread)", columns=columns,
        rows=tuple(_row(one) for one in measured),
        notes=(f"8 prompts x 8 completions of a random Qwen3 with 10.6 M weights; padded rows in micro-batches of {MICRO_BATCH_ROWS}, "
               f"packed groups of at most {MICRO_BATCH_TOKENS} tokens. The token ratio is what padding and repeating cost in tokens.",),
    )


def _row(one: Measured) -> tuple[str, ...]:
    shape = one.case.shape
    return (
        shape.name, one.case.dtype, str(shape.padded_tokens), str(shape.packed_tokens), f"{one.padded:.2f}",
        f"{one.padded_completions:.2f}", f"{one.ours:.2f}", f"{one.ratio:.2f}x",
        "-" if one.case.goal is None else f"{one.case.goal:g}x", f"{one.padded_completions / one.ours:.1f}x", f"{shape.token_ratio:.1f}x",
        f"{one.error:.1e}",
    )


def bar(measured: Sequence[Measured]) -> Bar:
    """All goals at once."""
    asked = [one for one in measured if one.case.goal is not None]
    return Bar(
        name=NAME, met=all(one.is_met for one in measured), figure=" / ".join(f"{one.ratio:.2f}x" for one in asked),
        goal=" / ".join(f"{one.case.goal:g}x" for one in asked),
    )


if __name__ == "__main__":
    raise SystemExit(main())
