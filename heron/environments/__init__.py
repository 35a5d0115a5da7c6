"""Environments: what answers a model's turn, if anything does. Messages only: no tokens, no engine, no torch."""

from heron.environments.guess import Guess
from heron.environments.making import make_environment, resolve_rewards, sandbox_of
from heron.environments.moves import Moves
from heron.environments.protocol import Environment, SingleTurn
from heron.environments.retry import Retry
from heron.environments.tool_use import ToolUse
from heron.environments.tools import Tool

__all__ = [
    "Environment", "Guess", "Moves", "Retry", "SingleTurn", "Tool", "ToolUse", "make_environment", "resolve_rewards", "sandbox_of",
]
