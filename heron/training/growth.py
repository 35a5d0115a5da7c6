"""`--forever`: rows that are appended to the dataset join a run that is under way, between two steps.

The one hard idea: what has joined, and before which step, must be known for ever, or a resumed run would not train on the same prompts. So
the run keeps a copy of every byte that it has taken (`data/NAME`) and a line for each time that some were (`data/growth.jsonl`). Steps that
a resumed run takes again get their rows from these; only beyond them is the dataset looked at. So a run goes on to the same weights, also
after its dataset was lost.

Nothing in a file ends a run: a line that is still being written is left until it is whole, one that is no row to train on is left out,
counted and told. A file that no longer begins with what was taken from it (it was cut or written anew) is told, and left alone until it
does again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from heron import data
from heron.config import Config
from heron.data.files import row_of
from heron.data.growing import GrowingCursor, Place, complete_bytes, part_of
from heron.data.loading import question
from heron.data.rows import Row, fill_tags, to_prompt, with_system_prompt
from heron.errors import ConfigError, DataError, RunError
from heron.run import Run, RunWriter, records
from heron.training.keeping.state import TrainState
from heron.training.prompts import longest_prompt
from heron.types import Prompt

if TYPE_CHECKING:
    from heron.training.trainer import Trainer

LOG = "growth.jsonl"
COMPARED = 4096
"""Bytes before the place that was reached which must still be what they were."""
NAMED = 3
"""Lines that are left out at once and told one by one; of the others, how many."""

ToPrompt = Callable[[Row], Prompt]
"""Raises if a row cannot be trained on."""


class Rows(Protocol):
    """What is trained on, before and after a step."""

    def take(self, state: TrainState) -> None:
        """Before a step: what has come joins."""
        ...

    def settle(self, state: TrainState) -> None:
        """In a step, when all is drawn."""
        ...


class FixedRows:
    """None ever come."""

    def take(self, state: TrainState) -> None:
        """Nothing."""

    def settle(self, state: TrainState) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where a growing dataset is, and what the run keeps of it."""

    source: Path
    """That others append to."""
    folder: Path
    """The run's own."""

    @property
    def copy(self) -> Path:
        """Every byte that was taken."""
        return self.folder / self.source.name

    @property
    def log(self) -> Path:
        """Before which step they were."""
        return self.folder / LOG

    def entries(self) -> list[records.Record]:
        """Of the log; the first is the run's beginning."""
        return records.read_lines(self.log, "step", int).records

    def write(self, path: Path, content: bytes) -> None:
        """Append, and put it to the disk."""
        try:
            with path.open("ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"New rows of {self.source} cannot be kept in {path}: {error}. Make room there, and go on with: "
                           f"heron resume {self.folder.parent}") from error

    def note(self, **entry: Any) -> None:
        """A line of the log."""
        self.write(self.log, records.to_json(entry).encode() + b"\n")


def files_of(config: Config, run_dir: Path) -> Files:
    """Of a run; a ConfigError if nothing can be appended to its dataset."""
    source = Path(config.data.dataset).expanduser()
    files = Files(source=source, folder=run_dir / "data")
    if source.suffix.lower() != ".jsonl" or not (source.is_file() or files.copy.is_file()):
        raise ConfigError("train.forever takes rows that are appended to data.dataset, which must be a local file of JSON lines (.jsonl), "
                          f"but it is {config.data.dataset!r}. Give such a file, or leave out train.forever.")
    if config.data.limit is not None:
        raise ConfigError(f"train.forever takes every row that comes, but data.limit is {config.data.limit}. Leave out one of them.")
    if config.data.prompt_quantile != 1:
        raise ConfigError("train.forever takes every row that comes, and of those to come no quantile is known, but data.prompt_quantile "
                          f"is {config.data.prompt_quantile}. Leave out one of them.")
    return files


def rows_of(config: Config, run_dir: Path, *, eval_size: int | None = None) -> data.Dataset:
    """What a run is trained on and measured with: where rows have come since it began, as it was then."""
    settings, until = config.data, None
    if config.train.forever:
        files = files_of(config, run_dir)
        begun = files.entries()[:1]
        settings = replace(settings, dataset=str(files.copy if begun else files.source))
        until = begun[0]["bytes"] if begun else complete_bytes(files.source)
    size = config.evaluation.size if eval_size is None else eval_size
    return data.load(settings, config.tags, seed=config.train.seed, eval_size=size, until=until)


def remember_steps(config: Config, record: Run) -> None:
    """Before what a run has recorded is taken back: the steps up to its last one had the rows that they had."""
    if config.train.forever:
        steps = record.metrics()
        files_of(config, record.path).note(step=int(steps[-1]["step"]) if steps else 0)


def let_grow(trainer: Trainer, dataset: data.Dataset) -> None:
    """Let rows join a run that is to train forever, from where it is."""
    config, state = trainer.config, trainer.state
    if not config.train.forever:
        return
    files = files_of(config, trainer.run.path)
    if not files.log.is_file():
        _keep_beginning(files, dataset)
    first, *later = files.entries()
    start = Place.at_start(len(dataset.train), size=first["bytes"], lines=first["lines"])
    trainer.cursor = GrowingCursor(config.train.prompts_per_step, start, seed=config.train.seed, shuffle=config.data.shuffle)
    trainer.prompts = prompts = list(dataset.train)
    growth = Growth(
        files=files, run=trainer.run, cursor=trainer.cursor, prompts=prompts, to_prompt=_checked(trainer, dataset),
        ends={entry["step"]: entry["bytes"] for entry in later if "bytes" in entry},
        known_to=max((entry["step"] for entry in later), default=0),
    )
    growth.go_to(start if state.rows is None else state.rows)
    state.rows, trainer.rows = trainer.cursor.place, growth


def _keep_beginning(files: Files, dataset: data.Dataset) -> None:
    """The rows that a run begins with."""
    assert dataset.until is not None, "a growing file is read up to a place"
    files.folder.mkdir()
    content = part_of(files.source, 0, dataset.until)
    files.write(files.copy, content)
    files.note(step=0, bytes=len(content), lines=content.count(b"\n"))


def _checked(trainer: Trainer, dataset: data.Dataset) -> ToPrompt:
    """What a row of the file must be to be trained on: all that is asked of the rows at the start."""
    config, collector = trainer.config, trainer.collector
    settings, asked = config.data, {question(prompt): prompt.id for prompt in dataset.heldout}
    system = None if settings.system_prompt is None else fill_tags(settings.system_prompt, config.tags)

    def made(row: Row) -> Prompt:
        prompt = to_prompt(row, prompt_column=settings.prompt_column, answer_column=settings.answer_column)
        if (held_out := asked.get(question(prompt))) is not None:
            raise DataError(f"{row.id} asks the held-out question of {held_out}.")
        prompt = prompt if system is None else with_system_prompt(prompt, system)
        if collector.rubric is not None:
            collector.rubric.check([prompt])
        longest_prompt([prompt], trainer.policy, collector.environment, config.rollout.max_completion_length)
        return prompt

    return made


@dataclass(slots=True, kw_only=True)
class Growth:
    """Rows that join a run."""

    files: Files
    """Where they come from, and where they are kept."""
    run: RunWriter
    """Is told."""
    cursor: GrowingCursor
    """The order of all rows."""
    prompts: list[Prompt]
    """All rows."""
    to_prompt: ToPrompt
    """One row, if it can be trained on."""
    ends: dict[int, int]
    """How far the file was taken before which step, of steps that were taken before."""
    known_to: int
    """The last of these steps."""
    seen: tuple[int, int, int] | None = None
    """The file when it was last looked at: which, its size, its time."""
    is_refused: bool = False
    """The file is not what it was, which was told."""

    def go_to(self, place: Place) -> None:
        """To where a run goes on from: with the rows that had joined by then."""
        taken = max([self.cursor.place.bytes, *self.ends.values()])
        os.truncate(self.files.copy, taken)  # bytes behind have joined no step: a kill came in between
        self._join(place.bytes, 0, tells=False)
        if len(self.prompts) != place.rows:
            raise RunError(f"Of the rows in {self.files.copy} {len(self.prompts)} can be trained on, but there were {place.rows}: the file "
                           "was changed, or what is asked of a row. Restore it, or begin a new run with this run's model: "
                           f"heron train --from {self.run.path}")
        self.cursor.place = place

    def take(self, state: TrainState) -> None:
        """Before a step: what has come joins."""
        step, place = state.step + 1, self.cursor.settle()
        if step <= self.known_to:
            self._join(self.ends.get(step, place.bytes), step, tells=False)
        elif news := self._news(place):
            self.files.write(self.files.copy, news)
            self.files.note(step=step, bytes=place.bytes + len(news))
            self._join(place.bytes + len(news), step, tells=True)
        state.rows = self.cursor.place

    def settle(self, state: TrainState) -> None:
        """In a step, when all is drawn."""
        state.rows = self.cursor.settle()

    def _join(self, end: int, step: int, *, tells: bool) -> None:
        """The rows in the copy up to there."""
        place, known, left_out = self.cursor.place, len(self.prompts), list[str]()
        lines = part_of(self.files.copy, place.bytes, end).split(b"\n")[:-1]
        for number, line in enumerate(lines, start=place.lines + 1):
            try:
                row = row_of(line, self.files.source, number)
                self.prompts += [] if row is None else [self.to_prompt(row)]
            except Exception as error:  # boundary: one line that others have written; it is left out and told, whatever is wrong with it
                left_out.append(str(error))
        self.cursor.place = replace(place, rows=len(self.prompts), bytes=end, lines=place.lines + len(lines))
        if tells and (len(self.prompts) > known or left_out):
            self._tell(step, len(self.prompts) - known, left_out)

    def _tell(self, step: int, new: int, left_out: Sequence[str]) -> None:
        self.run.event("rows", step=step, new=new, left_out=len(left_out), rows=len(self.prompts), errors=list(left_out[:NAMED]))
        words = [f"From step {step} on: {new} new rows of {self.files.source}, {len(self.prompts)} in all."]
        if left_out:
            more = f" (and {len(left_out) - NAMED} more)" if len(left_out) > NAMED else ""
            words.append(f"{len(left_out)} left out{more}: {' '.join(left_out[:NAMED])}")
        self.run.event("message", text=" ".join(words))

    def _news(self, place: Place) -> bytes:
        """Whole lines that were appended since."""
        source = self.files.source
        try:
            stat = source.stat()
            seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if seen == self.seen:
                return b""
            self.seen = seen
            begin = max(0, place.bytes - COMPARED)
            if part_of(source, begin, place.bytes) != part_of(self.files.copy, begin, place.bytes):
                return self._refused("does not begin any more with the rows that were taken from it: it was cut, or written anew")
            self.is_refused = False
            return part_of(source, place.bytes, complete_bytes(source))
        except OSError as error:
            return self._refused(f"cannot be read: {error}")

    def _refused(self, why: str) -> bytes:
        """Told once, until it is as it was."""
        if not self.is_refused:
            self.is_refused = True
            self.run.event("message", text=f"{self.files.source} {why}. Training goes on with the {len(self.prompts)} rows that are known; "
                                           "new ones are taken when the file is as it was, with others behind. For other rows, begin a new "
                                           f"run: heron train --from {self.run.path}")
        return b""
