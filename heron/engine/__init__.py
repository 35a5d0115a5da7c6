"""Sampling. `protocol` says what an engine is; `native` samples from the trainer's own weights; `scripted` is for tests."""

from heron.engine.native import NativeEngine
from heron.engine.protocol import Engine, Request, SamplingParams
from heron.engine.scripted import ScriptedEngine

__all__ = ["Engine", "NativeEngine", "Request", "SamplingParams", "ScriptedEngine"]
