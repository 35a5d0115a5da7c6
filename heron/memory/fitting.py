"""Settings with which a run fits a device: the cheapest few changes, and the whole choice.

The one hard idea: memory has two users who take turns, so they are fitted apart. Training gets the largest micro-batch that fits beside
what is always there; sampling gives its cache all that is left beside the same. What is always there, and what a layer costs, is chosen
by trying: every combination of a few settings is planned, and of those that fit the one wins that changes the training least and then
takes the least time. Left out: settings of speed alone, and several GPUs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from heron.memory.case import KAHAN, Case, Settings
from heron.memory.changes import MLP_TILE, OTHER, ROUNDED, SAME, changes_of, cost_of, step_tokens, with_cache, with_micro_batch
from heron.memory.table import GPU


def cheapest_changes(case: Case, count: int = 3) -> tuple[Case, ...]:
    """The run with one or two of its settings changed, in up to `count` ways that fit, cheapest first; where none fits, those with the
    lowest peaks."""
    single = [case.changed(settings) for settings in changes_of(case)]
    enough = [found for found in single if found.fits]
    pairs = [found for first in single if not first.fits for found in _second(first) if not _has_more(found, enough)]
    fitting = _ordered(case, [*enough, *(found for found in pairs if found.fits)])
    nearest = sorted([*single, *pairs], key=lambda found: found.plan.peak)
    return tuple((fitting or _distinct(nearest))[:count])


def fit(case: Case) -> Case:
    """The run with micro-batch, recomputation, offload, quantisation, optimizer and cache chosen for its device.

    Where nothing fits, the one with the smallest peak: `fits` says so."""
    tried: list[Case] = []
    for cost in (SAME, ROUNDED, OTHER):
        chosen = [settings for settings in _combinations(case) if cost_of(case, settings) == cost]
        tried += [with_cache(with_micro_batch(case.changed(settings))) for settings in chosen]
        if fitting := _ordered(case, [found for found in tried if found.fits]):
            return fitting[0]
    return min(tried, key=lambda found: (found.plan.peak, len(found.settings)))


def _second(first: Case) -> Iterator[Case]:
    """One more change, of another setting."""
    for settings in changes_of(first):
        if not settings.keys() & first.settings.keys():
            yield first.changed(settings)


def _has_more(found: Case, enough: list[Case]) -> bool:
    """One of its changes would do."""
    return any(one.settings.items() <= found.settings.items() for one in enough)


def _ordered(case: Case, found: list[Case]) -> list[Case]:
    """Cheapest first: by what a change costs besides time, by time, by how many there are."""
    return _distinct(sorted(found, key=lambda one: (cost_of(case, one.settings), one.seconds.total, len(one.settings))))


def _distinct(found: list[Case]) -> list[Case]:
    """Each set of changed settings once, whatever their values: the first is the best."""
    first: dict[frozenset[str], Case] = {}
    for one in found:
        first.setdefault(frozenset(one.settings), one)
    return list(first.values())


def _combinations(case: Case) -> Iterator[Settings]:
    """All that is tried, from what was asked for on."""
    choices = (_methods(case), _recomputing(case), _tiles(case), _optimizers(case))
    for chosen in itertools.product(*choices):
        settings = {name: value for settings in chosen for name, value in settings.items()}
        if _is_trainable(case, settings):
            yield settings


def _is_trainable(case: Case, settings: Settings) -> bool:
    """Weights of 16 bits have their own optimizer, and no others have it."""
    optimizer = settings.get("train.optimizer", case.config.train.optimizer)
    return (optimizer == KAHAN) == (case.trains_16_bits and "model.method" not in settings) or not case.trains_16_bits


def _methods(case: Case) -> list[Settings]:
    return [{}, *({"model.method": name} for name in case.methods_below)]


def _recomputing(case: Case) -> list[Settings]:
    """Layers kept or recomputed; on a GPU, their inputs in its own memory or, as `auto` has it, in the host's."""
    model, is_gpu = case.config.model, case.device.place == GPU
    recomputed = {} if model.gradient_checkpointing else {"model.gradient_checkpointing": True}
    offloads = ["on", "off"] if model.offload == "off" else ["off"]
    moved: list[Settings] = [{**recomputed, "model.offload": offload} for offload in offloads] if is_gpu else []
    return [{}, *([recomputed] if recomputed else []), *moved]


def _tiles(case: Case) -> list[Settings]:
    return [{}] if case.config.model.tiled_mlp or step_tokens(case) <= MLP_TILE else [{}, {"model.tiled_mlp": MLP_TILE}]


def _optimizers(case: Case) -> list[Settings]:
    rounded: list[Settings] = [{"train.optimizer": "adamw_8bit"}] if case.config.train.optimizer == "adamw" else []
    asked: list[Settings] = [{"train.optimizer": KAHAN}] if case.trains_16_bits and case.config.train.optimizer != KAHAN else [{}]
    if case.device.place != GPU or case.config.train.offload_optimizer:
        return [*asked, *rounded]
    return [*asked, {**asked[0], "train.offload_optimizer": True}, *rounded]
