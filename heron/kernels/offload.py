"""Gradient checkpointing, whose saved layer inputs wait for the backward pass in the host's memory.

The one hard idea: what is saved becomes a parcel. A second queue of work (`Lane`, on a GPU a stream) takes it away while the next layer
computes, and brings it back while the layer behind it is recomputed, so that neither waits for a copy. Three rules make that safe, and no
thread ever waits on the host: memory that a copy still reads is held until the device's own queue waits for that copy; a copy begins behind
all that the device was told so far; and all copies are of one queue, so a block of host memory is read before it is written again.

On the GPU at most `AHEAD` inputs are leaving and one is coming back. On the host there are as many blocks of `BLOCK` bytes as were in use
at once: they are pinned once, and used again by every layer and micro-batch, whatever its length. A forward pass without a backward pass
gives its blocks back when its graph is dropped.

What it leaves out: the random state (nothing drops out while training), arguments without a gradient (every layer shares them), and a
second backward pass through one graph. Exactness and order are tested on a CPU with a lane of copies that are late; the lane of CUDA has
not yet run on a GPU.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

AHEAD = 2
"""Inputs that may be on their way to the host at once: the double buffer."""
BLOCK = 16 * 2**20
"""Bytes of a block of host memory. A power of two, for torch rounds pinned memory up to one."""


def checkpointed(function: Callable[..., Any], *inputs: Any) -> Any:
    """`function(*inputs)`, computed again in the backward pass; its inputs stay where they are."""
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)


class Offload:
    """A checkpoint function (see `checkpointed`) whose inputs wait on the host. One for all layers of a model."""

    def __init__(self, device: torch.device, *, lane: Lane | None = None, block: int = BLOCK) -> None:
        self.device = device
        self.pool = Pool(lane or CudaLane(device), block)
        self._leaving: deque[Parcel] = deque()
        self._last: Callable[[], Parcel | None] = _nothing

    def __call__(self, function: Callable[..., Any], *inputs: Any) -> Any:
        if not torch.is_grad_enabled():
            return function(*inputs)
        hidden = inputs[0].data_ptr()  # the layer's own input, also where nothing before it is trained

        def send(saved: Tensor) -> Parcel | Tensor:
            return self._send(saved) if saved.requires_grad or saved.data_ptr() == hidden else saved

        with saved_tensors_hooks(send, self._receive):
            return checkpointed(function, *inputs)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has parcels of its own."""
        return Offload, (self.device,)

    def _send(self, tensor: Tensor) -> Parcel:
        """Begin to take an input away, and let go of an earlier one."""
        parcel = Parcel(tensor, self.pool, before=self._last)
        self._last = weakref.ref(parcel)
        self._leaving.append(parcel)
        if len(self._leaving) > AHEAD:
            self._leaving.popleft().leave()
        return parcel

    def _receive(self, parcel: Parcel | Tensor) -> Tensor:
        """The input, and the one that will be asked for next on its way."""
        if isinstance(parcel, Tensor):
            return parcel
        tensor = parcel.take()
        if (following := parcel.before()) is not None:
            following.come()
        return tensor


class Parcel:
    """One input, on the device, on the host, or on its way."""

    def __init__(self, tensor: Tensor, pool: Pool, *, before: Callable[[], Parcel | None]) -> None:
        self.before = before
        """The one that was sent before it, and is therefore asked for after it; None once nobody holds it."""
        self._pool = pool
        self._shape, self._dtype, self._device = tensor.shape, tensor.dtype, tensor.device
        self._tensor: Tensor | None = tensor.detach().contiguous()
        self._blocks = pool.take(self._tensor.nbytes)
        self._ticket: Any = pool.lane.send(list(zip(self._blocks, self._parts(), strict=True)))
        self._is_taken = False

    def leave(self) -> None:
        """Wait for the copy to the host and let go of the memory on the device."""
        self._arrive()
        self._tensor = None

    def come(self) -> None:
        """Begin to bring it back, unless it is there. Its blocks are free at once: copies into them queue behind this one."""
        if self._tensor is not None or self._is_taken:
            return
        self._tensor = torch.empty(self._shape, dtype=self._dtype, device=self._device)
        self._ticket = self._pool.lane.send(list(zip(self._parts(), self._blocks, strict=True)))
        self._free()

    def take(self) -> Tensor:
        """The input, which is handed out once."""
        assert not self._is_taken, "a graph of checkpointed layers was gone through backward twice"
        self.come()
        self._arrive()
        self._free()
        tensor, self._tensor, self._is_taken = self._tensor, None, True
        assert tensor is not None
        return tensor

    def __del__(self) -> None:
        """A graph was dropped: memory that a copy is using stays until that copy is done."""
        self._arrive()
        self._free()

    def _parts(self) -> Sequence[Tensor]:
        """The memory on the device, cut as the blocks are."""
        assert self._tensor is not None
        return self._tensor.view(-1).view(torch.uint8).split(self._pool.block)

    def _arrive(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._pool.lane.wait(ticket)

    def _free(self) -> None:
        blocks, self._blocks = self._blocks, []
        self._pool.give_back(blocks)


class Pool:
    """Blocks of the host's memory, made when none is free."""

    def __init__(self, lane: Lane, block: int) -> None:
        self.lane, self.block = lane, block
        self.made = 0
        """Blocks that there are."""
        self._free: list[Tensor] = []

    def take(self, size: int) -> list[Tensor]:
        """Blocks for so many bytes, the last one cut to what is left."""
        lengths = [min(self.block, size - start) for start in range(0, size, self.block)]
        return [self._one()[:length] for length in lengths]

    def give_back(self, blocks: Sequence[Tensor]) -> None:
        self._free += [block if block._base is None else block._base for block in blocks]

    def _one(self) -> Tensor:
        if self._free:
            return self._free.pop()
        self.made += 1
        return self.lane.allocate(self.block)


class Lane(Protocol):
    """A queue of copies beside the device's own queue of work."""

    def allocate(self, size: int) -> Tensor:
        """So many bytes of host memory, `uint8`."""

    def send(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Any:
        """Queue copies into the first of each pair from the second, behind all that the device was told so far; returns a ticket."""

    def wait(self, ticket: Any) -> None:
        """What the device is told from now on begins after those copies."""


class CudaLane:
    """A stream of CUDA, with pinned memory. Made on first use, so that a model can be loaded and copied without one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None

    def allocate(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def send(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> torch.cuda.Event:
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for target, source in pairs:
                target.copy_(source, non_blocking=True)
        return self._stream.record_event()

    def wait(self, ticket: torch.cuda.Event) -> None:
        torch.cuda.current_stream(self._device).wait_event(ticket)


def _nothing() -> None:
    return None
