"""Who judges replies where a reward function asks a language model (see `heron.rewards.judge`).

The hard idea: what is asked stands with the reward function, who is asked stands here, so one sheet of criteria can be put to any model.
"""

from __future__ import annotations

from dataclasses import dataclass

from heron.config.checks import check_finite, require

START = "start"
"""The model that means the start of the run itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """Who is asked, and what that may cost."""

    name: str | None = None
    """With a url, the model's name there. Without, a folder or hub id that is loaded beside the policy; or `start`: the weights that the
    run began with, kept in memory already (a LoRA's base, or the reference of `objective.beta`). None: there is no judge."""
    url: str | None = None
    """An OpenAI-compatible address, such as `http://127.0.0.1:8000/v1`."""
    key_file: str | None = None
    """A file with the server's key, one word. The key itself belongs into no config: those are written into runs."""
    structured: bool = True
    """Hold the answer to its JSON schema while it is sampled: `response_format` of a server, the extra `structured` in this process. The
    answer is checked either way."""
    cache: bool = True
    """Keep answers in the user's cache folder, by a hash of everything that they depend on."""
    max_concurrent: int = 8
    """Requests under way at once."""
    max_rpm: int = 0
    """Most requests a minute. 0: any number."""
    max_spend_tokens: int = 0
    """Stop the run when the judge has used so many tokens, prompts included, since the process began. 0: never."""
    max_answer_tokens: int = 512
    """Of one answer. A model that thinks first needs more."""
    timeout: float = 60.0
    """Seconds that one request may take."""
    patience: float = 300.0
    """Seconds that an outage of the server may last before the run stops; until then it waits."""
    max_failures: float = 0.05
    """Stop the run when the judge failed at more than this share of the last 200 replies (and at more than two)."""

    @property
    def takes_memory(self) -> bool:
        """A model of its own is loaded beside the policy."""
        return self.name not in (None, START) and self.url is None

    def __post_init__(self) -> None:
        check_finite("judge", self)
        for name in ("max_concurrent", "max_answer_tokens"):
            require(getattr(self, name) >= 1, f"judge.{name} must be at least 1", getattr(self, name), "")
        for name in ("max_rpm", "max_spend_tokens"):
            require(getattr(self, name) >= 0, f"judge.{name} must be 0 or more", getattr(self, name), "0 sets no limit.")
        for name in ("timeout", "patience"):
            require(getattr(self, name) > 0, f"judge.{name} must be above 0 seconds", getattr(self, name), "")
        require(0 <= self.max_failures < 1, "judge.max_failures must lie in [0, 1)", self.max_failures, "0.05 is the default.")
        require(self.url is None or self.name is not None, "judge.name must be set where judge.url is", self.name,
                "Give the model's name as the server knows it.")
        for name in ("key_file", "max_rpm", "max_spend_tokens"):
            require(self.url is not None or not getattr(self, name), f"judge.{name} is of use to a judge behind judge.url alone",
                    getattr(self, name), "Set the url, or leave it out.")
