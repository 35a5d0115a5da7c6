"""Weights and tokenizer: loading them, building the embedded default, and the policy that is trained."""

from heron.models.loading import load_policy
from heron.models.policy import Policy

__all__ = ["Policy", "load_policy"]
