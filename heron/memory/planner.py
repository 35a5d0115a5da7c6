"""From a config and a model's config.json to a table of bytes, before anything is loaded.

The one hard idea: sampling, evaluation and training take turns, so the peak is the largest of the three and not their sum; what
stays in memory all the time (weights, optimizer state) counts in each. Every row says which phase it belongs to and how it was
counted. Left out: the device's own overhead (a CUDA context is about half a GiB) and the allocator's slack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heron.config.schema import Config
from heron.errors import ConfigError, ModelError
from heron.memory.activations import gradients_per_layer, running_layer, saved_outside_layers, saved_per_layer
from heron.memory.shapes import Shape, read_shape

ALWAYS, SAMPLING, EVALUATION, TRAINING = "always", "sampling", "evaluation", "training"
"""The phases of a row."""

_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
PAGE, CHUNK = 32, 4096  # tokens of a page of the engine's cache, and of one forward pass over prompts
CPU_TILE_BYTES, CUDA_TILE_BYTES = 8 * 2**20, 32 * 2**20  # of `kernels.logprobs_tiles`, which cannot be imported without torch
FORESEEN_ROWS = 256  # of `kernels.logprobs_at_once`


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that takes memory."""

    name: str
    """What it is."""
    bytes: int
    """How much it takes."""
    phase: str
    """When: `always`, `sampling`, `evaluation` or `training`."""
    note: str
    """How it was counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The memory of a run. Example: `plan(config, json.load(open("config.json")), prompt_tokens=200).peak`."""

    rows: tuple[Row, ...]
    """Everything that takes memory."""
    parameters: int
    """Weights of the model, without the adapter."""
    trainable_parameters: int
    """Weights that are trained."""
    is_exact: bool
    """True if the weights were counted exactly; otherwise the family is not known and its config was read like Llama's."""

    @property
    def sampling_peak(self) -> int:
        """Bytes while the rollouts of a step are sampled."""
        return self._peak(SAMPLING)

    @property
    def evaluation_peak(self) -> int:
        """Bytes while the held-out problems are answered."""
        return self._peak(EVALUATION)

    @property
    def training_peak(self) -> int:
        """Bytes during the backward pass of a full micro-batch."""
        return self._peak(TRAINING)

    @property
    def peak(self) -> int:
        """The largest of the three: they take turns."""
        return max(self.sampling_peak, self.evaluation_peak, self.training_peak)

    @property
    def headline(self) -> str:
        """The plan in one line."""
        return f"{in_gib(self.peak)} at the peak: {in_gib(self.sampling_peak)} while sampling, {in_gib(self.training_peak)} while training"

    def table(self) -> list[tuple[str, str, str, str]]:
        """`(name, size, phase, note)` of every row, then the peaks: plain text for a viewer."""
        peaks = {SAMPLING: self.sampling_peak, EVALUATION: self.evaluation_peak, TRAINING: self.training_peak}
        return [(row.name, in_gib(row.bytes), row.phase, row.note) for row in self.rows] + [
            ("peak", in_gib(size), phase, "with what is always there") for phase, size in peaks.items()
        ]

    def _peak(self, phase: str) -> int:
        return sum(row.bytes for row in self.rows if row.phase in (ALWAYS, phase))


def plan(
    config: Config, model: Mapping[str, Any], *, prompt_tokens: int, bytes_per_weight: float | None = None, tile_bytes: int | None = None
) -> Plan:
    """What a run will need.

    Args:
        config: the run's settings.
        model: the model's config.json; of a multimodal model, its `text_config`.
        prompt_tokens: length of the longest prompt.
        bytes_per_weight: mean over all weights, where it is not that of `model.dtype` (0.6, say, for 4-bit weights).
        tile_bytes: budget for one tile of float32 logits; None takes that of `heron.kernels.logprobs` on a GPU, or on the CPU if
            `model.device` is "cpu".
    """
    if prompt_tokens < 1:
        raise ConfigError(f"prompt_tokens must be at least 1, but it is {prompt_tokens}. Give the length of the longest prompt.")
    tile_bytes = tile_bytes or (CPU_TILE_BYTES if config.model.device == "cpu" else CUDA_TILE_BYTES)
    job = _Job(config, read_shape(model), prompt_tokens, *_widths(config, model, bytes_per_weight), tile_bytes)
    return Plan(
        rows=(*job.resident(), *job.sampling(), *job.evaluation(), *job.training()),
        parameters=job.shape.parameters,
        trainable_parameters=job.trainable,
        is_exact=job.shape.is_exact,
    )


def in_gib(size: float) -> str:
    """`1.46 GiB`, or MiB where that reads better."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _widths(config: Config, model: Mapping[str, Any], bytes_per_weight: float | None) -> tuple[int, float]:
    """Bytes of an activation and of a weight. A checkpoint that does not name its dtype is taken for float32."""
    dtype = config.model.dtype
    if dtype == "auto":
        dtype = str(model.get("dtype") or model.get("torch_dtype") or "float32").removeprefix("torch.")
    if dtype not in _DTYPE_BYTES:
        raise ModelError(f"The checkpoint's dtype is {dtype!r}; memory can be planned for {', '.join(_DTYPE_BYTES)}. Set model.dtype.")
    if bytes_per_weight is None and model.get("quantization_config"):
        raise ModelError(
            "The checkpoint is quantised, and its config.json does not say how many bytes a weight takes. Give bytes_per_weight."
        )
    return _DTYPE_BYTES[dtype], bytes_per_weight or _DTYPE_BYTES[dtype]


@dataclass(frozen=True, slots=True)
class _Job:
    """Everything that the rows are counted from."""

    config: Config
    shape: Shape
    prompt_tokens: int
    element: int  # bytes of an activation
    weight: float  # bytes of a model weight
    tile_bytes: int

    @property
    def is_lora(self) -> bool:
        return self.config.model.has_adapter

    @property
    def trainable(self) -> int:
        model = self.config.model
        return self.shape.adapter_parameters(model.lora_rank, model.lora_target_modules) if self.is_lora else self.shape.parameters

    def resident(self) -> list[Row]:
        """What is there all the time."""
        count = "" if self.shape.is_exact else ", counted as if it were Llama"
        rows = [_row("weights", self.shape.parameters * self.weight, ALWAYS, f"{self.shape.parameters:,} x {self.weight:g} bytes{count}")]
        if self.is_lora:
            rows.append(_row("adapter", self.trainable * 4, ALWAYS, f"{self.trainable:,} weights in float32"))
        elif self.config.objective.beta > 0:
            rows.append(_row("reference copy", self.shape.parameters * self.weight, ALWAYS, "the start, frozen, for the KL (beta > 0)"))
        rows.append(_row("optimizer state", self.trainable * 8, ALWAYS, f"AdamW: two float32 moments of {self.trainable:,} weights"))
        return rows

    def sampling(self) -> list[Row]:
        """A step's completions, as many at once as may be."""
        return self._sampled(SAMPLING, prompts=self.config.train.prompts_per_step, siblings=self.config.rollout.num_generations)

    def evaluation(self) -> list[Row]:
        """Held-out answers; there may be more of them at once than in a step."""
        evaluation = self.config.evaluation
        return self._sampled(EVALUATION, prompts=evaluation.size, siblings=max(evaluation.samples, 1)) if evaluation.size else []

    def _sampled(self, phase: str, *, prompts: int, siblings: int) -> list[Row]:
        """Pages if no completion ends early; the prompts are computed in chunks."""
        shape, rollout = self.shape, self.config.rollout
        rows = min(rollout.max_concurrent, prompts * siblings)
        shared = -(-rows // siblings) * -(-self.prompt_tokens // PAGE)
        own = rows * (-(-rollout.max_completion_length // PAGE) + 1)
        key = max(4, self.element) if self.config.model.device == "cpu" else self.element
        cache = (shared + own) * PAGE * shape.layers * shape.key_width * (key + self.element)
        note = f"{shared:,} pages of prompts and {own:,} of {rows} completions, {PAGE} tokens each, {shape.layers} layers"
        if rollout.cache_gib and cache > rollout.cache_gib * 2**30:
            cache, note = int(rollout.cache_gib * 2**30), f"rollout.cache_gib; {in_gib(cache)} would let all {rows} completions run at once"
        tokens = min(CHUNK, -(-rows // siblings) * self.prompt_tokens)
        logits = rows * shape.vocabulary * (4 if self.element == 4 else 4 + self.element)
        work = [
            (tokens * running_layer(shape, self.element), f"one layer of {tokens:,} prompt tokens"),
            (logits, f"logits [{rows}, {shape.vocabulary}]"),
        ]
        return [_row("key-value cache", cache, phase, note), _row("sampling workspace", *_largest(work, phase))]

    def training(self) -> list[Row]:
        """The backward pass of a full micro-batch, behind others whose gradients are already there."""
        tokens = self._micro_batch_tokens()
        bytes_of_weight = 4 if self.is_lora else self.weight
        return [
            _row("gradients", self.trainable * bytes_of_weight, TRAINING, f"of {self.trainable:,} weights"),
            self._activations(tokens), _row("training workspace", *_largest(self._work(tokens), TRAINING)),
        ]

    def _work(self, tokens: int) -> list[tuple[float, str]]:
        """What comes and goes in a pass, one after the other: the reference, a tile of logits, the backward pass of a layer."""
        shape, model = self.shape, self.config.model
        head = 0 if self.is_lora else 4 * shape.embedding
        recomputed = self._layer() if model.gradient_checkpointing else 0.0
        backward = tokens * (recomputed + gradients_per_layer(shape, self.element)) + head  # made with the log-probs, and held from then on
        work = [
            (self._tile(tokens) + head, f"a tile of logits{', and the gradient of the head' if head else ''}"),
            (backward, f"one layer's backward pass over {tokens:,} tokens"),
        ]
        if self.config.objective.beta > 0:
            work.append((tokens * running_layer(shape, self.element), f"one layer of the reference over {tokens:,} tokens"))
        return work

    def _tile(self, tokens: int) -> float:
        """A tile of float32 logits `[c, v]`, its copy in the head's dtype, and the sums `[c, D]` and `[v, D]` beside it. Where the head is
        trained, whole rows of logits for a few tokens."""
        trained = round(tokens * self._trained())
        whole_rows = 0 if self.is_lora else FORESEEN_ROWS * self.shape.vocabulary
        cells = min(max(self.tile_bytes // 4, whole_rows), trained * self.shape.vocabulary)
        copies = 4 + (self.element if self.element < 4 else 0)
        return cells * copies + 2 * 4 * self.shape.hidden * cells**0.5

    def _micro_batch_tokens(self) -> int:
        """Packed tokens of a full micro-batch: the dial, but no less than one sequence and no more than the step has."""
        train, rollout = self.config.train, self.config.rollout
        sequence = self.prompt_tokens + rollout.max_completion_length
        step = train.prompts_per_step * (self.prompt_tokens + rollout.num_generations * rollout.max_completion_length)
        return min(max(train.micro_batch_tokens, sequence), step)

    def _activations(self, tokens: int) -> Row:
        """What the forward pass keeps for the backward pass; with checkpointing only the input of each layer."""
        layers, element = self.shape.layers, self.element
        outside = saved_outside_layers(self.shape, element)
        if self.config.model.gradient_checkpointing:
            kept = layers * self.shape.hidden * element
            return _row("activations", tokens * (kept + outside), TRAINING, f"{tokens:,} tokens: the input of each of {layers} layers")
        return _row("activations", tokens * (layers * self._layer() + outside), TRAINING, f"{tokens:,} tokens x {layers} layers")

    def _layer(self) -> float:
        """Bytes that autograd keeps of one layer, per packed token."""
        model = self.config.model
        return saved_per_layer(
            self.shape, self.element, rank=model.lora_rank if self.is_lora else None,
            targets=self.shape.targets(model.lora_target_modules),
        )

    def _trained(self) -> float:
        """Share of the packed tokens that are trained, and so have logits: `G R / (P + G R)`."""
        prompt, siblings, reply = self._group()
        return siblings * reply / (prompt + siblings * reply)

    def _group(self) -> tuple[int, int, int]:
        """P prompt tokens, G siblings, R tokens of each: the largest group."""
        return self.prompt_tokens, self.config.rollout.num_generations, self.config.rollout.max_completion_length


def _largest(work: list[tuple[float, str]], phase: str) -> tuple[float, str, str]:
    """Size, phase and note of the largest of things that are never there together."""
    size, note = max(work)
    return size, phase, note


def _row(name: str, size: float, phase: str, note: str) -> Row:
    return Row(name=name, bytes=round(size), phase=phase, note=note)
