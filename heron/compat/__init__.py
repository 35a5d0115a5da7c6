"""Settings of other trainers, translated: what is the same, what has another name, what differs, what is not there."""

from heron.compat.notes import Kind, Note
from heron.compat.trl.translating import from_grpo_config

__all__ = ["Kind", "Note", "from_grpo_config"]
