"""Checkpoints: everything that a run needs to go on as if nothing had happened, written beside the training and found again."""

from heron.training.keeping.draws import Draws
from heron.training.keeping.finding import Found, fault_of, find
from heron.training.keeping.keeper import Keeper
from heron.training.keeping.snapshot import Snapshot, restore_optimizer
from heron.training.keeping.state import TrainState, load_state

__all__ = ["Draws", "Found", "Keeper", "Snapshot", "TrainState", "fault_of", "find", "load_state", "restore_optimizer"]
