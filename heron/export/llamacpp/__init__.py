"""A model as one GGUF file, which llama.cpp and what is built on it (Ollama, LM Studio) read, checked by reading it again."""

from heron.export.llamacpp.file import Written, check_quantization, write_gguf
from heron.export.llamacpp.types import QUANTIZATIONS

__all__ = ["QUANTIZATIONS", "Written", "check_quantization", "write_gguf"]
