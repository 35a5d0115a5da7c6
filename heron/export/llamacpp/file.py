"""A GGUF file of a model: written, read again with the package's own reader, and compared.

The one hard idea: the file is read by what it says, not by what was meant. Every tensor must be what its type can hold of the weight, the
run's prompts must become the same tokens by the file's own words, and then the weights go from the file back into the model, whose
answers say what the file is worth. Tensors are written and read one after the other, so only one is held in float32 at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heron.errors import ConfigError, ModelError, did_you_mean
from heron.export.llamacpp.families import family_of
from heron.export.llamacpp.library import gguf
from heron.export.llamacpp.quantizing import find_tool, quantize
from heron.export.llamacpp.reading import encoder_of
from heron.export.llamacpp.settings import Settings, put_settings, settings_of
from heron.export.llamacpp.tensors import Entry, entries_of
from heron.export.llamacpp.types import BY_TOOL, QUANTIZATIONS, is_within, type_of
from heron.export.llamacpp.vocabulary import vocabulary_of
from heron.models import Policy

FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file that was read again."""

    path: Path
    """Of the file."""
    types: Mapping[str, int]
    """How many tensors have each of GGUF's types."""
    is_exact: bool
    """Every weight of the file is the model's own, without rounding."""
    notes: tuple[str, ...]
    """What its user should know."""


def check_gguf(policy: Policy, quantization: str) -> None:
    """An error, before time is spent, if this model cannot be written so."""
    check_quantization(quantization)
    family = family_of(policy.text_config)
    _settings(policy, quantization, "model")
    entries_of(_causal(policy), family)


def check_quantization(quantization: str) -> None:
    """An error if there is no such quantisation, or not on this machine."""
    if quantization not in QUANTIZATIONS:
        raise ConfigError(f"quantization must be one of {', '.join(QUANTIZATIONS)}, but it is {quantization!r}."
                          f"{did_you_mean(quantization, QUANTIZATIONS)}")
    gguf()
    if quantization in BY_TOOL:
        find_tool(quantization)


def write_gguf(policy: Policy, path: Path, *, quantization: str, name: str, prompts: Sequence[str]) -> Written:
    """Write the policy's weights and words, read the file, and leave its weights in the policy: answers are now the file's.

    Args:
        policy: without an adapter. Its weights become those of the file.
        path: of the file to write.
        quantization: one of `QUANTIZATIONS`.
        name: of the model, for people.
        prompts: rendered, which must become the same tokens by the file's own words.

    Raises:
        ModelError: llama.cpp cannot compute this model, or the file holds something else than was meant.
    """
    check_gguf(policy, quantization)
    model, entries = _causal(policy), entries_of(_causal(policy), family_of(policy.text_config))
    settings, extras = _settings(policy, quantization, name)
    if quantization in BY_TOOL:
        wide = path.with_suffix(".f32.gguf")
        _write(wide, model, entries, settings, extras, "f32")
        quantize(wide, path, quantization)
        wide.unlink()
    else:
        _write(path, model, entries, settings, extras, quantization)
    file = gguf().GGUFReader(path)
    _check_words(file, policy, prompts)
    types, is_exact = _read_back(file, model, entries, extras)
    return Written(path=path, types=types, is_exact=is_exact, notes=_notes(policy, settings, types, quantization))


def _causal(policy: Policy) -> Any:
    assert not policy.is_lora, "an adapter is merged before it is written as GGUF"
    return policy.model


def _settings(policy: Policy, quantization: str, name: str) -> tuple[Settings, dict[str, Tensor]]:
    package, family = gguf(), family_of(policy.text_config)
    rows = int(policy.model.get_input_embeddings().weight.shape[0])
    kind = package.LlamaFileType[FILE_TYPES.get(quantization, "ALL_F32")]
    settings, extras = settings_of(policy.text_config, family, context=policy.context_length, vocabulary=rows)
    words = vocabulary_of(policy.tokenizer, policy.end_ids, rows, adds_bos=_begins_with_bos(policy))
    general = {"general.architecture": family.arch, "general.type": "model", "general.name": name, "general.file_type": int(kind),
               "general.quantization_version": int(package.GGML_QUANT_VERSION)}
    return general | settings | words.settings(), extras


def _begins_with_bos(policy: Policy) -> bool:
    bos = policy.tokenizer.bos_token_id
    return bos is not None and policy.render([{"role": "user", "content": "a"}])[0] == bos


def _write(
    path: Path, model: Any, entries: Sequence[Entry], settings: Settings, extras: Mapping[str, Tensor], quantization: str
) -> None:
    package = gguf()
    writer = package.GGUFWriter(path, settings["general.architecture"])
    put_settings(writer, {key: value for key, value in settings.items() if key != "general.architecture"})
    weights = dict(model.named_parameters())
    kinds: dict[str, Any] = {}
    shapes = {entry.name: _shape(entry, weights) for entry in entries} | {name: tuple(extra.shape) for name, extra in extras.items()}
    for name, shape in shapes.items():
        kinds[name] = package.GGMLQuantizationType[type_of(name, shape, quantization)]
        block, size = package.GGML_QUANT_SIZES[kinds[name]]
        writer.add_tensor_info(name, shape, np.dtype(np.float32), int(np.prod(shape)) // block * size, raw_dtype=kinds[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for entry in entries:
        writer.write_tensor_data(_packed(entry.name, entry.written(weights[entry.source]), kinds[entry.name]))
    for name, extra in extras.items():
        writer.write_tensor_data(_packed(name, extra, kinds[name]))
    writer.close()


def _shape(entry: Entry, weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    shape = tuple(weights[entry.source].shape)
    return shape if entry.half is None else (shape[0], shape[1] // 2, *shape[2:])


def _packed(name: str, values: Tensor, kind: Any) -> Any:
    array = np.ascontiguousarray(values.numpy())
    if kind.name == "F16" and float(np.abs(array).max()) > float(np.finfo(np.float16).max):
        raise ModelError(f"{name} holds {float(np.abs(array).max()):.3g}, beyond the largest float16, 65504. Choose bf16 or f32.")
    return gguf().quants.quantize(array, kind)


def _check_words(file: Any, policy: Policy, prompts: Sequence[str]) -> None:
    template = file.get_field("tokenizer.chat_template").contents()
    if template != policy.tokenizer.chat_template:
        raise ModelError(f"The chat template in the file is not the model's: it begins with {template[:80]!r}. Nothing was exported.")
    encode = encoder_of(file)
    for prompt in prompts:
        ours, theirs = list(policy.encode(prompt)), encode(prompt)
        if ours != theirs:
            at = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), min(len(ours), len(theirs)))
            raise ModelError(f"llama.cpp would read a prompt of this run as other tokens than it was trained on, from token {at} on "
                             f"({theirs[at:at + 6]} instead of {ours[at:at + 6]}): {prompt[:200]!r}. Nothing was exported; export with "
                             "--format hf.")


@torch.no_grad()
def _read_back(
    file: Any, model: Any, entries: Sequence[Entry], extras: Mapping[str, Tensor]
) -> tuple[dict[str, int], bool]:
    """Compare every tensor with what was meant, and put it into the model."""
    weights, read = dict(model.named_parameters()), {tensor.name: tensor for tensor in file.tensors}
    if read.keys() != {entry.name for entry in entries} | extras.keys():
        raise ModelError(f"The file holds other tensors than were written: {sorted(read)[:5]} ... Nothing was exported.")
    types: dict[str, int] = {}
    is_exact = True
    for name, extra in extras.items():
        _compare(read[name], extra)
    for entry in entries:
        kind, wanted = read[entry.name].tensor_type.name, entry.written(weights[entry.source])
        got = _compare(read[entry.name], wanted)
        types[kind] = types.get(kind, 0) + 1
        is_exact = is_exact and torch.equal(got, wanted)
        entry.restore(weights[entry.source], got)
    return types, is_exact


def _compare(tensor: Any, wanted: Tensor) -> Tensor:
    """The tensor's numbers; ModelError if they are not what its type can hold of those wanted."""
    got = gguf().quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    kind = tensor.tensor_type.name
    if got.shape != tuple(wanted.shape) or not is_within(wanted.numpy(), got, kind):
        raise ModelError(f"{tensor.name}, read back from the file, is not the weight that was written as {kind}. Nothing was exported.")
    return torch.from_numpy(np.ascontiguousarray(got))


def _notes(policy: Policy, settings: Settings, types: Mapping[str, int], quantization: str) -> tuple[str, ...]:
    notes = []
    context = settings[f"{settings['general.architecture']}.context_length"]
    own = int(getattr(policy.text_config, "max_position_embeddings", 0) or 0)
    if own > context:
        notes.append(f"The file names a context of {context} tokens instead of {own}: beyond it llama.cpp would compute another model.")
    if quantization == "q8_0" and types.get("F16"):
        notes.append(f"{types['F16']} tensors stay in f16: their rows are no multiple of 32.")
    return tuple(notes)
