"""Environments: what answers a model's turn, if anything does. Messages only: no tokens, no engine, no torch."""

from heron.environments.protocol import Environment, SingleTurn
from heron.environments.retry import Retry

__all__ = ["Environment", "Retry", "SingleTurn"]
