"""From a config and a model's config.json to a table of bytes, before anything is loaded.

The one hard idea: every phase is counted by itself, as it is when a run is under way: the optimizer has its state, no completion ends
early, and every micro-batch is full. So a run that samples shorter answers stays below the plan. What stays all the time (weights, adapter,
optimizer) is `always`, but while the model is loaded.

Left out: libraries and a device's own overhead (a CUDA context is about half a GiB), the allocator's slack, and pages of the checkpoint
that the host maps while a GPU reads it, since the system takes those back when it needs memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from heron.config.schema import Config
from heron.errors import ConfigError
from heron.memory import optimizers
from heron.memory.job import Job
from heron.memory.sampled import asleep, sampled
from heron.memory.shapes import read_shape
from heron.memory.table import ALWAYS, EVALUATION, GPU, HOST, LOAD, SAMPLE, SCORE, TRAIN, Plan, Row, row
from heron.memory.trained import scored, trained
from heron.memory.weights import read_base

CPU_TILE_BYTES, CUDA_TILE_BYTES = 8 * 2**20, 32 * 2**20  # of `kernels.logprobs_tiles`, which cannot be imported without torch
SHARD = 5 * 10**9  # bytes of a file of a published checkpoint, at most


def plan(
    config: Config, model: Mapping[str, Any], *, prompt_tokens: int, bytes_per_weight: float | None = None, tile_bytes: int | None = None,
    device: str | None = None, has_kernels: bool = True,
) -> Plan:
    """What a run will need.

    Args:
        config: the run's settings.
        model: the model's config.json; of a multimodal model, its `text_config`.
        prompt_tokens: length of the longest prompt.
        bytes_per_weight: mean over all weights, for a checkpoint that is quantised in a way that its config.json does not tell.
        tile_bytes: budget for one tile of float32 logits; None takes that of `heron.kernels.logprobs`.
        device: `gpu`, or `host` for a run on the CPU; None takes the GPU unless `model.device` is "cpu".
        has_kernels: on the CPU, whether compiled kernels are there (`heron doctor` says).
    """
    if prompt_tokens < 1:
        raise ConfigError(f"prompt_tokens must be at least 1, but it is {prompt_tokens}. Give the length of the longest prompt.")
    place = device or (HOST if config.model.device == "cpu" else GPU)
    job = Job(
        config=config, shape=read_shape(model), base=read_base(config.model, model, bytes_per_weight), prompt_tokens=prompt_tokens,
        place=place, tile_bytes=tile_bytes or (CUDA_TILE_BYTES if place == GPU else CPU_TILE_BYTES), has_kernels=has_kernels,
    )
    evaluation = config.evaluation
    rows = [
        *_resident(job), *_loaded(job),
        *sampled(job, SAMPLE, prompts=config.train.prompts_per_step, siblings=config.rollout.num_generations),
        *_scored(job), *trained(job), *asleep(job, TRAIN),
        *(sampled(job, EVALUATION, prompts=evaluation.size, siblings=max(evaluation.samples, 1)) if evaluation.size else []),
    ]
    return Plan(
        rows=tuple(one for one in rows if one.bytes), parameters=job.shape.parameters, trainable_parameters=job.trained,
        is_exact=job.shape.is_exact, device=place,
    )


def _resident(job: Job) -> list[Row]:
    """What is there from the first step on."""
    model, place = job.config.model, job.place
    count = "" if job.shape.is_exact else ", counted as if it were Llama"
    weights = job.base.bytes_of(job.shape)
    rows = [row("weights", weights, ALWAYS, f"{job.base.note(job.shape)}{count}", place=place,
                formula="V D (1 or 2) + L x (linear layers, norms, biases) + D weights")]
    if job.is_lora:
        adapter = f"{job.trained:,} weights in float32"
        rows.append(row("adapter", job.trained * 4, ALWAYS, adapter, place=place, formula="4 L r x sum of (inputs + outputs)"))
        if model.adapter is not None and job.config.objective.beta > 0:
            rows.append(row("reference adapter", job.trained * 4, ALWAYS, "the start, frozen, for the KL (beta > 0)", place=place,
                            formula="as the adapter"))
    elif job.config.objective.beta > 0:
        rows.append(row("reference copy", weights, ALWAYS, "the start, frozen, for the KL (beta > 0)", place=place,
                        formula="as the weights"))
    return rows + _state(job)


def _state(job: Job) -> list[Row]:
    """The optimizer's state, which may leave the GPU while answers are sampled and scored."""
    name = job.config.train.optimizer
    size = optimizers.state_bytes(name, job.tensors(), job.weight)
    note, formula = f"{name}, of {job.trained:,} weights", optimizers.formula(name)
    if not (job.config.train.offload_optimizer and job.on_gpu):
        return [row("optimizer state", size, ALWAYS, note, place=job.place, formula=formula)]
    there = row("optimizer state", size, TRAIN, note, place=GPU, formula=formula)
    away = replace(there, note=f"{note}, moved here", place=HOST)
    return [there, *(replace(away, phase=phase) for phase in (SAMPLE, SCORE, EVALUATION))]


def _loaded(job: Job) -> list[Row]:
    """The model as it is read, tensor by tensor, from files that are mapped into memory: on a CPU a tensor stays where it is mapped, unless
    its type is changed."""
    weights, whole = job.base.bytes_of(job.shape), job.shape.parameters * job.base.read
    largest = max(job.shape.embedding, job.base.largest_layer(job.shape)) * job.base.read
    changes = bool(job.base.kind) or job.base.read != job.element
    rows = [row("weights, being read", weights + (largest if changes else 0), LOAD, "and one tensor as it was in the file" if changes else
                "tensor by tensor", place=job.place, formula="the weights, and a tensor whose type is changed")]
    if job.base.kind and not job.on_gpu:
        rows.append(row("mapped file", whole, LOAD, "until the tensors that are not quantised are copied out of it", place=HOST,
                        formula="weights x bytes in the file"))
    elif changes and not job.on_gpu:
        rows.append(row("mapped file", min(whole, SHARD), LOAD, "one shard; the system takes it back when it needs memory", place=HOST,
                        formula="the smaller of a shard and the checkpoint"))
    return rows


def _scored(job: Job) -> list[Row]:
    """Old log-probs, where the engine's are not the trainer's and the weights will have moved before they are needed."""
    objective, engine = job.config.objective, job.config.rollout.engine
    if engine == "native" or objective.num_iterations * objective.num_minibatches == 1:
        return asleep(job, SCORE)
    size, note = scored(job)
    work = row("scoring workspace", size, SCORE, note, place=job.place, formula="T x (a layer without gradients + 2 D e)")
    return [work, *asleep(job, SCORE)]
