"""The counters of a run, and nothing else: what a step draws from the data and for its answers is a function of (seed, step).

So is the learning rate: there is no scheduler whose state could be lost (`optimizer.learning_rate`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from heron.data.growing import Place
from heron.objective import AdaptiveEntropy, FixedEntropy
from heron.rollout import InFlight

STATE = "state.json"


@dataclass(slots=True)
class TrainState:
    """The only counters of a run; checkpointed whole."""

    step: int = 0
    """Batches of rollouts trained on."""
    policy_version: int = 0
    """Optimizer steps taken."""
    num_tokens: int = 0
    """Tokens sampled for training."""
    seconds: float = 0.0
    """Time spent in steps, over all sittings."""
    entropy: FixedEntropy | AdaptiveEntropy = field(default_factory=FixedEntropy)
    """The entropy bonus for the next optimizer step."""
    prompts_begun: int = 0
    """Prompts that sampling has begun with, where a step may take more or fewer than its share."""
    in_flight: list[InFlight] = field(default_factory=list)
    """Groups that the next step goes on with."""
    broken_in_a_row: int = 0
    """Steps up to now in which something was not finite."""
    times_gone_back: int = 0
    """How often that has brought earlier weights back."""

    rows: Place | None = None
    """Where the next step draws from, of rows that become more; None where they don't."""

    def to_json(self) -> str:
        """All of it; JSON keeps every bit of a float."""
        return json.dumps(asdict(self))


def load_state(path: Path) -> TrainState:
    """The counters of a checkpoint."""
    values = json.loads((path / STATE).read_text())
    bonus = values.pop("entropy", asdict(FixedEntropy()))  # checkpoints of before had none
    values["in_flight"] = [InFlight.of_dict(flight) for flight in values.pop("in_flight", ())]
    place = values.pop("rows", None)
    values["rows"] = None if place is None else Place(**place)
    return TrainState(**values, entropy=FixedEntropy(**bonus) if bonus.keys() == {"coef"} else AdaptiveEntropy(**bonus))
