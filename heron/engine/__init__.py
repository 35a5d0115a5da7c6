"""Sampling behind one protocol.

`native` samples from the trainer's own weights; `hf` is transformers' own generation; `scripted` is for tests.
"""

from heron.engine.choosing import check_installed, is_exact, make_engine
from heron.engine.hf import HFEngine
from heron.engine.native import NativeEngine
from heron.engine.params import SamplingParams
from heron.engine.protocol import Engine, Request
from heron.engine.scripted import ScriptedEngine

__all__ = [
    "Engine", "HFEngine", "NativeEngine", "Request", "SamplingParams", "ScriptedEngine", "check_installed", "is_exact", "make_engine",
]
