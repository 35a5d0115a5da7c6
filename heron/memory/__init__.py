"""Memory, planned before it is used: from the settings and a model's config.json to a table of bytes. Loads no torch."""

from heron.memory.planner import Plan, Row, plan
from heron.memory.shapes import Shape, read_shape

__all__ = ["Plan", "Row", "Shape", "plan", "read_shape"]
