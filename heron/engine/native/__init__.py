"""The native engine: samples from the trainer's own modules, so there is nothing to copy and nothing to go stale."""

from heron.engine.native.engine import NativeEngine

__all__ = ["NativeEngine"]
