"""Bytes of activations per packed token: what autograd keeps of a layer, and what a layer needs while it runs.

The counts are of the tensors that a layer saves under Heron's packed attention, one by one (D hidden, F MLP width, A = heads x head_dim,
K = key heads x head_dim, e bytes of an activation):

    norm      4 D for its float32 input, and e D for the normalised one if its weight is trained; in a recording, or tiled, its
              input alone, e D
    qk norm   the same with A + K in place of D
    linear    its input, if it is trained or adapted; once for those that share it. On a 16-bit base DoRA makes a float32 copy for every
              adapted layer, and so does a recording, which has PEFT's own adapters
    adapter   4 rank per adapted layer; with DoRA the layer's output too, and in float32 the adapter's
    MLP       3 e F: the gate before and after its activation, and up; in a recording 2 e F, the activation being computed again
    experts   for each that computes a token: its input and output, e 2 D, and e 5 F; an estimate
    attention e (2 A + 2 K) + 4 heads for queries, keys, values, output and the logsumexp; a prompt that siblings share counts once. The
              output is what the linear layer behind it reads: where that keeps its input too, it is one tensor. In float32, rows that
              share nothing are copied into grids, which takes 8 + A e more, and the output twice

A recording is what runs on a CPU with compiled kernels (`heron.models.recording`), modules what runs elsewhere. For Llama-3.1-8B in
bfloat16, full fine-tuning, modules keep 49 D a token and layer, of which the MLP is 28 D. A tiled MLP keeps its input and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from heron.memory.shapes import Shape

_READERS = {
    "attention": ("q_proj", "k_proj", "v_proj", "qkv_proj"),
    "attention_output": ("o_proj",),
    "mlp": ("gate_proj", "up_proj", "gate_up_proj"),
    "mlp_output": ("down_proj",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A decoder layer as it runs in training."""

    shape: Shape
    """Of the model."""
    element: int
    """Bytes of an activation: 2 for 16 bits, 4 for float32."""
    rank: int | None
    """Of the LoRA adapter; None trains every weight."""
    targets: Collection[str] = ()
    """Names of the adapted linear layers."""
    use_dora: bool = False
    """The adapter is DoRA's."""
    is_recorded: bool = False
    """It runs from a recording, with compiled kernels."""
    on_cpu: bool = True
    """It runs on a CPU."""
    is_tiled: bool = False
    """Its norms and its MLP are computed over some tokens at a time, and keep their input alone."""
    shares_prompt: bool = True
    """Siblings share their prompt, so rows are not copied into grids."""

    @property
    def saved(self) -> float:
        """Bytes that autograd keeps, per packed token."""
        return self._norms() + self._attention() + self.saved_by_mlp

    @property
    def saved_by_mlp(self) -> float:
        """The part of them that a tiled MLP does not keep."""
        shape, element = self.shape, self.element
        if shape.experts:
            return shape.experts_per_token * element * (2 * shape.hidden + 5 * shape.intermediate) + 8 * shape.experts
        return (2 if self.is_recorded else 3) * element * shape.intermediate + self._inputs("mlp", "mlp_output") + self._adapters("mlp")

    @property
    def gradients(self) -> float:
        """Bytes of the gradients in flight while the backward pass of its MLP runs: product, act and up of the MLP, two hidden states,
        and, of modules, the float32 of two norms. Autograd frees the rest as it goes."""
        width = self.shape.intermediate * max(self.shape.experts_per_token, 1)
        norms = 0 if self._norms_keep_inputs else 8 * self.shape.hidden
        return self.element * (3 * width + 2 * self.shape.hidden) + norms

    @property
    def attention_gradients(self) -> float:
        """Bytes in flight while the backward pass of its attention runs: gradients of queries, keys and values, the output's, and two
        hidden states. Where attention is Heron's own, on a CPU, the first are float32 before they are in the type of the activations."""
        shape, element = self.shape, self.element
        both = element + (4 if self.on_cpu and element < 4 else 0)
        return both * (shape.query_width + 2 * shape.key_width) + element * (shape.query_width + 2 * shape.hidden)

    @property
    def saved_outside(self) -> float:
        """Bytes outside the layers: the final norm, its output, the rows of it that predict, their gradient, and angles of positions."""
        first = self.element if self._norms_keep_inputs else 4 + self.element
        return self.shape.hidden * (first + 3 * self.element) + 2 * self.shape.head_dim * self.element

    def _norms(self) -> float:
        shape = self.shape
        norm = self.element if self._norms_keep_inputs else 4 + (self.element if self.rank is None else 0)
        root = 0 if self._norms_keep_inputs else 4
        heads = norm * (shape.query_width + shape.key_width)
        roots = root * (2 if shape.qk_norm_is_wide else shape.heads + shape.kv_heads)
        return shape.norms * (norm * shape.hidden + root) + shape.qk_norm * (heads + roots)

    @property
    def _norms_keep_inputs(self) -> bool:
        """And nothing in float32."""
        return self.is_recorded or self.is_tiled

    def _attention(self) -> float:
        shape, element = self.shape, self.element
        A, K = shape.query_width, shape.key_width
        is_kept = self.rank is None or "o_proj" in self.targets
        copies = 0 if self.shares_prompt or element < 4 else 1
        outputs = 1 if self._widens else 2 * copies if is_kept else 1 + copies
        scores = element * ((1 + outputs) * A + 2 * K) + 4 * shape.heads + 8 * copies
        return scores + self._inputs("attention", "attention_output") + self._adapters("attention")

    def _inputs(self, *places: str) -> float:
        """What linear layers keep of what they read."""
        shape = self.shape
        widths = {"attention": shape.hidden, "attention_output": shape.query_width, "mlp": shape.hidden, "mlp_output": shape.intermediate}
        if self.rank is None:
            return float(self.element * sum(widths[place] for place in places))
        readers = {place: sum(name in self.targets for name in _READERS[place]) for place in places}
        if self._widens:
            return float(4 * sum(widths[place] * count for place, count in readers.items()))
        return float(self.element * sum(widths[place] for place, count in readers.items() if count))

    @property
    def _widens(self) -> bool:
        """Adapted layers keep what they read in float32, each a copy of its own."""
        return self.rank is not None and self.element < 4 and (self.use_dora or self.is_recorded)

    def _adapters(self, part: str) -> float:
        """The narrow middle of adapters, and what DoRA keeps to learn lengths."""
        if self.rank is None:
            return 0.0
        names = {name for place, group in _READERS.items() if place.startswith(part) for name in group}
        chosen = [self.shape.linears[name] for name in self.targets if name in names]
        lengths = sum((4 + self.element) * outputs for _, outputs in chosen) if self.use_dora else 0
        return 4.0 * self.rank * len(chosen) + lengths


def running_layer(shape: Shape, element: int) -> float:
    """Bytes per token that one layer needs without gradients: the larger of its two halves.

    MLP: residual, normalised input, three tensors of its width. Attention: the same two, queries, keys and values as made and
    as gathered, and the output.
    """
    mlp = 2 * shape.hidden + 3 * shape.intermediate * max(shape.experts_per_token, 1)
    attention = 2 * shape.hidden + 2 * (shape.query_width + 2 * shape.key_width) + shape.query_width
    return float(element * max(mlp, attention))
