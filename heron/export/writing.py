"""A run's model as a folder for others to use: a Hugging Face model, the adapter alone, or a GGUF file.

The one hard idea: an export is not trusted because it was written but because it was read again. Whatever the format, what was written is
loaded as anybody would load it, and its greedy answers to the run's own questions are compared with those of the trained model. Only then
does the folder get its name.

Left out: bases that were only ever quantised, and uploading, which `pushing` does when it is asked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError

from heron.config import ModelConfig
from heron.errors import ConfigError, RunError, did_you_mean
from heron.export.agreement import Agreement, compare
from heron.export.card import model_card
from heron.export.llamacpp import QUANTIZATIONS, check_quantization, write_gguf
from heron.export.modelfile import modelfile
from heron.export.naming import public, title_of
from heron.export.trained import Trained, load_trained, merged, require
from heron.export.using import DIFFER
from heron.models import Policy, load_policy
from heron.models.adapters import TRAINED
from heron.models.of_run import config_of
from heron.models.policy import no_bars
from heron.models.standing_in import original_of
from heron.run import Run

DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An export that was read again."""

    folder: Path
    """Where it is."""
    agreement: Agreement
    """How alike it answers."""
    notes: tuple[str, ...] = ()
    """What its user should know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What a format wrote."""

    agreement: Agreement
    what: str
    """The weights, for the card."""
    notes: tuple[str, ...] = ()


def export(
    run_dir: str | Path, out: str | Path, *, format: str = "hf", dtype: str | None = None, quantization: str | None = None
) -> Exported:
    """Write the run's trained model into the new folder `out`, and check it.

    Args:
        run_dir: a run with a trained model.
        out: folder to make; must not exist, or be empty.
        format: `hf` for a Hugging Face model, the adapter merged; `adapter` for the adapter alone, in PEFT's layout; `gguf` for a file that
            llama.cpp reads, and a Modelfile for Ollama.
        dtype: of the weights of `hf`: `bfloat16` (the default), `float16` or `float32`.
        quantization: of the weights of `gguf`: `f32`, `f16`, `bf16`, `q8_0` (the default), or one that llama.cpp's own tool makes.

    Raises:
        ModelError: the written model answers otherwise than the trained one, where rounding cannot be the reason; `out` is not made.
    """
    run, target = Run(run_dir), Path(out).resolve()
    write = _choose(run, format, dtype, quantization)
    partial = _begin(target)
    try:
        trained = load_trained(run)
        content = write(trained, partial)
        card = model_card(trained, format=format, what=content.what, agreement=content.agreement, notes=content.notes)
        (partial / "README.md").write_text(card, encoding="utf-8")
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        raise RunError(f"The export to {target} failed: {error}. Nothing was exported; make room, or name another folder.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(folder=Path(out), agreement=content.agreement, notes=content.notes)


def _begin(target: Path) -> Path:
    """The folder beside the target that gets its name in the end."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunError(f"{target} exists and is not empty. Name a new folder to export to.")
    if target.is_mount() or target == Path.cwd():
        raise RunError(f"{target} cannot be replaced by the finished export: it is "
                       f"{'where a disk is mounted' if target.is_mount() else 'the current folder'}. Name a new folder inside it.")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise RunError(f"There can be no folder {target}: {error}. Name another one.") from error
    return partial


Write = Callable[[Trained, Path], _Content]


def _choose(run: Run, format: str, dtype: str | None, quantization: str | None) -> Write:
    """What writes this format, and an error for options that it has not."""
    if format not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, but it is {format!r}.{did_you_mean(format, FORMATS)}")
    if dtype is not None and format != "hf":
        raise ConfigError(f"dtype {dtype!r} is of use to the format hf alone, and the format is {format}. Leave it out"
                          + ("; quantization says how a GGUF file holds its weights." if format == "gguf" else "."))
    if quantization is not None and format != "gguf":
        raise ConfigError(f"quantization {quantization!r} is of use to the format gguf alone. Add --format gguf, or leave it out.")
    return FORMATS[format](run, dtype, quantization)


def _hf(run: Run, dtype: str | None, quantization: str | None) -> Write:
    wanted = dtype or DTYPES[0]
    if wanted not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, but it is {wanted!r}.{did_you_mean(wanted, DTYPES)}")

    def write(trained: Trained, folder: Path) -> _Content:
        whole, cast = merged(trained), getattr(torch, wanted)
        held = str(whole.dtype).removeprefix("torch.")
        _round(whole, cast)
        meant = trained.answers_of(whole)
        with no_bars():
            whole.model.to(cast).save_pretrained(folder)
        trained.policy.tokenizer.save_pretrained(folder)
        del whole
        here = ModelConfig(name=str(folder), device=trained.config.model.device)
        answers = trained.answers_of(load_policy(replace(here, dtype=held), trained.config.tags))
        require(compare(meant, answers), "The exported model")
        if held != wanted:  # as others load it
            answers = trained.answers_of(load_policy(here, trained.config.tags))
        return _Content(agreement=compare(trained.expected, answers), what=f"Weights in {wanted}.")

    return write


@torch.no_grad()
def _round(policy: Policy, cast: torch.dtype) -> None:
    """Let every weight be what it will be in the file, in the type that it is held in: then the file must answer just like it."""
    for tensor in policy.model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(cast))


def _adapter(run: Run, dtype: str | None, quantization: str | None) -> Write:
    config = config_of(run)
    if not config.model.has_adapter:
        raise ConfigError(f"{run.path} trained every weight (model.method = {config.model.method!r}), so there is no adapter. Export with "
                          "--format hf or gguf.")

    def write(trained: Trained, folder: Path) -> _Content:
        base, revision = _base_of_adapter(trained)
        lora = trained.policy.model.peft_config[TRAINED]
        lora.base_model_name_or_path, lora.revision = base, revision
        trained.policy.save(folder)
        read = load_policy(trained.config.model, trained.config.tags, source=run.start_model, adapter=folder, reference=False,
                           kept=run.manifest.get("quantization_kept"))
        agreement = trained.agreement_with(read)
        require(agreement, "The exported adapter")
        return _Content(agreement=agreement, what=f"The adapter alone, in PEFT's layout, for `{public(base)}`.",
                        notes=_about_base(base))

    return write


def _base_of_adapter(trained: Trained) -> tuple[str, str | None]:
    """What the adapter is to be put on, and its commit: a hub id wherever that has the same weights, else a folder."""
    start, original = trained.run.start_model, original_of(trained.run.start_model)
    if original is not None and original.same_weights:
        return original.name, original.revision
    return start if Path(start).is_dir() else trained.config.model.name, trained.run.manifest.get("model_revision")


def _about_base(base: str) -> tuple[str, ...]:
    is_here = Path(base).is_dir()
    return (f"The adapter's base is a folder of the machine that trained it, {public(base)}: whoever uses the adapter needs a copy, and "
            "its place as base_model_name_or_path in adapter_config.json.",) if is_here else ()


def _about_systems(trained: Trained) -> tuple[str, ...]:
    """Where a Modelfile can hold none."""
    return (f"{DIFFER}: the Modelfile has none.",) if len(trained.systems) > 1 else ()


def _gguf(run: Run, dtype: str | None, quantization: str | None) -> Write:
    wanted = quantization or "q8_0"
    check_quantization(wanted)

    def write(trained: Trained, folder: Path) -> _Content:
        whole = merged(trained)
        before = trained.answers_of(whole)
        prompts = [trained.policy.render_text(messages) for messages in trained.asked]
        file = write_gguf(whole, folder / f"model-{wanted}.gguf", quantization=wanted, name=title_of(run, trained.config),
                          prompts=prompts)
        answers = trained.answers_of(whole)  # the policy has the file's weights now
        if file.is_exact:
            require(compare(before, answers), "The model in the GGUF file")
        ollama = modelfile(trained.policy, trained.config, file.path.name, system=trained.system,
                           longest_prompt=max(map(len, trained.prompts)))
        if ollama.text is not None:
            (folder / "Modelfile").write_text(ollama.text, encoding="utf-8")
        kinds = ", ".join(f"{count} tensors in {kind}" for kind, count in sorted(file.types.items()))
        return _Content(agreement=compare(trained.expected, answers), what=f"A GGUF file for llama.cpp, {wanted}: {kinds}.",
                        notes=(*file.notes, *ollama.notes, *_about_systems(trained)))

    return write


FORMATS = {"hf": _hf, "adapter": _adapter, "gguf": _gguf}

__all__ = ["DTYPES", "FORMATS", "QUANTIZATIONS", "Exported", "export"]
