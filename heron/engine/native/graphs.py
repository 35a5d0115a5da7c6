"""Decoding on a GPU: the forward pass of a step captured once for each bucket of rows, and replayed with one call.

The one hard idea: a captured pass reads its inputs where they lay when it was captured. So a bucket has buffers for tokens, positions and
the table of pages, which are filled in place before each replay, and rows of a bucket that stand for nobody write to a page that nobody
reads. Keys, values and weights are the engine's and the trainer's own tensors: what an optimizer step writes in place, the next replay
reads. What it cannot see are weights that were *replaced* (`load_state_dict(assign=True)`, `model.to(...)`): `captured_decode` compares
addresses before each call of the engine, and captures anew. Nor does it see what Python decides on the way, such as which adapter is
switched on and how it is scaled.

The captures lie in the store (`Store.captured`) and know its tensors, not the store itself: whoever drops the cache drops both at once.
The head is not captured: logits of all buckets would take more memory than all the rest of them.

Not yet run on a GPU. What it leaves out: prompts, which are not captured.
"""

from __future__ import annotations

import importlib.util
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy
import torch
from torch import Tensor

from heron.engine.native.sequence import Branch
from heron.engine.native.store import Store
from heron.models.policy import Policy

FINE = 32
"""Buckets are powers of 2 up to this number of rows, and its multiples from there."""

Forward = Callable[[], Tensor]
"""A forward pass over buffers that stay where they are."""
Capture = Callable[[Forward], Forward]
"""From a forward pass to its replay, which returns the same tensor each time."""


class Kernel(Protocol):
    """`kernels.triton_paged.paged_decode`, or what stands for it."""

    def __call__(
        self, query: Tensor, keys: Tensor, values: Tensor, block_table: Tensor, positions: Tensor,
        *, scaling: float, window: int | None = None, softcap: float | None = None, sinks: Tensor | None = None,
    ) -> Tensor: ...


def captured_decode(policy: Policy, store: Store) -> CapturedDecode | None:
    """What decodes on this policy's device, with all that was captured over the store so far; None where the plain pass does."""
    if policy.device.type != "cuda" or policy.dtype is torch.float64:
        return None
    if importlib.util.find_spec("triton") is None:
        warnings.warn("Decoding on this GPU runs without CUDA graphs and slowly: triton is not installed. Install it with "
                      "`pip install triton`.", stacklevel=2)
        return None
    if store.captured is None or store.captured.weights != addresses(policy):
        from heron.kernels.triton_paged import paged_decode

        store.captured = CapturedDecode(policy, store, kernel=paged_decode, capture=CudaCapture(policy.device))
    return store.captured


class CapturedDecode:
    """Captured forward passes over one store, by bucket."""

    def __init__(self, policy: Policy, store: Store, *, kernel: Kernel, capture: Capture) -> None:
        assert store.scratch is not None, "rows that stand for nobody need a page"
        self.weights = addresses(policy)
        self.buckets: dict[int, Bucket] = {}
        self._policy, self._kernel, self._capture = policy, kernel, capture
        self._keys, self._values = store.keys, store.values
        self._page_size, self._width, self._scratch = store.page_size, store.pages, store.scratch

    def hidden(self, branches: Sequence[Branch]) -> Tensor:
        """Last hidden states `[B, D]` of the newest token of each row, after its keys and values were put into its last page."""
        rows = bucket_of(len(branches))
        if rows in self.buckets:
            bucket = self.buckets[rows]
            bucket.fill(branches)
        else:
            bucket = Bucket(rows, self._width, self._scratch, self._policy.device)
            bucket.fill(branches)
            bucket.replay = self._captured(self._forward(bucket.steps, bucket.table))
            self.buckets[rows] = bucket
        return bucket.replay()[: len(branches)]

    def _forward(self, steps: Tensor, table: Tensor) -> Forward:
        """The forward pass over a bucket's buffers. It knows these and not the bucket, so that dropping a bucket frees them."""
        policy, kernel, keys, values, page_size = self._policy, self._kernel, self._keys, self._values, self._page_size

        def forward() -> Tensor:
            tokens, positions = steps
            pages = table.gather(1, positions[:, None] // page_size)[:, 0].long()
            plan = BlockPlan(
                keys=keys, values=values, table=table, positions=positions, pages=pages, offsets=positions % page_size, kernel=kernel,
            )
            return policy.hidden(tokens[:, None], positions[:, None], plan)[:, 0]

        return forward

    def _captured(self, forward: Forward) -> Forward:
        try:
            return self._capture(forward)
        except RuntimeError as error:  # boundary: a family whose forward pass waits for the device cannot be captured
            warnings.warn(f"Decoding runs without CUDA graphs, since the forward pass of {self._policy.source} could not be captured: "
                          f"{error}", stacklevel=2)
            self._capture = _uncaptured
            return forward


class Bucket:
    """Buffers for so many rows, and the forward pass over them."""

    replay: Forward

    def __init__(self, rows: int, width: int, scratch: int, device: torch.device) -> None:
        self.steps = torch.zeros(2, rows, dtype=torch.int64, device=device)  # tokens, positions
        self.table = torch.full((rows, width), scratch, dtype=torch.int32, device=device)
        self._nobody = [scratch]
        self._lines = [self._nobody] * rows  # what the table says
        self._table = numpy.full((rows, width), scratch, dtype=numpy.int32)

    def fill(self, branches: Sequence[Branch]) -> None:
        """Put the rows in; all others go to the scratch page, to which nobody else goes."""
        idle = len(self._lines) - len(branches)
        tokens = [branch.sequences[0].token_ids[-1] for branch in branches]
        self.steps.copy_(torch.tensor([tokens + [0] * idle, [branch.length for branch in branches] + [0] * idle]))
        lines = [branch.shared + branch.own for branch in branches] + [self._nobody] * idle
        changed = [row for row, (old, new) in enumerate(zip(self._lines, lines, strict=True)) if old != new]
        if not changed:
            return
        for row in changed:
            self._table[row, : len(lines[row])] = lines[row]
        self._lines, used = lines, max(map(len, lines))
        self.table[:, :used].copy_(torch.from_numpy(self._table[:, :used]))


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """One new token per row, whose pages are looked up on the device."""

    keys: Mapping[int, Tensor]
    """`[P, K, s, d]` by layer."""
    values: Mapping[int, Tensor]
    """`[P, K, s, e]` by layer."""
    table: Tensor
    """`[B, M]` int32, the pages of each row."""
    positions: Tensor
    """`[B]` of the new tokens."""
    pages: Tensor
    """`[B]` where they go."""
    offsets: Tensor
    """`[B]` their places there."""
    kernel: Kernel
    """Attends through the table."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        keys, values = self.keys[layer], self.values[layer]
        keys[self.pages, :, self.offsets] = key[:, :, 0].to(keys.dtype)
        values[self.pages, :, self.offsets] = value[:, :, 0]
        output = self.kernel(
            query[:, :, 0], keys, values, self.table, self.positions, scaling=scaling, window=window, softcap=softcap, sinks=sinks
        )
        return output[:, :, None]


class CudaCapture:
    """Captures forward passes as CUDA graphs, which share one pool of memory: they never run at once, and each output is read before the
    next replay."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, forward: Forward) -> Forward:
        with torch.cuda.device(self.device):
            self._warm_up(forward)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):  # a reward's thread may use the GPU
                output = forward()

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay

    def _warm_up(self, forward: Forward) -> None:
        """Once, on another stream: kernels are compiled and loaded. It writes the keys and values that the replay will write again."""
        here, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):
            forward()
        here.wait_stream(side)


def bucket_of(rows: int) -> int:
    """The number of rows that is computed for so many."""
    return 1 << (rows - 1).bit_length() if rows <= FINE else -(-rows // FINE) * FINE


def addresses(policy: Policy) -> tuple[int, ...]:
    """Where the weights lie."""
    return tuple(tensor.data_ptr() for tensor in itertools.chain(policy.model.parameters(), policy.model.buffers()))


def _uncaptured(forward: Forward) -> Forward:
    return forward
