"""Which names of datasets stand for rows that are generated, so that no section of the config has to know them by heart."""

from __future__ import annotations

ARITHMETIC = "arithmetic"
"""Additions: the default."""
TASKS = "tasks."
"""What the names of generated tasks and games begin with: `tasks.reverse` (see `heron.data.tasks`)."""
GYM = "reasoning_gym:"
"""What the names of reasoning-gym's generators begin with: `reasoning_gym:leg_counting`."""

VERIFIERS = "verifiers:"
"""What the names of environments of the package verifiers begin with; they bring rows with them."""


def is_task(name: str) -> bool:
    """The rows are drawn from a seed at a difficulty."""
    return name.startswith(TASKS)


def is_generated(name: str) -> bool:
    """There is nothing to read: neither a file nor a folder nor a hub id."""
    return name == ARITHMETIC or name.startswith((TASKS, GYM))
