"""The warm-up section: supervised fine-tuning on demonstrations, before any reward is asked.

The one hard idea: demonstrations are generated or read, and a setting of the one kind is an error beside the other, where it could do
nothing. What it leaves out: the optimizer and its memory, which are those of the section `train`.
"""

from __future__ import annotations

from dataclasses import dataclass

from heron.config.checks import check_finite, check_seed, require
from heron.config.generated import ARITHMETIC, GYM, is_generated, is_task
from heron.errors import ConfigError, did_you_mean

FORMATS = ("row", "gsm8k")
"""Formats by name; any other is a text with `{columns}` in it."""
EMBEDDED_STEPS = 750
"""Steps in which the embedded model is made, unless they are given."""
EMBEDDED_LEARNING_RATE = 1.2e-3
"""Its step size."""

_ARITHMETIC_ONLY = ("forget_carry", "skip_working", "break_format")
_TASKS_ONLY = ("mistakes",)
_READ_ONLY = ("subset", "split", "limit", "prompt_column", "completion_column", "format")


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupConfig:
    """Supervised start: the embedded model's (cached; see `training.warmup`), or of any model on the demonstrations of a dataset."""

    dataset: str | None = None
    """Demonstrations to begin any model with: a file, folder or hub id as in `data.dataset`, or `arithmetic` or `tasks.NAME`
    (generated). None: no warm-up, but for the embedded model, which is made by one."""
    subset: str | None = None
    """Configuration name of a hub dataset; of a local folder, the folder in it whose files are read. It goes with the dataset, as in the
    section `data`."""
    split: str = "train"
    """Split to learn from. In a folder of files it names the file."""
    limit: int | None = None
    """Use only the first so many rows."""
    prompt_column: str | None = None
    """Column with the question, where it is not named `messages`, `prompt`, `question` or `problem`."""
    completion_column: str | None = None
    """Column with the answer to learn, where it is not named `completion`, `response` or `output`, nor ends the row's `messages`."""
    format: str = "row"
    """How an answer is written: `row` as the row has it; `gsm8k` makes the reasoning and the number of `... #### 42` into the run's tags,
    each on a line of its own; or a text such as `{reasoning_start}{steps}{reasoning_end}` with columns and tags to fill in."""
    epochs: int | None = None
    """Times that every demonstration of `dataset` is learnt from. None: once, unless `steps` says otherwise."""
    steps: int | None = None
    """Optimizer steps. None: as the epochs say; 750 for the embedded model."""
    demonstrations: int = 6000
    """Distinct demonstrations that are generated."""
    batch_size: int = 16
    """Demonstrations per step."""
    learning_rate: float | None = None
    """Peak step size; rises over a tenth of the steps, and falls almost to 0 along a cosine. None: 2e-4 for an adapter, 1e-5 for every
    weight, 1.2e-3 for the embedded model."""
    forget_carry: float = 0.68
    """Probability that a generated demonstration forgets every carry."""
    skip_working: float = 0.1
    """Probability that a generated demonstration guesses without working out."""
    break_format: float = 0.16
    """Probability that a generated demonstration loses a tag or a pair of tags."""
    mistakes: float = 0.5
    """Probability that a generated demonstration of a task goes wrong; in a game, each turn of it."""
    eval_size: int = 32
    """Demonstrations of `dataset` set aside to measure the loss on, before and after: at most a fifth of them. 0: none."""
    seed: int = 0
    """Decides the weights that the embedded model begins with, what is generated or set aside, and the order."""

    def __post_init__(self) -> None:
        check_finite("warmup", self)
        for name in ("demonstrations", "batch_size"):
            require(getattr(self, name) >= 1, f"warmup.{name} must be at least 1", getattr(self, name), "")
        for name in ("limit", "epochs", "steps"):
            given = getattr(self, name)
            require(given is None or given >= 1, f"warmup.{name} must be at least 1", given, "Leave it out for the default.")
        for name in ("forget_carry", "skip_working", "break_format", "mistakes"):
            require(0 <= getattr(self, name) <= 1, f"warmup.{name} must be a probability", getattr(self, name), "")
        require(self.learning_rate is None or self.learning_rate > 0, "warmup.learning_rate must be above 0", self.learning_rate,
                "Leave it out for the default.")
        require(self.eval_size >= 0, "warmup.eval_size must not be negative", self.eval_size, "0 sets none aside.")
        require(self.epochs is None or self.steps is None, "warmup.steps and warmup.epochs say the same thing twice: leave out one",
                self.steps, "")
        check_seed("warmup.seed", self.seed)
        self._check_format()
        self._check_reach()

    @property
    def is_generated(self) -> bool:
        """The demonstrations are drawn from the seed."""
        return self.dataset is None or is_generated(self.dataset)

    def _check_format(self) -> None:
        if self.format not in FORMATS and "{" not in self.format:
            raise ConfigError(f"warmup.format is {self.format!r}, which is neither one of {', '.join(FORMATS)} nor a text with "
                              f"{{columns}} to fill in.{did_you_mean(self.format, FORMATS)}")
        require(self.format == "row" or self.completion_column is None, "warmup.completion_column is of use to warmup.format = 'row' alone",
                self.completion_column, "Leave it out, or put {the column} into the format.")

    def _check_reach(self) -> None:
        """Settings of demonstrations that are read are errors beside generated ones, and the other way round."""
        is_gym = self.dataset is not None and self.dataset.startswith(GYM)
        require(not is_gym, "warmup.dataset must have answers to learn from, but reasoning-gym makes no demonstrations", self.dataset,
                "Name a file of your own, or a task such as tasks.chain_sum.")
        idle = _READ_ONLY if self.is_generated else ("demonstrations",)
        if self.dataset is not None and self.dataset != ARITHMETIC:
            idle = (*idle, *_ARITHMETIC_ONLY)
        if self.dataset is None or not is_task(self.dataset):
            idle = (*idle, *_TASKS_ONLY)
        if self.dataset is None:
            idle = (*idle, "epochs", "eval_size")
        for name in idle:
            if getattr(self, name) != self.__dataclass_fields__[name].default:
                kind = "are generated" if self.is_generated else "are read from a dataset"
                raise ConfigError(f"warmup.{name} is {getattr(self, name)!r}, but the demonstrations {kind} (warmup.dataset is "
                                  f"{self.dataset or 'none'!r}), so it would do nothing. Leave it out, or name another warmup.dataset.")
