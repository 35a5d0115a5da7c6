"""A run as the planner sees it: settings, shape and place, and how much of it is there at once.

Left out: bytes of anything (`weights`, `optimizers`, `activations`, `sampled`, `trained`).
"""

from __future__ import annotations

from dataclasses import dataclass

from heron.config.schema import Config
from heron.memory.activations import Layer
from heron.memory.optimizers import Tensors
from heron.memory.shapes import Shape
from heron.memory.table import GPU, HOST
from heron.memory.weights import Base

WORTH_TOKENS, WORTH_TOKENS_PER_LAYER = 1024, 256  # of `models.recording`, which cannot be imported without torch
SPAN_PAIRS = 4096  # of `kernels.packed`, likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that rows are counted from."""

    config: Config
    """The run's settings."""
    shape: Shape
    """Of the model."""
    base: Base
    """How its weights are stored."""
    prompt_tokens: int
    """Of the longest prompt."""
    place: str
    """Where the model is: `gpu` or `host`."""
    tile_bytes: int
    """Budget for a tile of float32 logits."""
    has_kernels: bool
    """There are compiled kernels for the CPU."""

    @property
    def element(self) -> int:
        """Bytes of an activation."""
        return self.base.element

    @property
    def is_lora(self) -> bool:
        """An adapter is trained, and the rest is frozen."""
        return self.config.model.has_adapter

    @property
    def on_gpu(self) -> bool:
        """The model is on a GPU."""
        return self.place == GPU

    @property
    def weight(self) -> int:
        """Bytes of a trained weight, and of its gradient: adapters are float32 on any base."""
        return 4 if self.is_lora else self.element

    @property
    def targets(self) -> dict[str, tuple[int, int]]:
        """The adapted linear layers of one decoder layer."""
        return self.shape.targets(self.config.model.lora_target_modules) if self.is_lora else {}

    @property
    def trained_per_layer(self) -> int:
        """Trained weights of one decoder layer."""
        return sum(one.count * one.size for one in self._of_a_layer())

    @property
    def trained(self) -> int:
        """Trained weights of the model."""
        return sum(one.count * one.size for one in self.tensors())

    def tensors(self) -> list[Tensors]:
        """All trained tensors."""
        many = [Tensors(shape=one.shape, count=one.count * self.shape.layers) for one in self._of_a_layer()]
        if self.is_lora:
            return many
        table = Tensors(shape=(self.shape.vocabulary, self.shape.hidden), count=1 if self.shape.is_tied else 2, is_table=True)
        return [table, *many, Tensors(shape=(self.shape.hidden,))]

    def _of_a_layer(self) -> list[Tensors]:
        shape, model = self.shape, self.config.model
        if not self.is_lora:
            matrices = [Tensors(shape=(outputs, inputs)) for inputs, outputs in shape.linears.values()]
            experts = [Tensors(shape=(shape.experts, 3 * shape.hidden, shape.intermediate))] if shape.experts else []
            known = sum(one.size for one in (*matrices, *experts))
            return [*matrices, *experts, Tensors(shape=(shape.layer_weights - known,))]
        rank, sizes = model.lora_rank, self.targets.values()
        pairs = [part for inputs, outputs in sizes for part in (Tensors(shape=(rank, inputs)), Tensors(shape=(outputs, rank)))]
        lengths = [Tensors(shape=(outputs,)) for _, outputs in sizes] if model.use_dora else []
        beside = shape.adapter_parameters(rank, model.lora_target_modules) // shape.layers - sum(one.size for one in pairs)
        return [*pairs, *lengths, *([Tensors(shape=(rank, beside // rank))] if beside else [])]

    @property
    def group_tokens(self) -> int:
        """Packed tokens of a group: the prompt once, and all of each answer but its last token, which predicts nothing."""
        rollout = self.config.rollout
        return self.prompt_tokens + rollout.num_generations * (rollout.max_completion_length - 1)

    @property
    def step_tokens(self) -> int:
        """Packed tokens of an optimizer step."""
        return self.config.train.prompts_per_step // self.config.objective.num_minibatches * self.group_tokens

    @property
    def tokens(self) -> int:
        """Packed tokens of a full micro-batch: the dial, but no less than one sequence and no more than the step has."""
        sequence = self.prompt_tokens + self.config.rollout.max_completion_length - 1
        return min(max(self.config.train.micro_batch_tokens, sequence), self.step_tokens)

    @property
    def trained_tokens(self) -> int:
        """Those of them that have log-probs: `G R / (P + G (R - 1))` of the packed ones."""
        rollout = self.config.rollout
        return round(self.tokens * rollout.num_generations * rollout.max_completion_length / self.group_tokens)

    @property
    def is_one_pass(self) -> bool:
        """The whole optimizer step is one micro-batch, so no gradient is there before its backward pass."""
        return self.tokens >= self.step_tokens

    @property
    def is_recorded(self) -> bool:
        """A micro-batch runs from a recording with compiled kernels."""
        worth = self.tokens >= max(WORTH_TOKENS, WORTH_TOKENS_PER_LAYER * self.shape.layers)
        return self.place == HOST and self.has_kernels and worth and not self.config.model.recomputes and not self.base.kind

    @property
    def is_tiled(self) -> bool:
        """MLPs and norms are computed over some tokens at a time."""
        return 0 < self.config.model.tiled_mlp < self.tokens and not self.shape.experts

    @property
    def layer(self) -> Layer:
        """A decoder layer in training."""
        model, siblings, prompt = self.config.model, self.config.rollout.num_generations, self.prompt_tokens
        is_shared = self.tokens >= self.group_tokens and (siblings - 1) * prompt * (prompt + 1) // 2 >= SPAN_PAIRS
        return Layer(
            shape=self.shape, element=self.element, rank=model.lora_rank if self.is_lora else None, targets=tuple(self.targets),
            use_dora=model.use_dora, is_recorded=self.is_recorded, on_cpu=not self.on_gpu, is_tiled=self.is_tiled,
            shares_prompt=self.on_gpu or is_shared,
        )
