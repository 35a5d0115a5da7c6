"""What is set in the environment: the one place here that reads it.

The one hard idea: there are two lists. What is on the first is shown with its value; of everything on the second, which may be a secret or
hold one, it is said that it is set and nothing more.
"""

from __future__ import annotations

import os
from pathlib import Path

from heron.run.machine.fact import Fact

SHOWN = (
    "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "CUDA_VISIBLE_DEVICES",
    "PYTORCH_CUDA_ALLOC_CONF", "OMP_NUM_THREADS", "WANDB_MODE", "NO_COLOR", "CI",
)
TOLD_OF = (
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "WANDB_API_KEY", "WANDB_BASE_URL", "OPENAI_API_KEY",
    "OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy",
)
"""Secrets, and addresses, which may hold one."""
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def environment_facts() -> list[Fact]:
    """Which of the variables that matter are set."""
    shown = {name: os.environ[name] for name in SHOWN if name in os.environ}
    hidden = [name for name in TOLD_OF if name in os.environ]
    return [
        _fact("set", ", ".join(f"{name}={value}" for name, value in shown.items()) or "none of " + ", ".join(SHOWN), shown),
        _fact("set, not shown", ", ".join(hidden) or "none", hidden),
    ]


def offline_switch() -> str | None:
    """The variable that forbids downloads; None where none does."""
    return next((name for name in OFFLINE if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")), None)


def hub_folder() -> Path:
    """Where Hugging Face keeps what it downloaded."""
    named = os.environ.get("HF_HUB_CACHE")
    return Path(named).expanduser() if named else hub_home() / "hub"


def hub_home() -> Path:
    """Hugging Face's own folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser()


def has_hub_token() -> bool:
    """Whether a token of Hugging Face is there, in the environment or where its login writes it."""
    file = Path(os.environ.get("HF_TOKEN_PATH") or hub_home() / "token").expanduser()
    return "HF_TOKEN" in os.environ or file.is_file()


def _fact(name: str, words: str, data: object) -> Fact:
    return Fact(group="environment", name=name, words=words, data=data)
