"""Generated tasks and games: rows without end from a seed and a difficulty, with demonstrations by a sloppy pupil."""

from heron.data.tasks.generating import demonstrations, find_task, generate
from heron.data.tasks.table import TASKS
from heron.data.tasks.task import DIFFICULTIES, Lesson, Problem, Task

__all__ = ["DIFFICULTIES", "Lesson", "Problem", "TASKS", "Task", "demonstrations", "find_task", "generate"]
