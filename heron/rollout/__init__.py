"""From prompts to scored groups: engine and environment take turns, the rubric scores, siblings are compared."""

from heron.rollout.collect import Collector
from heron.rollout.in_flight import InFlight
from heron.rollout.seeds import derived_seed

__all__ = ["Collector", "InFlight", "derived_seed"]
