"""Prompts: where rows come from, what a row may look like, how it is rendered, and in which order rows are drawn."""

from heron.data.cursor import PromptCursor
from heron.data.growing import GrowingCursor
from heron.data.loading import Dataset, load
from heron.data.templates import TEMPLATES, chat_template, prefilled_tag

__all__ = ["Dataset", "GrowingCursor", "PromptCursor", "TEMPLATES", "chat_template", "load", "prefilled_tag"]
