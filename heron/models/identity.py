"""Which weights a policy is: a name for what its answers depend on, which is another name for any other weights.

The hard idea: a path says nothing of what lies there, and a base says nothing of its adapter. So a folder's files are hashed whole (1.7 GB
a second on one core), a commit of the hub stands for its files, and an adapter is hashed as it lies in memory, where the start of a run may
be beside what is trained. Left out: the device and the versions of libraries, which change an answer by rounding only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from heron.models.policy import Policy

READ = (".safetensors", ".bin", ".json", ".jinja", ".txt", ".model")
"""Ends of the files in a model's folder that its loading may read."""


def identity(policy: Policy, *, adapter: str | None) -> str:
    """`SOURCE@HASH` of the base, of the adapter of this name on it, of how it was quantised and of the chat template."""
    whole = hashlib.sha256()
    settings = getattr(policy.model.config, "quantization_config", None)
    for part in (policy.revision or file_hashes(policy.source), policy.dtype, settings, sorted(policy.quantization_kept),
                 policy.tokenizer.chat_template, [dict(tool) for tool in policy.tools]):
        whole.update(repr(_plain(part)).encode(errors="surrogatepass") + b"\0")
    if adapter is not None:
        for piece in _pieces(policy.model, adapter):
            whole.update(piece)
    return f"{policy.source}@{whole.hexdigest()[:32]}"


def file_hashes(source: str) -> list[tuple[str, str]]:
    """The files of a folder by name, each with its SHA-256; of a hub id none."""
    found = []
    for path in sorted(Path(source).iterdir()) if Path(source).is_dir() else ():
        if path.suffix in READ and path.is_file():
            with path.open("rb") as file:
                found.append((path.name, hashlib.file_digest(file, "sha256").hexdigest()))
    return found


def _plain(part: Any) -> Any:
    return part.to_dict() if hasattr(part, "to_dict") else part


def _pieces(model: Any, adapter: str) -> Iterator[bytes]:
    """Settings and weights of an adapter, under names that do not say whether it is the trained one or the one kept beside it."""
    settings = model.peft_config[adapter]
    yield repr([(name, getattr(settings, name, None)) for name in ("r", "lora_alpha", "use_rslora", "use_dora")]).encode()
    for name, weight in sorted(model.named_parameters()):
        if "lora_" in name and f".{adapter}" in name:
            yield name.replace(f".{adapter}", "").encode() + b"\0"
            yield weight.detach().float().cpu().contiguous().view(torch.uint8).numpy().tobytes()
