"""How long a step takes, estimated from the shapes alone: bytes over bandwidth, operations over rate, and no measurement of the model.

The one hard idea: sampling reads all weights once for every token that is written, however few rows there are, so it is bound by bandwidth
until many rows share a pass; training sends thousands of tokens through the same weights at once, so it is bound by operations. With P
weights in linear layers, T packed tokens, N trained ones, V x D the head, A the width of the queries:

    a pass of sampling   the longer of (weights + keys and values that are read) / bandwidth and 2 P rows / rate
    training             (4 P, 6 P if every weight is trained; 2 P more if layers are recomputed) T + 4 N V D (8 if the head is trained)
                         + attention, 4 A context a token forward, 2.5 times that backward
    beside it            weights read, and unpacked if they are of 4 bits (4.5 bytes each), in every pass over a micro-batch; layer inputs
                         that go to the host and come back in longer time than the layers take; the optimizer's state

Every completion is taken for full length, and rewards for free. It orders settings well and may be off by a factor of two: a shorter
answer, a slower kernel. Left out: evaluation, loading, waiting for rewards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heron.config.schema import Config
from heron.memory.devices import LINK, Device
from heron.memory.shapes import Shape, read_shape
from heron.memory.table import GPU

PAGE = 32
UNPACKED = 4.5
"""Bytes of traffic for a weight of 4 bits that is unpacked before it is used: half a byte read, two written, two read."""
PASS_OF_LAYER = {True: 20e-6, False: 60e-6}
"""Seconds that a layer takes for starting its kernels in a pass of sampling: on a GPU, replayed from a graph; on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """A step's time, estimated."""

    sampling: float
    """All completions of a step at full length."""
    training: float
    """Forward and backward over them, and the optimizer."""

    @property
    def total(self) -> float:
        """They take turns."""
        return self.sampling + self.training


def step_seconds(config: Config, model: Mapping[str, Any], *, prompt_tokens: int, device: Device) -> Seconds:
    """What a step of `config` would take.

    Args:
        config: the run's settings.
        model: the model's config.json.
        prompt_tokens: length of the longest prompt.
        device: what it would run on.
    """
    step = _Step(config=config, shape=read_shape(model), prompt=prompt_tokens, device=device, element=element_of(config, model))
    return Seconds(sampling=step.sampling(), training=step.training())


def element_of(config: Config, model: Mapping[str, Any]) -> int:
    """Bytes of an activation."""
    dtype = config.model.dtype if config.model.dtype != "auto" else model.get("dtype") or model.get("torch_dtype")
    return 2 if str(dtype).removeprefix("torch.") in ("bfloat16", "float16") else 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One step of a run, to be timed."""

    config: Config
    shape: Shape
    prompt: int
    device: Device
    element: int

    @property
    def answers(self) -> int:
        """Completions of the step."""
        return self.config.train.prompts_per_step * self.config.rollout.num_generations

    @property
    def trained(self) -> int:
        """Tokens that are trained, N."""
        return self.answers * self.config.rollout.max_completion_length

    @property
    def packed(self) -> int:
        """Tokens that go through the model in a pass of training, T: a prompt once for its group."""
        return self.config.train.prompts_per_step * self.prompt + self.trained

    @property
    def linear(self) -> int:
        """Weights of linear layers that a token meets, P: of the experts, those that are chosen for it."""
        return self._linear(self.shape.experts_per_token)

    def _linear(self, experts: int) -> int:
        """Weights of linear layers, with so many experts of each layer."""
        shape = self.shape
        attention = sum(inputs * outputs for inputs, outputs in shape.linears.values())
        return shape.layers * (attention + experts * 3 * shape.hidden * shape.intermediate)

    def sampling(self) -> float:
        """Prompts, then as many passes as a completion has tokens, for as many rows at once as there is room for."""
        rows = self._rows()
        prompts = 2 * self.linear * self.config.train.prompts_per_step * self.prompt / self.device.rate
        return prompts + -(-self.answers // rows) * self.config.rollout.max_completion_length * self._pass(rows)

    def training(self) -> float:
        """All micro-batches, as often as the objective goes over them, and the optimizer."""
        forward, backward = self._forward(), self._backward()
        reference = forward if self.config.objective.beta > 0 else 0.0
        once = forward + backward + self._reading() + self._offload(forward, backward)
        return reference + self.config.objective.num_iterations * once + self._optimizer()

    def _rows(self) -> int:
        """Completions that run at once: as many as `max_concurrent` and the cache allow."""
        rollout = self.config.rollout
        rows = min(self.answers, rollout.max_concurrent)
        if not rollout.cache_gib:
            return rows
        pages = -(-rollout.max_completion_length // PAGE) + 1 + -(-self.prompt // PAGE) / rollout.num_generations
        return max(1, min(rows, int(rollout.cache_gib * 2**30 / (pages * PAGE * self._token_of_cache()))))

    def _token_of_cache(self) -> int:
        key = self.element if self.device.place == GPU else 4
        return self.shape.layers * self.shape.key_width * (key + self.element)

    def _pass(self, rows: int) -> float:
        """Seconds for a token of each row; siblings read their prompt together."""
        rollout, shape = self.config.rollout, self.shape
        read = rows * (self.prompt / rollout.num_generations + rollout.max_completion_length / 2) * self._token_of_cache()
        experts = min(shape.experts, rows * shape.experts_per_token)
        bytes_read = self._weights(experts) + shape.embedding * self.element + read
        operations = 2 * rows * (self.linear + shape.embedding)
        starting = shape.layers * PASS_OF_LAYER[self.device.place == GPU]
        return max(bytes_read / self.device.bandwidth, operations / self.device.rate) + starting

    def _weights(self, experts: int) -> float:
        """Bytes of traffic for the linear layers' weights in a pass that reads so many experts of each layer."""
        model = self.config.model
        if model.method != "qlora":
            return self._linear(experts) * self.element
        return self._linear(experts) * (UNPACKED if model.quantization == "nf4" else 1)

    def _forward(self) -> float:
        return (2 * self.linear * self.packed + 2 * self._head() + self._attention()) / self.device.rate

    def _backward(self) -> float:
        """Gradients of the inputs; of the weights where they are trained; and what is computed again."""
        model = self.config.model
        trains_all = model.method == "full"
        linear = (2 if trains_all else 0) + 2 + (2 if model.gradient_checkpointing else 0)
        attention = 2.5 + (1 if model.gradient_checkpointing else 0)
        tiles = 2 * self._mlp() * self.packed if model.tiled_mlp else 0
        operations = linear * self.linear * self.packed + (6 if trains_all else 2) * self._head() + attention * self._attention() + tiles
        return operations / self.device.rate

    def _head(self) -> float:
        return float(self.trained * self.shape.embedding)

    def _mlp(self) -> int:
        """Weights of the MLPs; experts are not cut into tiles."""
        return 0 if self.shape.experts else 3 * self.shape.layers * self.shape.hidden * self.shape.intermediate

    def _attention(self) -> float:
        """Operations of causal attention forward: 4 A for each pair of a token and one before it."""
        length, prompts = self.config.rollout.max_completion_length, self.config.train.prompts_per_step
        pairs = self.trained * (self.prompt + length / 2) + prompts * self.prompt**2 / 2
        return 4 * self.shape.query_width * self.shape.layers * pairs

    def _reading(self) -> float:
        """Weights read, two or three times a micro-batch."""
        passes = 3 if self.config.model.gradient_checkpointing else 2
        longest = self.prompt + self.config.rollout.max_completion_length
        micro_batches = -(-self.packed // max(self.config.train.micro_batch_tokens, longest))
        return micro_batches * passes * self._weights(self.shape.experts) / self.device.bandwidth

    def _offload(self, forward: float, backward: float) -> float:
        """What copies of layer inputs take beyond the layers that hide them."""
        model = self.config.model
        if self.device.place != GPU or not model.gradient_checkpointing or model.offload == "off":
            return 0.0
        copy = self.packed * self.shape.layers * self.shape.hidden * self.element / LINK
        return max(0.0, copy - forward) + max(0.0, copy - backward)

    def _optimizer(self) -> float:
        """Weights, gradients and state read and written; the state moved to the host and back, if it waits there."""
        model, train = self.config.model, self.config.train
        trained = (self.shape.parameters if model.method == "full"
                   else self.shape.adapter_parameters(model.lora_rank, model.lora_target_modules))
        state = trained * (2 if "8bit" in train.optimizer else 8)
        moved = 2 * state / LINK if train.offload_optimizer else 0.0
        steps = self.config.objective.num_iterations * self.config.objective.num_minibatches
        return steps * (12 * trained + 2 * state) / self.device.bandwidth + moved
