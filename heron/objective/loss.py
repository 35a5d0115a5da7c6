"""What a loss is: a surrogate per token, the weights it wants, and what it says about its settings.

    @register_loss(weights="tokens")
    def my_loss(inputs: LossInputs, *, epsilon: float) -> Tensor:
        return -torch.minimum(inputs.ratio, inputs.ratio.detach().clamp(max=1 + epsilon)) * inputs.advantages

The one hard idea: a loss names the settings that it wants, as keyword-only parameters, and gets them by name. So a new loss needs no
change elsewhere. The decorator keeps no list; a loss in a file is found by the name of its file.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from heron.errors import ConfigError, did_you_mean
from heron.objective.tokens import LossInputs
from heron.objective.weights import SCHEMES

LEVELS = ("token", "sequence")
"""What the importance ratio is taken over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """A loss per token, and what is worth logging of it."""

    loss: Tensor
    """`[N]`, to be minimised."""
    marks: Mapping[str, Tensor] = field(default_factory=dict)
    """`[N]` each, by metric name, such as `clip_ratio/low_mean`; averaged over tokens for the log."""


Function = Callable[..., Tensor | Surrogate]
Check = Callable[[Mapping[str, Any], str], list[str]]
"""Handed the settings and the level: raises ConfigError for what must not be, and returns warnings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A surrogate and how its tokens are weighted. Made by `register_loss`."""

    name: str
    """As in `objective.loss_type`."""
    surrogate: Function
    """`(inputs: LossInputs, *, settings by name) -> Tensor [N] | Surrogate`."""
    weights: str
    """What the sum over tokens is divided by: one of `heron.objective.weights.SCHEMES`."""
    level: str | None = None
    """Level of the ratio that it is defined with; None leaves the choice to the settings."""
    includes_importance: bool = False
    """The surrogate uses `inputs.importance` itself."""
    includes_keep: bool = False
    """The surrogate uses `inputs.keep` itself."""
    corrects_current: bool = False
    """The surrogate has no ratio to the old policy, so an off-policy correction reaches from the sampler to the current one."""
    check: Check | None = None
    """Its opinion of its settings."""

    def __call__(self, inputs: LossInputs, settings: Mapping[str, Any]) -> Surrogate:
        """The surrogate, with the settings it names."""
        made = self.surrogate(inputs, **self.arguments(settings))
        surrogate = made if isinstance(made, Surrogate) else Surrogate(loss=made)
        for name, value in (("loss", surrogate.loss), *surrogate.marks.items()):
            if not isinstance(value, Tensor) or value.shape != inputs.logprobs.shape:
                given = list(value.shape) if isinstance(value, Tensor) else value
                raise ConfigError(f"The loss {self.name} returned {name} as {given}; it must be one value per token, "
                                  f"{list(inputs.logprobs.shape)}. inputs.spread(x) gives a value per row to the row's tokens.")
        return surrogate

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The settings that the surrogate names."""
        found = inspect.signature(self.surrogate).parameters
        return {name: parameter for name, parameter in found.items() if parameter.kind is parameter.KEYWORD_ONLY}

    def arguments(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the settings that the surrogate names. One that is neither set nor has a default is an error."""
        for name, parameter in self.parameters.items():
            if name not in settings and parameter.default is parameter.empty:
                raise ConfigError(f"The loss {self.name} asks for {name!r}, which is no setting.{did_you_mean(name, settings)} "
                                  f"Settings are {', '.join(settings)}. Use one of them, or give the parameter a default.")
        return {name: settings[name] for name in self.parameters if name in settings}


def register_loss(
    *, weights: str, level: str | None = None, includes_importance: bool = False, includes_keep: bool = False,
    corrects_current: bool = False, check: Check | None = None,
) -> Callable[[Function], Loss]:
    """Makes a `Loss` of a function `(inputs: LossInputs, *, epsilon: float, ...) -> Tensor [N]`.

    Args:
        weights: `row_mean` (every row counts the same), `tokens` (every token of the step), `local_tokens` (every token of the
            micro-batch, where weights are counted as TRL does), `constant` (rows x max_completion_length), `row_sum` (rows).
        level: forces the level of `inputs.ratio`, `token` or `sequence`.
        includes_importance: the function uses `inputs.importance` itself; otherwise it is multiplied on.
        includes_keep: the function uses `inputs.keep` itself; otherwise it is multiplied on.
        corrects_current: the function uses neither `ratio` nor `log_ratio`; `importance` is then that of the current policy.
        check: `(settings, level) -> warnings`; raises ConfigError.
    """
    if weights not in SCHEMES:
        raise ConfigError(f"There are no weights {weights!r}.{did_you_mean(weights, SCHEMES)} There are {', '.join(SCHEMES)}.")
    if level is not None and level not in LEVELS:
        raise ConfigError(f"There is no level {level!r}. There are {', '.join(LEVELS)}; leave it out to let the settings choose.")

    def decorate(function: Function) -> Loss:
        _check_signature(function)
        return Loss(
            name=function.__name__, surrogate=function, weights=weights, level=level, includes_importance=includes_importance,
            includes_keep=includes_keep, corrects_current=corrects_current, check=check,
        )

    return decorate


def _check_signature(function: Function) -> None:
    parameters = list(inspect.signature(function).parameters.values())
    kinds = [parameter.kind for parameter in parameters]
    one = kinds[:1] in ([inspect.Parameter.POSITIONAL_OR_KEYWORD], [inspect.Parameter.POSITIONAL_ONLY])
    if not one or any(kind is not inspect.Parameter.KEYWORD_ONLY for kind in kinds[1:]):
        raise ConfigError(f"The loss {function.__name__} has the parameters ({', '.join(map(str, parameters))}). It is called with its "
                          "inputs and with settings by name: write def my_loss(inputs, *, epsilon).")
