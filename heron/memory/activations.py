"""Bytes of activations per packed token: what autograd keeps of a layer, and what a layer needs while it runs.

The counts are of the tensors that the modules of transformers save under Heron's packed attention, one by one (D hidden, F MLP
width, A = heads x head_dim, K = key heads x head_dim, e bytes of an activation):

    norm      4 D for its float32 input, and e D for the normalised one if its weight is trained
    qk norm   the same with A + K in place of D
    linear    its input, if it is trained; once for those that share it. An adapter is float32 and keeps its input in float32:
              on a 16-bit base that is a copy for every adapted layer, on a float32 one none
    adapter   4 rank per adapted layer
    MLP       3 e F: the gate before and after its activation, and up
    attention e (2 A + 2 K) + 4 heads for queries, keys, values, output and the logsumexp; a prompt that siblings share counts once. The
              output is what the linear layer behind it reads: where that keeps its input too, it is one tensor. In float32, rows that
              share nothing are copied into grids, which takes 8 + A e more, and the output twice; that is planned for all

For Llama-3.1-8B in bfloat16, full fine-tuning, that is 49 D a token and layer, of which the MLP is 28 D.
"""

from __future__ import annotations

from collections.abc import Collection

from heron.memory.shapes import Shape

_READERS = {
    "attention": ("q_proj", "k_proj", "v_proj", "qkv_proj"),
    "attention_output": ("o_proj",),
    "mlp": ("gate_proj", "up_proj", "gate_up_proj"),
    "mlp_output": ("down_proj",),
}


def saved_per_layer(shape: Shape, element: int, *, rank: int | None, targets: Collection[str] = ()) -> float:
    """Bytes that autograd keeps of one layer, per packed token.

    Args:
        shape: of the model.
        element: bytes of an activation: 2 for 16 bits, 4 for float32.
        rank: of the LoRA adapter; None trains every weight.
        targets: names of the adapted linear layers.
    """
    D, A, K = shape.hidden, shape.query_width, shape.key_width
    norm = 4 + (element if rank is None else 0)
    norms = shape.norms * (norm * D + 4)
    if shape.qk_norm:
        norms += norm * (A + K) + 4 * (shape.heads + shape.kv_heads)
    outputs = (0 if rank is None else 1) if element < 4 else 2
    attention = element * ((1 + outputs) * A + 2 * K) + 4 * shape.heads + (8 if element == 4 else 0)
    adapters = 0 if rank is None else 4 * rank * len(targets)
    return norms + attention + 3 * element * shape.intermediate + _linear_inputs(shape, element, rank, targets) + adapters


def _linear_inputs(shape: Shape, element: int, rank: int | None, targets: Collection[str]) -> int:
    widths = {"attention": shape.hidden, "attention_output": shape.query_width, "mlp": shape.hidden, "mlp_output": shape.intermediate}
    if rank is None:
        return element * sum(widths.values())
    readers = {place: sum(name in targets for name in names) for place, names in _READERS.items()}
    copies = readers if element < 4 else {place: min(count, 1) for place, count in readers.items()}
    return 4 * sum(widths[place] * count for place, count in copies.items())


def gradients_per_layer(shape: Shape, element: int) -> float:
    """Bytes of the gradients in flight while one layer's backward pass runs, per packed token: product, act and up of
    the MLP, two hidden states, and the float32 of two norms. An estimate: autograd frees them as it goes."""
    return element * (3 * shape.intermediate + 2 * shape.hidden) + 8 * shape.hidden


def running_layer(shape: Shape, element: int) -> float:
    """Bytes per token that one layer needs without gradients: the larger of its two halves.

    MLP: residual, normalised input, three tensors of its width. Attention: the same two, queries, keys and values as made and
    as gathered, and the output.
    """
    mlp = 2 * shape.hidden + 3 * shape.intermediate
    attention = 2 * shape.hidden + 2 * (shape.query_width + 2 * shape.key_width) + shape.query_width
    return element * max(mlp, attention)


def saved_outside_layers(shape: Shape, element: int) -> float:
    """Bytes per token outside the layers: the final norm, its output, the rows of it that predict, and their gradient."""
    return shape.hidden * (4 + 4 * element)
