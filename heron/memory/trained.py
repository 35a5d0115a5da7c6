"""Bytes while a full micro-batch is trained: gradients, activations, and what comes and goes.

The one hard idea: the peak is a moment, and which one depends on the run. In the backward pass activations go while gradients come; an
optimizer step of one micro-batch begins it without any gradients, one of several with all of them. So each moment is added up by itself,
and the rows are those of the largest:

    log-probs      all activations, a tile of logits, and the head's gradient if the head is trained
    last layer     all activations, and the backward pass of one layer (computed again, if it is)
    first layer    one layer's activations, its backward pass, and the gradients of all others
    embedding      all gradients, and the embedding's once more, which is added to the head's if they are tied
    optimizer      all gradients, and what its step takes
    reference      all activations, and a layer without gradients, for a KL

Left out: vectors with a number per token (targets, weights, log-probs).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from heron.memory.activations import running_layer
from heron.memory.job import Job
from heron.memory.optimizers import step_bytes
from heron.memory.table import HOST, TRAIN, Row, row

FORESEEN_ROWS = 256  # of `kernels.logprobs_at_once`, which cannot be imported without torch
MAX_WORDS = 4096  # of `kernels.logprobs_tiles`, likewise
ON_THE_WAY = 3  # layer inputs that are on the GPU with `kernels.offload`: two leaving, and one coming back


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is there at once."""

    name: str
    """When."""
    gradients: float = 0.0
    """Of weights."""
    activations: float = 0.0
    """Kept for the backward pass."""
    work: float = 0.0
    """Comes and goes."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.gradients + self.activations + self.work


def trained(job: Job) -> list[Row]:
    """Rows of the training phase."""
    peak = max(moments(job), key=lambda moment: moment.total)
    tile = min(tile_bytes(job), peak.work)
    note = f"{job.tokens:,} tokens: {_kept(job)}"
    rows = [
        row("gradients", peak.gradients, TRAIN, f"at the peak, which is {peak.name}", place=job.place,
            formula="e x trained weights whose gradient is made"),
        row("activations", peak.activations, TRAIN, note, place=job.place,
            formula="T x (L x what a layer keeps + what is kept outside); recomputed: T x (L x D e + outside)"),
        row("log-prob tile", tile, TRAIN, _tile_note(job), place=job.place, formula="c v (4 + e if narrow) + 4 D (c + v)"),
        row("training workspace", peak.work - tile, TRAIN, f"what else comes and goes: {peak.name}", place=job.place,
            formula="the moment's temporary tensors, less the tile, which is gone by then"),
    ]
    if job.on_gpu and _is_offloaded(job):
        rows.append(row("activations", job.tokens * job.shape.layers * job.shape.hidden * job.element, TRAIN,
                        f"the inputs of {job.shape.layers} layers wait here, pinned", place=HOST, formula="T L D e"))
    return rows


def moments(job: Job) -> list[Moment]:
    """All that may be the peak."""
    shape, tokens, layer = job.shape, job.tokens, job.layer
    weight, table = job.weight, 0 if job.is_lora else shape.embedding
    everything, of_layer = weight * job.trained, weight * job.trained_per_layer
    before = 0 if job.is_one_pass else everything
    head = 4 * table if _is_foreseen(job) else job.element * table  # made with the log-probs, and held from then on
    outside, kept = tokens * layer.saved_outside, _kept_bytes(job)
    backward = _backward(job) + (0 if job.is_one_pass else weight * _largest(job))
    made = [
        Moment(name="the log-probs", gradients=before, activations=kept + outside, work=tile_bytes(job) + head),
        Moment(name="the last layer's backward pass", gradients=before, activations=kept + outside, work=backward + head),
        Moment(name="the first layer's backward pass", gradients=max(before, everything - of_layer - weight * table),
               activations=kept / shape.layers, work=backward + (0 if before and not shape.is_tied else head)),
        Moment(name="the embedding's backward pass", gradients=everything, work=weight * table if shape.is_tied or before else 0),
        Moment(name="the optimizer's step", gradients=everything,
               work=step_bytes(job.config.train.optimizer, job.tensors(), on_gpu=job.on_gpu)),
    ]
    if job.config.objective.beta > 0:
        reference = tokens * running_layer(shape, job.element)
        made.append(Moment(name="the reference's pass", gradients=before, activations=kept + outside, work=reference))
    return made


def scored(job: Job) -> tuple[float, str]:
    """Bytes and note of a pass without gradients, for old log-probs."""
    outside = job.tokens * job.shape.hidden * 2 * job.element
    return job.tokens * running_layer(job.shape, job.element) + outside, f"a pass without gradients over {job.tokens:,} tokens"


def tile_bytes(job: Job) -> float:
    """A tile of float32 logits `[c, v]`, its copy in the head's dtype, and the sums `[c, D]` and `[v, D]` beside it. Where the head's
    gradient is foreseen, whole rows of logits for a few tokens, and a slice of them in float32."""
    D, V, N, narrow = job.shape.hidden, job.shape.vocabulary, job.trained_tokens, job.element < 4
    cells = max(1, job.tile_bytes // 4)
    if _is_foreseen(job):
        rows = min(N, max(FORESEEN_ROWS, cells // V))
        return rows * V * job.element + min(cells, rows * V) * 4 * narrow + 4 * rows * D * 3
    side = max(1, 2 * cells // D)
    words = max(1, min(V, MAX_WORDS, side, isqrt(8 * cells)))
    rows = max(1, min(N, side, cells // words))
    return rows * words * (4 + (job.element if narrow else 0)) + 4 * D * (rows * narrow + (0 if job.is_lora else words))


def _is_foreseen(job: Job) -> bool:
    """The head's gradient is made with the log-probs: torch's epilogue, and a loss that is known before (see `training.update`)."""
    objective = job.config.objective
    depends = objective.beta > 0 or objective.entropy_coef > 0 or objective.use_adaptive_entropy
    return not job.is_lora and not job.on_gpu and not depends and objective.importance_sampling_correction == "none"


def _kept_bytes(job: Job) -> float:
    """Activations of all layers where the model is."""
    layers, whole = job.shape.layers, job.layer.saved
    inputs = job.shape.hidden * job.element
    if job.config.model.gradient_checkpointing:
        there = min(ON_THE_WAY, layers) if job.on_gpu and _is_offloaded(job) else layers
        return float(job.tokens * there * inputs)
    return job.tokens * layers * (whole - (job.layer.saved_by_mlp - inputs if job.is_tiled else 0))


def _backward(job: Job) -> float:
    """One layer's backward pass, the larger of its halves: what is computed again, and gradients in flight; of a weight that is unpacked,
    that too. By the time of the attention's, what the MLP kept is gone."""
    layer, tokens = job.layer, job.tokens
    attention = layer.saved - layer.saved_by_mlp if job.config.model.gradient_checkpointing else 0.0
    whole = layer.saved_by_mlp if job.config.model.gradient_checkpointing and not job.is_tiled else 0.0
    mlp = tokens * (attention + whole) + _mlp_gradients(job)
    attending = tokens * (attention + layer.attention_gradients)
    return max(mlp, attending) + job.base.largest_layer(job.shape) * job.element


def _mlp_gradients(job: Job) -> float:
    """In flight while the MLP's backward pass runs."""
    layer, tile = job.layer, job.config.model.tiled_mlp
    if not job.is_tiled:
        return job.tokens * layer.gradients
    sums = 0 if job.is_lora else 4 * 3 * job.shape.hidden * job.shape.intermediate
    return tile * (layer.gradients + layer.saved_by_mlp) + job.tokens * 3 * job.shape.hidden * job.element + sums


def _largest(job: Job) -> int:
    """Weights of the largest trained tensor of a layer: its gradient is made before it is added."""
    return max((one.size for one in job.tensors() if not one.is_table), default=0)


def _is_offloaded(job: Job) -> bool:
    """Layer inputs wait in the host's memory."""
    model = job.config.model
    return model.gradient_checkpointing and job.on_gpu and model.offload != "off"


def _kept(job: Job) -> str:
    """What is kept, in words."""
    model = job.config.model
    if not model.gradient_checkpointing:
        return f"everything that {job.shape.layers} layers keep"
    return "of the inputs of layers those on their way" if _is_offloaded(job) else f"the input of each of {job.shape.layers} layers"


def _tile_note(job: Job) -> str:
    return f"whole rows of logits for {FORESEEN_ROWS} tokens at a time" if _is_foreseen(job) else "one tile of logits in float32"
