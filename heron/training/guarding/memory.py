"""What an error says about memory, and how memory that nothing needs any more is given back."""

from __future__ import annotations

import gc

import torch

_SAID_BY_ALLOCATORS = ("out of memory", "not enough memory", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Memory ran out: on a GPU, in torch's allocator for the CPU (which raises a plain RuntimeError), or in Python."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID_BY_ALLOCATORS)


def free() -> None:
    """Give back what nobody refers to. Called where the error, whose traceback refers to all that was under way, is gone."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
