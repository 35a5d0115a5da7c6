"""A small OpenAI-compatible server for one model, on the standard library and the native engine; or vLLM's own server, started (`vllm`)."""

from heron.serving.chat import ChatModel, open_model
from heron.serving.server import make_server, serve

__all__ = ["ChatModel", "make_server", "open_model", "serve"]
