"""A vLLM server in a process of its own, which can be killed: `python fake_vllm.py MODEL` says its address and serves until it is."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import torch
from vllm_fakes import FakeServer

if __name__ == "__main__":
    torch.set_num_threads(1)
    print(FakeServer(Path(sys.argv[1])).url, flush=True)
    threading.Event().wait()
