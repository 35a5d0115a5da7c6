"""What a run starts from: a folder or a hub id, and the warm-up that comes first where one is asked for.

The one hard idea: the warm-up of a run is done once, into the run's own folder `start/`. From then on the run knows nothing else: its
evaluation "before", its KL, a resume, and `--start` all mean the model, or the adapter, that lies there.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from heron import data
from heron.config import Config
from heron.config.model import EMBEDDED
from heron.config.warmup import WarmupConfig
from heron.errors import ConfigError, RunError
from heron.models.adapters import check_adapter
from heron.models.loading import find_device, locate
from heron.models.quantized import check_bitsandbytes
from heron.training.anchor import anchored
from heron.training.optimizer import check_optimizer
from heron.training.supervised import Progress
from heron.training.warmup import Warmed, refuse_idle_warmup, warm_start, warm_up
from heron.types import Prompt

Listener = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a run begins."""

    config: Config
    """With the adapter that it begins with."""
    source: str
    """Folder or hub id of the model."""
    record: dict[str, Any]
    """For the run's manifest: the warm-up, if there was one."""
    sentences: tuple[str, ...] = ()
    """What the run is told about it."""
    kept: Sequence[str] | None = None
    """Linear layers of the base that are known to need 16 bits; None where that is still to be measured."""


def begin(config: Config, run_dir: Path, listeners: Sequence[Listener], *, measured: Sequence[Prompt]) -> Start:
    """The start of a new run; warms up what the config asks for, and the embedded model the first time that it is asked for."""
    source, report = _base(config, listeners), _progress(listeners)
    if config.warmup.dataset is None:
        return Start(config=config, source=source, record={})
    warmed = warm_up(config, source, run_dir.resolve() / "start", measured=measured, on_progress=report)
    record = {"warmup": warmed.record() | {"folder": str(warmed.folder), "settings": asdict(config.warmup)}}
    sentences = (warmed.sentence, "This is the start of the run: the evaluation \"before\" and a KL are measured from it.")
    if config.model.has_adapter:
        model = replace(config.model, adapter=str(warmed.folder))
        return Start(config=replace(config, model=model, warmup=WarmupConfig()), source=source, record=record, sentences=sentences)
    return Start(config=config, source=str(warmed.folder), record=record, sentences=sentences)


@contextlib.contextmanager
def keep_if_begun(run_dir: Path) -> Iterator[None]:
    """Without a run, a start that was made for it goes: nothing could go on from it, and its folder would be in the way of the next try."""
    try:
        yield
    except BaseException:
        shutil.rmtree(run_dir / "start", ignore_errors=True)
        raise


def warm_up_alone(config: Config, folder: Path, listeners: Sequence[Listener] = ()) -> Warmed:
    """The warm-up of a config into a folder of its own, without a run. Ctrl-C ends it with what there is."""
    if config.warmup.dataset is None:
        raise ConfigError("There are no demonstrations to warm up on. Name them with --warmup.dataset=FILE (a file, folder or hub id; "
                          "arithmetic generates some).")
    if folder.exists():
        raise RunError(f"{folder} is there already. Choose another --out.")
    check_optimizer(config.train, find_device(config.model.device))
    check_bitsandbytes(config.model)
    check_adapter(config.model)
    config = anchored(config)
    rows = data.load(config.data, config.tags, seed=config.train.seed, eval_size=config.evaluation.size)
    source = _base(config, listeners)
    return warm_up(config, source, folder, measured=rows.heldout, on_progress=_progress(listeners), can_stop=True)


def _base(config: Config, listeners: Sequence[Listener]) -> str:
    """The model before a warm-up of the config's own."""
    refuse_idle_warmup(config)
    if config.model.name == EMBEDDED:
        return str(warm_start(config, on_progress=_progress(listeners)))
    return locate(config.model.name)


def _progress(listeners: Sequence[Listener]) -> Progress:
    def report(done: int, total: int) -> None:
        for listener in listeners:
            listener("progress", {"phase": "warm-up", "done": done, "total": total})

    return report
