"""The model section: which weights are trained, how much of them, and in how much memory.

Nothing is clamped: a setting that could do nothing where it stands is an error that says what to leave out.
"""

from __future__ import annotations

from dataclasses import dataclass

from heron.config.checks import check_finite, one_of, require

EMBEDDED = "embedded"
"""The model name that means: build and warm up the small default model, no download."""

DTYPES = ("auto", "float32", "bfloat16")
METHODS = ("full", "lora", "qlora")
QUANTIZATIONS = ("nf4", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Which weights are trained, and how much of them."""

    name: str = EMBEDDED
    """A local folder in Hugging Face format, a hub id, or `embedded` for the small built-in model."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    dtype: str = "auto"
    """`auto` keeps the checkpoint's own dtype; else `float32` or `bfloat16` (float16 needs loss scaling, which is not done)."""
    device: str = "auto"
    """`auto` takes CUDA when there is one, else the CPU; or a torch device such as `cuda:0`."""
    chat_template: str | None = None
    """Name of a built-in template, for a base model that has none of its own (see `heron.data.templates`)."""
    method: str = "full"
    """`full` trains every weight; `lora` trains a low-rank adapter and freezes the rest; `qlora` does so on a base of 4 (or 8) bits."""
    adapter: str | None = None
    """Folder of a trained adapter to start from, in PEFT's layout: of `heron warmup RECIPE --out DIR`, or of a run. A KL is measured
    from it."""
    lora_rank: int = 16
    """Rank of the adapter."""
    lora_alpha: int = 32
    """The adapter's output is scaled by `lora_alpha / lora_rank`."""
    lora_dropout: float = 0.0
    """Dropout on the adapter's input while training. Must be 0: sampler and trainer would otherwise disagree."""
    lora_target_modules: tuple[str, ...] = ()
    """Module names to adapt, such as `q_proj`. Empty: every linear layer but the head."""
    use_rslora: bool = False
    """Scale the adapter's output by `lora_alpha / sqrt(lora_rank)` instead: steadier at high ranks (arXiv 2312.03732)."""
    use_dora: bool = False
    """Train the length of each row of a weight apart from its direction (DoRA, arXiv 2402.09353): slower, often better at low ranks."""
    quantization: str = "nf4"
    """Of the base under `qlora`: `nf4` (4 bits, arXiv 2305.14314) or `int8` (8 bits, a scale for each row), of the weights alone, so
    that sampler and trainer compute the same. A checkpoint that is quantised already keeps its own."""
    double_quantization: bool = True
    """Quantise the scales of `nf4` too: 0.37 bits a weight less."""
    quantization_exceptions: tuple[str, ...] = ()
    """Linear layers that keep 16 bits under `qlora`, by the end of their names, such as `down_proj` or `layers.0.mlp.up_proj`."""
    quantization_keep: float = 0.0
    """Share of the linear weights that may keep 16 bits under `qlora`: the layers whose output 4 bits change most, as measured on a few
    samples. 0: none. 0.1 makes the base about a third larger."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about 30 % slower, far less memory."""
    offload: str = "auto"
    """Where the layer inputs that `gradient_checkpointing` keeps wait for the backward pass: `on` in the host's memory, `off` on the GPU,
    `auto` in the host's where there is a GPU. On a CPU they are there already."""
    tiled_mlp: int = 0
    """Compute MLPs, and norms, over so many tokens at a time, forward and backward: for very long sequences. 0: all at once."""

    def __post_init__(self) -> None:
        check_finite("model", self)
        one_of("model.method", self.method, METHODS)
        one_of("model.dtype", self.dtype, DTYPES)
        one_of("model.quantization", self.quantization, QUANTIZATIONS)
        one_of("model.offload", self.offload, ("auto", "on", "off"))
        require(self.lora_rank >= 1, "model.lora_rank must be at least 1", self.lora_rank, "16 is a common choice.")
        require(self.lora_alpha >= 1, "model.lora_alpha must be at least 1", self.lora_alpha,
                 "At 0 the adapter does nothing; lora_rank or twice lora_rank is common.")
        require(self.lora_dropout == 0.0, "model.lora_dropout must be 0", self.lora_dropout,
                 "With dropout the trainer's log-probs differ from the sampler's, so the ratio would not start at 1.")
        require(0 <= self.quantization_keep < 1, "model.quantization_keep must lie in [0, 1)", self.quantization_keep,
                "It is a share of the linear weights; 0 keeps none of them in 16 bits.")
        require(self.quantization_keep == 0 or self.quantization == "nf4", "model.quantization_keep measures what nf4 changes",
                self.quantization_keep, f"Leave it out: model.quantization is {self.quantization!r}, which changes far less.")
        require(self.tiled_mlp >= 0, "model.tiled_mlp must not be negative", self.tiled_mlp, "0 computes all tokens at once.")
        require(self.offload != "on" or self.gradient_checkpointing, "model.offload = 'on' moves what gradient checkpointing keeps",
                self.offload, "Set model.gradient_checkpointing = true, or leave model.offload out.")
        self._check_reach()

    @property
    def has_adapter(self) -> bool:
        """An adapter is trained, and the rest is frozen."""
        return self.method in ("lora", "qlora")

    @property
    def recomputes(self) -> bool:
        """The backward pass computes something again, for which modules must be in training mode."""
        return self.gradient_checkpointing or self.tiled_mlp > 0

    def _check_reach(self) -> None:
        """Settings of one method are errors under another, where they could do nothing."""
        variants = [name for name in ("use_rslora", "use_dora") if getattr(self, name)]
        require(self.has_adapter or not variants, f"model.{' and model.'.join(variants)} shape an adapter", self.method,
                "Set model.method to lora or qlora, or leave them out.")
        require(self.has_adapter or self.adapter is None, "model.adapter is of use to model.method = 'lora' or 'qlora'", self.method,
                "Set the method, or name the folder of a whole model in model.name.")
        plain = ModelConfig.__dataclass_fields__
        quantised = [name for name in ("quantization", "double_quantization", "quantization_exceptions", "quantization_keep")
                     if getattr(self, name) != plain[name].default]
        require(self.method == "qlora" or not quantised, f"model.{' and model.'.join(quantised)} belong to model.method = 'qlora'",
                self.method, "Set the method, or leave them out.")
        require(self.quantization == "nf4" or self.double_quantization, "model.double_quantization is of use to nf4 alone",
                self.double_quantization, "Leave it out.")
