"""Everything Heron raises on purpose. The message says what was wrong, what was given, and what to do next.

    HeronError                    exit code 1
    ├── ConfigError   (ValueError)   2   an unknown key, a value out of range, settings that contradict each other
    │   └── TemplateError            2   a chat template is missing or does not render
    ├── DataError     (ValueError)   3   a missing file, a malformed line, an empty dataset, a missing column
    ├── ModelError                   2   a checkpoint that cannot be loaded or trained
    ├── MissingExtra  (ImportError)  2   an optional package is absent; the message names the extra to install
    ├── RewardError                  1   a reward function raised, or returned something that is not a finite number
    │   └── RewardStop               1   no reward function can go on: a judge's budget is spent, or its server is gone
    ├── SandboxError                 1   untrusted code cannot be run here as safely as asked for
    ├── EngineError                  1   sampling was asked for something that it cannot do
    ├── RunError                     2   a path is not a run directory, or the run cannot be used for this
    ├── SaveError                    1   the last checkpoint, or the record, could not be written
    └── GuardStop                    4   training was stopped because a number stopped being finite
        ├── AlertStop                4   training was stopped by an alert that it was told to heed
        ├── MemoryStop               4   memory ran out, and there was nothing left to cut smaller
        └── IdentityError            4   something that must be true of every step was not

`exit_code` is what the command line returns. Violated invariants of our own are `assert`s, not errors of this tree.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeronError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 1


class ConfigError(HeronError, ValueError):
    """The configuration is wrong; nothing was started."""

    exit_code = 2


class TemplateError(ConfigError):
    """A chat template is missing or cannot render the messages."""


class DataError(HeronError, ValueError):
    """The dataset is wrong; nothing was trained."""

    exit_code = 3


class ModelError(HeronError):
    """A checkpoint cannot be loaded, or cannot be trained as asked."""

    exit_code = 2


class MissingExtra(HeronError, ImportError):
    """An optional package is absent."""

    exit_code = 2

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f'{purpose} needs the package "{package}". Install it with: pip install "heron-rl[{extra}]"')


class RewardError(HeronError):
    """A reward function raised, or returned something that is not a finite number."""


class RewardStop(RewardError):
    """Scoring cannot go on, whatever `rewards.on_error` says of single rollouts; the run can be resumed."""


class SandboxError(HeronError):
    """Untrusted code cannot be run here as safely as asked for."""


class EngineError(HeronError):
    """The sampler was asked for something that it cannot do."""


class RunError(HeronError):
    """A path is not a run directory, or the run cannot be used for this."""

    exit_code = 2


class SaveError(HeronError):
    """What was learnt last, or happened, could not be written down; the run can be resumed from the checkpoint before."""


class GuardStop(HeronError):
    """Training stopped because a loss, a gradient or a ratio was not finite."""

    exit_code = 4


class AlertStop(GuardStop):
    """An alert of `train.strict` was given reason for; the run is saved and can be resumed."""


class MemoryStop(GuardStop):
    """Memory ran out in work that cannot be cut smaller."""


class IdentityError(GuardStop):
    """Something that must be true of every step was not; the weights are those of before the step."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        """Of the identity."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`' Did you mean "epsilon"?'` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f' Did you mean "{near[0]}"?' if near else ""
