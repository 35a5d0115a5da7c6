"""Checkpointed layers whose inputs wait on the host: the same gradient bit by bit, in the right order, in bounded memory.

The lane of these tests is a second queue. Its copies are late, each made no sooner than somebody waits for it, or early, as soon as they
are queued. A place that is read before its copy was waited for holds NaN; memory that is let go before is found dead.
"""

from __future__ import annotations

import copy
import ctypes
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import heron_gradient
from tinymodels import load_tiny, ragged_groups, save_tiny, stir_adapter
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from heron.config.objective import ObjectiveConfig
from heron.kernels.offload import AHEAD, Offload, checkpointed

LAYERS, BLOCK = 6, 1024


class FakeLane:
    """Copies in the order in which they were queued, made when they are waited for, or at once."""

    def __init__(self, *, is_late: bool = True) -> None:
        self.is_late = is_late
        self.hosts: set[int] = set()
        self.landings: list[StorageWeakRef] = []
        self.queue: deque[tuple[StorageWeakRef, StorageWeakRef, int, int, int]] = deque()
        self.sent = self.done = self.to_host = self.from_host = 0

    def allocate(self, size: int) -> Tensor:
        block = torch.zeros(size, dtype=torch.uint8)
        self.hosts.add(block.untyped_storage().data_ptr())
        return block

    def send(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> int:
        for target, source in pairs:
            assert target.nbytes == source.nbytes > 0
            stores = target.untyped_storage(), source.untyped_storage()
            is_leaving = stores[0].data_ptr() in self.hosts
            self.to_host, self.from_host = self.to_host + is_leaving * source.nbytes, self.from_host + (not is_leaving) * source.nbytes
            if not is_leaving:
                target.fill_(255)  # NaN in every floating type
                self.landings.append(StorageWeakRef(stores[0]))
            self.queue.append((*map(StorageWeakRef, stores), target.data_ptr(), source.data_ptr(), source.nbytes))
        self.sent += len(pairs)
        if not self.is_late:
            self.wait(self.sent)
        return self.sent

    def wait(self, ticket: int) -> None:
        while self.done < ticket:
            *stores, target, source, size = self.queue.popleft()
            assert not any(store.expired() for store in stores), "memory was let go before its copy was waited for"
            ctypes.memmove(target, source, size)
            self.done += 1


def make(*, is_late: bool = True) -> tuple[Offload, FakeLane]:
    lane = FakeLane(is_late=is_late)
    return Offload(torch.device("cpu"), lane=lane, block=BLOCK), lane


@pytest.fixture(scope="module")
def deep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("qwen3", tmp_path_factory.mktemp("deep") / "model", num_hidden_layers=LAYERS)


@pytest.mark.parametrize("is_late", [True, False])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_gradient_of_ragged_micro_batches_is_equal_bit_by_bit(deep_folder: Path, method: str, is_late: bool) -> None:
    """Prevents: a layer recomputed from an input that had not come back, or that another layer or micro-batch has written over."""
    gradients, offload, lane = [], *make(is_late=is_late)
    for function in (checkpointed, offload):
        torch.manual_seed(0)
        policy = load_tiny(deep_folder, method=method, lora_rank=4, gradient_checkpointing=True)
        stir_adapter(policy)
        checkpoint_with(policy.model, function)
        policy.model.train()
        objective = ObjectiveConfig(beta=0.1 if method == "lora" else 0.0)  # a reference without gradients in between
        gradients.append(heron_gradient(policy, ragged_groups(3, shape=(4, 3, 2, 4)), objective, budget=50)[0])
    assert lane.from_host > 0
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def checkpoint_with(model: nn.Module, function: Callable[..., Any]) -> None:
    for module in model.modules():
        if hasattr(module, "_gradient_checkpointing_func"):
            module._gradient_checkpointing_func = function


class Stack(nn.Module):
    """Layers as a decoder has them; remembers the memory of their inputs."""

    def __init__(self, checkpoint: Callable[..., Any], *, width: int = 16, layers: int = LAYERS) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(layers))
        self.checkpoint = checkpoint
        self.inputs: list[StorageWeakRef] = []

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            self.inputs.append(StorageWeakRef(hidden.untyped_storage()))
            hidden = self.checkpoint(layer, hidden)
        return hidden

    def alive(self) -> int:
        """Inputs whose memory is still held."""
        return sum(not place.expired() for place in self.inputs)


def rows(count: int, width: int = 16) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count)).requires_grad_() * 1.0


def gradient_of(stack: Stack) -> list[Tensor]:
    return [weight.grad for weight in stack.parameters() if weight.grad is not None]


def test_the_device_holds_the_double_buffer_and_the_next_input_sets_out_before_it_is_asked_for() -> None:
    """Prevents: an offload that keeps what it sends away, brings everything back at once, or so late that every layer waits."""
    offload, lane = make()
    stack, size = Stack(offload), 40 * 16 * 4
    back: list[int] = []
    alive: list[int] = []
    receive = offload._receive

    def noted(parcel: Any) -> Tensor:
        back.append(lane.from_host // size)
        alive.append(len({place.cdata for place in lane.landings if not place.expired()}))
        return receive(parcel)

    offload._receive = noted  # type: ignore[method-assign]
    loss = stack(rows(40)).sum()
    assert stack.alive() <= AHEAD
    loss.backward()
    assert back == [0, 0, 1, 2, 3, 4]  # the last two inputs never left; then each sets out one layer ahead
    assert max(alive) == 1, "more than the one that is asked for lies there, brought back before its layer is through"
    assert lane.from_host == (LAYERS - AHEAD) * size


def test_host_memory_is_that_of_the_longest_micro_batch() -> None:
    """Prevents: new pinned memory for every length, layer or step."""
    offload, _ = make()
    stack = Stack(offload)
    stack(rows(200)).sum().backward()
    needed = offload.pool.made
    assert needed == LAYERS * -(-200 * 16 * 4 // BLOCK)
    for count in (7, 200, 33, 199, 1, 64):
        stack(rows(count)).sum().backward()
    assert offload.pool.made == needed
    assert len(offload.pool._free) == needed


def test_nested_passes_keep_their_own_inputs() -> None:
    """Prevents: inputs of one pass handed to another, whose backward passes come in the other order."""
    expected, offloaded = Stack(checkpointed), Stack(make()[0])
    for stack in (expected, offloaded):
        first, second = stack(rows(30)).sum(), stack(rows(50)).square().sum()
        first.backward()
        second.backward()
    assert all(torch.equal(*pair) for pair in zip(gradient_of(expected), gradient_of(offloaded), strict=True))


def test_a_dropped_forward_pass_gives_its_blocks_back() -> None:
    """Prevents: host memory that grows with every forward pass that failed, or was measured and not trained on."""
    offload, _ = make()
    stack = Stack(offload)
    for _ in range(5):
        stack(rows(40))
    assert offload.pool.made <= (LAYERS + AHEAD) * -(-40 * 16 * 4 // BLOCK)


def test_nothing_leaves_without_a_gradient() -> None:
    """Prevents: copies for log-probs of the reference, which nobody brings back."""
    offload, lane = make()
    with torch.no_grad():
        Stack(offload)(rows(40))
    assert lane.sent == 0


def test_arguments_without_a_gradient_stay() -> None:
    """Prevents: positions and masks, which all layers share, copied once for each of them."""
    offload, lane = make()
    shared = torch.ones(40, 16)
    loss = offload(lambda hidden, positions: (hidden * positions).tanh(), rows(40), shared).sum()
    assert lane.to_host == 40 * 16 * 4
    loss.backward()


def test_a_second_backward_pass_is_refused() -> None:
    """Prevents: a second pass through a graph that reads what other layers have written since."""
    loss = Stack(make()[0])(rows(40)).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(AssertionError, match="twice"):
        loss.backward()


def test_a_copied_model_has_parcels_of_its_own() -> None:
    """Prevents: a copy of the model that shares streams and buffers, or cannot be made."""
    offload = Offload(torch.device("cpu"))
    assert copy.deepcopy(offload).pool is not offload.pool


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU; not yet run on a GPU")
def test_cuda_is_exact_and_hides_the_copies() -> None:
    """Not yet run on a GPU. Prevents: streams that race, copies that the layers wait for (more than 3 % slower), inputs that stay."""
    device = torch.device("cuda")
    width, tokens, layers = 4096, 16384, 16
    seconds, peaks, gradients = {}, {}, {}
    for name, function in (("kept", checkpointed), ("offloaded", Offload(device))):
        stack = Stack(function, width=width, layers=0)
        torch.manual_seed(0)
        stack.layers.extend(nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)) for _ in range(layers))
        stack.to(device, torch.bfloat16)
        hidden = torch.randn(tokens, width, device=device, dtype=torch.bfloat16, requires_grad=True)
        for _ in range(2):
            stack(hidden).square().mean().backward()
        stack.zero_grad()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        for _ in range(3):
            stack(hidden).square().mean().backward()
        torch.cuda.synchronize()
        seconds[name], peaks[name], gradients[name] = time.perf_counter() - began, torch.cuda.max_memory_allocated(), gradient_of(stack)
    assert all(torch.equal(*pair) for pair in zip(gradients["kept"], gradients["offloaded"], strict=True))
    assert seconds["offloaded"] <= 1.03 * seconds["kept"]
    assert peaks["kept"] - peaks["offloaded"] >= 0.7 * (layers - AHEAD - 1) * tokens * width * 2
