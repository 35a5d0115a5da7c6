"""A model behind an OpenAI-compatible interface: Heron's own server, with continuous batching (`server`), or vLLM's, started (`vllm`).

The one hard idea: a request is answered as if it were alone, while all of them are decoded together. From a body to an answer:
`requests` reads it, `model` writes the prompt, `batching` samples, `speech` reads the tokens, `answers` says it in OpenAI's form, `app`
has the routes. `conversation` is the same without a network, for the terminal.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from heron.errors import MissingExtra

PACKAGES = ("starlette", "uvicorn")


def serve(source: str | Path, **options: Any) -> None:
    """Serve a run's model, or a model folder, until Ctrl-C; the options are those of `server.serve`."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise MissingExtra(missing[0], "serve", "heron serve")
    from heron.serving.server import serve as run_server

    run_server(source, **options)


__all__ = ["serve"]
