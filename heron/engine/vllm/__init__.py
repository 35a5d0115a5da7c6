"""vLLM behind the engine protocol, in this process (`colocated`) or as a server (`server`). An extra: `heron-rl[vllm]`.

The one hard idea: a second copy of the weights goes stale, so every push is followed by a `probe` that compares both copies. Nouns:
`arguments` (what vLLM is asked), `answers` (what it said), `weights` (what is pushed), `in_process` (the one file that imports vLLM),
`client` (HTTP).
"""

from heron.engine.vllm.colocated import ColocatedVllm
from heron.engine.vllm.server import ServedVllm

__all__ = ["ColocatedVllm", "ServedVllm"]
