"""From prompts to scored groups: engine and environment take turns, the rubric scores, siblings are compared."""

from heron.rollout.collect import Collector

__all__ = ["Collector"]
