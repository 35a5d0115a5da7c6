"""A run's model as one Hugging Face folder: weights in safetensors, tokenizer, chat template and model card.

The one hard idea: an export is not trusted because it was written but because it was read again. An adapter is merged in
float32 and must answer as it did unmerged; then the weights are cast once, the folder is loaded as anybody would load it, and its
greedy answers are compared with the run's own model. Only then does the folder get its name. An adapter that was trained on a base of
4 or 8 bits is added to the base of 16 bits, which it was quantised from: the answers may then part, and the card says how far.

Left out: bases that were only ever quantised, other formats than safetensors, uploading.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from heron.config import Config, ModelConfig
from heron.errors import ConfigError, ModelError, RunError, did_you_mean
from heron.export.agreement import TOLERANCE, Agreement, compare, conversations, greedy
from heron.export.card import model_card
from heron.models import Policy, load_policy
from heron.models.of_run import config_of, policy_of_run
from heron.run import Run
from heron.types import Message

DTYPES = ("bfloat16", "float16", "float32")


def export(run_dir: str | Path, out: str | Path, *, dtype: str = "bfloat16") -> Path:
    """Write the run's trained model into the new folder `out`, check it, and return the folder.

    Args:
        run_dir: a run with a trained model.
        out: folder to make; must not exist, or be empty.
        dtype: of the written weights: `bfloat16`, `float16` or `float32`.

    Raises:
        ModelError: the written model answers otherwise than the trained one, where rounding cannot be the reason; `out` is not made.
    """
    run, target = Run(run_dir), Path(out)
    _refuse(target, dtype)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(run, partial, dtype)
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _refuse(target: Path, dtype: str) -> None:
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, but it is {dtype!r}.{did_you_mean(dtype, DTYPES)}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunError(f"{target} exists and is not empty. Name a new folder to export to.")


def _write(run: Run, folder: Path, dtype: str) -> None:
    config = config_of(run)
    asked = conversations(run, config)
    trained = policy_of_run(run)
    expected = greedy(trained, asked, config.rollout.max_completion_length)
    trained_dtype = str(trained.dtype).removeprefix("torch.")
    model = _merged(run, config, asked) if trained.is_lora else trained.model
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    trained.tokenizer.save_pretrained(folder)
    written = load_policy(ModelConfig(name=str(folder), device=config.model.device), config.tags)
    agreement = compare(expected, greedy(written, asked, config.rollout.max_completion_length))
    if dtype == trained_dtype and (dtype == "float32" or not trained.is_lora) and not trained.is_quantized:
        _require(agreement, "The exported model")
    (folder / "README.md").write_text(model_card(run, config, dtype=dtype, agreement=agreement), encoding="utf-8")


def _merged(run: Run, config: Config, asked: list[list[Message]]) -> Any:
    """The base with the adapter added to its weights, in float32 whatever the base's dtype: the only rounding is the last cast."""
    wide = ModelConfig(name=config.model.name, device=config.model.device, chat_template=config.model.chat_template,
                       revision=config.model.revision, method="lora", dtype="float32")
    policy = load_policy(wide, config.tags, source=run.start_model, adapter=run.model_dir)
    if policy.is_quantized:
        raise ModelError(f"{policy.source} is quantised itself: there are no weights of 16 bits to add the adapter to. Use the adapter in "
                         f"{run.model_dir} on it as it is, or train on the checkpoint of 16 bits. Nothing was exported.")
    before = greedy(policy, asked, config.rollout.max_completion_length)
    merged = Policy(policy.model.merge_and_unload(), policy.tokenizer, tags=config.tags, source=policy.source)
    _require(compare(before, greedy(merged, asked, config.rollout.max_completion_length)), "The base with the adapter merged")
    return merged.model


def _require(agreement: Agreement, what: str) -> None:
    if agreement.gap > TOLERANCE:
        raise ModelError(f"{what} does not answer like the trained one: {agreement.sentence} Nothing was exported. "
                         "If this installation's transformers or peft is new, try the versions in the run's run.json.")
