"""Memory, planned before it is used: from the settings and a model's config.json to a table of bytes. Loads no torch."""

from heron.memory.planner import plan
from heron.memory.shapes import Shape, read_shape
from heron.memory.table import GPU, HOST, PHASES, Plan, Row, in_gib

__all__ = ["GPU", "HOST", "PHASES", "Plan", "Row", "Shape", "in_gib", "plan", "read_shape"]
