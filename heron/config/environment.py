"""The environment section: what answers the model's turns, and with which tools.

What it leaves out: which names there are, which the room of environments knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from heron.config.checks import check_finite, one_of, require

SINGLE_TURN = "single_turn"
TOOL_FORMATS = ("template", "plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentConfig:
    """What answers the model's turns."""

    name: str = SINGLE_TURN
    """`single_turn` (nothing answers), `retry`, `tool_use`, `python_tool`, `guess`, `moves`; `verifiers:ID` for one of the package
    verifiers; or `file.py:make`, which is called with the tags and returns one of your own (see docs/environments.md)."""
    max_turns: int | None = None
    """Most answers of the model in one rollout. None: the environment's own number."""
    tools: tuple[str, ...] = ()
    """Of `tool_use`: built-in names such as `calculate`, or `file.py:function`, typed and with a docstring."""
    tool_format: str = "template"
    """How the model is told of tools: `template` by the model's chat template, which must know them; `plain` by text in the prompt."""
    tool_timeout: float = 5.0
    """Seconds after which a program of `python_tool` is killed."""

    def __post_init__(self) -> None:
        check_finite("environment", self)
        one_of("environment.tool_format", self.tool_format, TOOL_FORMATS)
        require(self.max_turns is None or self.max_turns >= 1, "environment.max_turns must be at least 1", self.max_turns, "")
        require(self.max_turns in (None, 1) or self.name != SINGLE_TURN, "environment.max_turns must be 1 for 'single_turn'",
                self.max_turns, "Choose another environment.name, or leave it out.")
        require(self.tool_timeout > 0, "environment.tool_timeout must be above 0 seconds", self.tool_timeout, "5 is the default.")
        has_tools, is_tool_use = self.name in ("tool_use", "python_tool"), self.name == "tool_use"
        require(is_tool_use or not self.tools, "environment.tools belong to environment.name = 'tool_use'", self.name,
                "Set the name, or leave them out.")
        require(not is_tool_use or bool(self.tools), "environment.tools must name at least one tool for 'tool_use'", self.tools,
                "calculate is built in; your own is file.py:function.")
        require(has_tools or self.tool_format == "template", "environment.tool_format belongs to an environment with tools", self.name,
                "Leave it out.")
        require(self.name == "python_tool" or self.tool_timeout == 5.0, "environment.tool_timeout belongs to 'python_tool'", self.name,
                "Leave it out.")
