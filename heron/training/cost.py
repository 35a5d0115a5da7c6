"""What a run will take, said before anything is loaded: the planner applied to a config and the model's config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heron.config.model import EMBEDDED
from heron.config.schema import Config
from heron.errors import ModelError
from heron.kernels.host.build import built
from heron.memory import GPU, HOST, Plan, plan
from heron.memory.known import known_config
from heron.models.loading import find_device

PROMPT_TOKENS = 256
"""Assumed length of a prompt where no data has been read yet."""


def plan_of(config: Config, *, prompt_tokens: int = PROMPT_TOKENS) -> Plan:
    """The memory plan of a config on this machine; reads the model's config.json, and nothing else of it."""
    device = HOST if find_device(config.model.device).type == "cpu" else GPU
    return plan(config, config_json(config), prompt_tokens=prompt_tokens, device=device, has_kernels=built().code is not None)


def config_json(config: Config) -> dict[str, Any]:
    """The config.json of the model that a config names, of its text part if it has others. Of a public model that Heron knows, nothing is
    asked of the hub."""
    if config.model.name == EMBEDDED:
        from heron.models.embedded import build_config, build_tokenizer

        return dict(build_config(build_tokenizer(config.tags)).to_dict())
    known = None if Path(config.model.name).is_dir() or config.model.revision is not None else known_config(config.model.name)
    if known is not None:
        return known
    from transformers import AutoConfig

    try:
        whole = AutoConfig.from_pretrained(config.model.name, revision=config.model.revision)
        text = dict(whole.get_text_config().to_dict())
        return text | {"dtype": text.get("dtype") or whole.dtype}  # of a model that sees, often said of the whole alone
    except Exception as error:  # boundary: transformers raises many kinds for a bad folder or an unreachable hub
        raise ModelError(f"The config.json of {config.model.name!r} could not be read: {error}") from error
