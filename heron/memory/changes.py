"""What may be changed where a run does not fit: settings, each with what it does to the run besides its size.

The one hard idea: a change costs seconds, or it costs something that seconds do not show. To recompute layers gives the same weights
later; to round the base to 4 bits gives others; to sample half as many answers is another experiment. So every setting has a cost, and
changes are ordered by that before their seconds. Left out: combining them (`fitting`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from heron.memory.case import KAHAN, Case, Settings, cache_of, needed, one_completion, with_settings
from heron.memory.planner import plan
from heron.memory.table import EVALUATION, GPU, HOST, SAMPLE

SAME, ROUNDED, OTHER = 0, 1, 2
"""What a change costs besides seconds: nothing; bits of some numbers; it is another experiment."""
COSTS = ("the same training", "rounded numbers", "another experiment")
"""In words, by cost."""

MLP_TILE = 1024
"""Tokens of a tile of the MLP: enough for whole matrix products, little beside a long sequence."""
_STEP, _GRID = 0.1, 256  # of rollout.cache_gib, and of train.micro_batch_tokens


def changes_of(case: Case) -> Iterator[Settings]:
    """Every single change that could make this run smaller."""
    for move in _MOVES:
        yield from move(case)


def cost_of(case: Case, settings: Settings) -> int:
    """The largest cost among these changes of `case`."""
    return max((_cost(case, name, value) for name, value in settings.items()), default=SAME)


def with_micro_batch(case: Case, *, most: int | None = None) -> Case:
    """The run with the largest micro-batch that fits, of a sequence at least and `most` tokens; of a sequence if none fits.

    Where `objective.rows_per_micro_batch` decides, the run stays as it is."""
    if case.config.objective.rows_per_micro_batch is not None:
        return case
    least, step = _longest(case), step_tokens(case)
    found = _largest(lambda tokens: _trains(case, tokens), least, max(least, min(step, most or step)))
    return case.changed({"train.micro_batch_tokens": found})


def _largest(fits: Callable[[int], bool], least: int, most: int) -> int:
    """The largest number up to `most`, on a grid, that fits; `least` if none does. What fits, fits with fewer, too."""
    if fits(most):
        return most
    if not fits(least):
        return least
    low, high = least, most
    while high - low > _GRID:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return max(low // _GRID * _GRID, least)


def with_cache(case: Case) -> Case:
    """The run whose cache takes what is left while sampling, with fewer completions at once where not even one would have room.

    An engine other than Heron's has no such cache; then the run stays as it is."""
    if case.config.rollout.engine != "native":
        return case
    rows = min(case.config.rollout.max_concurrent, max(_answers(case), _evaluated(case)))
    tried = case
    while True:
        room = _room(tried)
        if room >= _one_completion(tried):
            return tried.changed({"rollout.cache_gib": room})
        if rows == 1:
            return tried
        rows = max(1, rows // 2)
        tried = case.changed({"rollout.max_concurrent": rows})


def _cost(case: Case, name: str, value: Any) -> int:
    if name in ("rollout.num_generations", "rollout.max_completion_length"):
        return OTHER
    if name == "model.method":
        return OTHER if case.config.model.method == "full" else ROUNDED
    return ROUNDED if name in ("model.dtype", "train.optimizer") else SAME


def _recomputing(case: Case) -> Iterator[Settings]:
    model = case.config.model
    if not model.gradient_checkpointing:
        yield {"model.gradient_checkpointing": True}
    elif case.device.place == GPU and model.offload == "off":
        yield {"model.offload": "on"}


def _tiles(case: Case) -> Iterator[Settings]:
    if not case.config.model.tiled_mlp and _longest(case) > MLP_TILE:
        yield {"model.tiled_mlp": MLP_TILE}


def _micro_batch(case: Case) -> Iterator[Settings]:
    tokens = min(case.config.train.micro_batch_tokens, step_tokens(case))
    if tokens > _longest(case) and case.config.objective.rows_per_micro_batch is None:
        found = with_micro_batch(case, most=tokens).config.train.micro_batch_tokens
        yield {"train.micro_batch_tokens": found}


def _optimizer(case: Case) -> Iterator[Settings]:
    train = case.config.train
    if case.trains_16_bits and train.optimizer != KAHAN:
        yield {"train.optimizer": KAHAN}
    elif train.optimizer == "adamw":
        yield {"train.optimizer": "adamw_8bit"}
    if case.device.place == GPU and not train.offload_optimizer:
        yield {"train.offload_optimizer": True}


def _dtype(case: Case) -> Iterator[Settings]:
    """16 bits; where all weights are trained, with the one optimizer that can train such weights."""
    model = case.config.model
    named = str(case.model.get("dtype") or case.model.get("torch_dtype") or "float32") if model.dtype == "auto" else model.dtype
    if named.endswith("float32"):
        yield {"model.dtype": "bfloat16", **({} if model.has_adapter else {"train.optimizer": KAHAN})}


def _method(case: Case) -> Iterator[Settings]:
    for method in case.methods_below:
        yield {"model.method": method, **_optimizer_of(case)}


def _optimizer_of(case: Case) -> Settings:
    """What an adapter's weights, which are float32, are trained with in place of the optimizer for 16 bits."""
    return {"train.optimizer": "adamw"} if case.config.train.optimizer == KAHAN else {}


def _concurrency(case: Case) -> Iterator[Settings]:
    """A smaller cache, or fewer completions at once."""
    room = _room(case)
    if case.config.rollout.engine == "native" and room >= _one_completion(case):
        yield {"rollout.cache_gib": room}
    rows = min(case.config.rollout.max_concurrent, max(_answers(case), _evaluated(case)))
    while rows > 1:
        rows //= 2
        yield {"rollout.max_concurrent": rows}


def _less(case: Case) -> Iterator[Settings]:
    """Fewer or shorter completions."""
    rollout = case.config.rollout
    if rollout.num_generations >= 4 and case.config.objective.rows_per_micro_batch is None:
        yield {"rollout.num_generations": rollout.num_generations // 2}
    if rollout.max_completion_length // 2 > rollout.partial_tokens:
        yield {"rollout.max_completion_length": rollout.max_completion_length // 2}


_MOVES: tuple[Callable[[Case], Iterable[Settings]], ...] = (
    _recomputing, _tiles, _micro_batch, _optimizer, _dtype, _method, _concurrency, _less,
)


def _trains(case: Case, tokens: int) -> bool:
    """What is not sampling fits the device and its host, with so many tokens a micro-batch."""
    config = with_settings(case.config, {"train.micro_batch_tokens": tokens})
    made = plan(config, case.model, prompt_tokens=case.prompt_tokens, device=case.device.place)
    others = [phase for phase in made.phases if phase not in (SAMPLE, EVALUATION)]
    host = case.device.host_memory
    return needed(made, made.device, others) <= case.device.memory and (host is None or needed(made, HOST, others) <= host)


def _room(case: Case) -> float:
    """GiB that the cache may have, in whole steps: what the rest of sampling and of evaluation leaves of the device."""
    made = case.plan
    beside = [made.peak_of(phase, made.device) - cache_of(made, phase) for phase in (SAMPLE, EVALUATION) if phase in made.phases]
    return round(max(0, int((case.device.memory - max(beside)) / 2**30 / _STEP)) * _STEP, 1)


def _one_completion(case: Case) -> float:
    """GiB that one completion needs of the cache."""
    return one_completion(case.config, case.model, prompt_tokens=case.prompt_tokens, device=case.device) / 2**30


def _longest(case: Case) -> int:
    return case.prompt_tokens + case.config.rollout.max_completion_length


def _answers(case: Case) -> int:
    return case.config.train.prompts_per_step * case.config.rollout.num_generations


def _evaluated(case: Case) -> int:
    return case.config.evaluation.size * max(case.config.evaluation.samples, 1)


def step_tokens(case: Case) -> int:
    return case.config.train.prompts_per_step * case.prompt_tokens + _answers(case) * case.config.rollout.max_completion_length
