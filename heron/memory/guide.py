"""The tables of docs/memory.md: published figures rebuilt from formulas, and the same jobs as Heron plans them. Planned, not measured.

The one hard idea: a published figure is believed where a formula gives it, and is said to have no derivation where none does; Heron's
figure beside it comes from the planner that every run is planned with, for settings that are written out. Left out: time.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from heron.config.model import ModelConfig
from heron.config.schema import Config, EvaluationConfig, RolloutConfig, TrainConfig
from heron.memory.case import CACHE
from heron.memory.changes import MLP_TILE
from heron.memory.planner import plan
from heron.memory.published import HEADLINE, LAYER_BYTES, LLAMA_8B, SIZES, STANDARD_LINE, UNSLOTH_LINE
from heron.memory.shapes import read_shape
from heron.memory.table import ALWAYS, SAMPLE, TRAIN, Plan

CONTEXT, ANSWERS, PROMPT = 20_480, 8, 480
"""Of the headline job: tokens of a prompt and its answer, answers, tokens of the prompt in that."""
SHORT_CONTEXT = 2_048
"""Of the table of least VRAM, which names none."""
RANK = 32
GOALS = {"qlora": 16, "lora": 22}
"""GiB that are hoped for, by method, for the headline job."""
CAPS = {8: 8_192, 16: 65_536, 24: 131_072}
"""GiB, and the context that is hoped for under them."""


def tables() -> dict[str, str]:
    """Markdown of every table, by the name that marks its place in the page."""
    return {
        "headline": _headline(), "slope": _slope(), "jobs": _jobs(), "contexts": _contexts(), "sizes": _sizes(),
    }


def thrifty(*, method: str, context: int, concurrent: int = 1, prompt: int = PROMPT) -> Config:
    """The job in the least memory: layers recomputed, their inputs in the host's memory, the MLP in tiles, one sequence a micro-batch,
    8-bit moments, and so many completions at once."""
    return Config(
        model=ModelConfig(
            method=method, lora_rank=RANK, gradient_checkpointing=True, offload="on", device="cuda",
            tiled_mlp=MLP_TILE if context > MLP_TILE else 0,
        ),
        rollout=RolloutConfig(num_generations=ANSWERS, max_completion_length=context - prompt, max_concurrent=concurrent),
        train=TrainConfig(prompts_per_step=1, micro_batch_tokens=1, optimizer="adamw_8bit"),
        evaluation=EvaluationConfig(size=0),
    )


def longest_context(method: str, cap: int) -> int:
    """Tokens of prompt and answer at most under `cap` bytes, by halving intervals: the plan grows with the context."""
    low, high = PROMPT + 32, 2**21
    while high - low > 32:
        middle = (low + high) // 2
        low, high = (middle, high) if _planned(thrifty(method=method, context=middle)).peak <= cap else (low, middle)
    return low


def _planned(config: Config, model: Mapping[str, Any] = LLAMA_8B) -> Plan:
    return plan(config, model, prompt_tokens=PROMPT)


def _headline() -> str:
    """Part by part: what was published, the formula that gives it, and Heron's plan for the same job."""
    made = [_planned(thrifty(method=method, context=CONTEXT)) for method in ("qlora", "lora")]
    weights, tiles, caches = ([_of(one, phase, name) for one in made]
                              for phase, name in ((ALWAYS, "weights"), (TRAIN, "tile"), (SAMPLE, CACHE)))
    rest = [one.peak_of(TRAIN, "gpu") - weight - tile for one, weight, tile in zip(made, weights, tiles, strict=True)]
    rows = [
        ("weights", "in training", "in training", "none given", *map(_gib, weights)),
        ("training", *_published("training"), f"{_line(STANDARD_LINE)}; {_line(UNSLOTH_LINE)}", *map(_gib, rest)),
        ("logits", *_published("logits"), _logits(), *map(_gib, tiles)),
        ("engine", *_published("engine"), _second_copy(), "0", "0"),
        ("cache", *_published("cache"), _key_values(), *map(_gib, caches)),
        ("total", *_published("total"), "the sum, with the cache of one answer", *(f"**{_gib(one.peak)}**" for one in made)),
    ]
    return _markdown(("part", "standard", "Unsloth", "formula", "Heron, 4 bits", "Heron, 16 bits"), rows)


def _line(line: tuple[float, float]) -> str:
    tokens, (base, slope) = ANSWERS * CONTEXT, line
    return f"{base:.3f} + {tokens:,} x {slope / 1024:,.1f} KiB = {base + tokens * slope / 2**30:.1f}"


def _logits() -> str:
    tokens, vocabulary = ANSWERS * CONTEXT, read_shape(LLAMA_8B).vocabulary
    both = 2 * 2 * tokens * vocabulary
    return f"2 copies x 2 B x {tokens:,} x {vocabulary:,} = {_gib(both)}; an eighth of it is {_gib(both / 8)}"


def _second_copy() -> str:
    weights = read_shape(LLAMA_8B).parameters
    return f"a second copy of the weights: {weights:,} x 2 B = {weights * 2 / 1e9:.2f} GB, which is {_gib(weights * 2)} GiB"


def _key_values() -> str:
    shape = read_shape(LLAMA_8B)
    one = 2 * 2 * shape.layers * shape.key_width * CONTEXT
    product = f"2 x 2 B x {shape.layers} x {CONTEXT:,} x {shape.key_width:,}"
    return f"{product} = {_gib(one)} for one answer, {_gib(ANSWERS * one)} for all {ANSWERS}"


def _slope() -> str:
    """What a token costs in the standard run: the anatomy of the straight line's 2.530 MiB."""
    shape = read_shape(LLAMA_8B)
    logits = 16 * shape.vocabulary
    kept = 2 * shape.layers * shape.hidden
    gradients = 2 * (3 * shape.intermediate + 2 * shape.hidden) + 8 * shape.hidden
    rows = [
        ("logits of the cross-entropy", f"16 B x {shape.vocabulary:,}: 16 bits forward and backward, float32 three times", _mib(logits)),
        ("inputs of the layers", f"2 B x {shape.layers} x {shape.hidden:,}", _mib(kept)),
        ("one layer, computed again", f"{LAYER_BYTES:,} B, measured on transformers' Llama with autograd", _mib(LAYER_BYTES)),
        ("its gradients", f"2 B x (3 x {shape.intermediate:,} + 2 x {shape.hidden:,}) + 8 B x {shape.hidden:,}", _mib(gradients)),
        ("sum", f"the line's slope is {STANDARD_LINE[1] / 2**20:.3f}", f"**{_mib(logits + kept + LAYER_BYTES + gradients)}**"),
    ]
    return _markdown(("of a token", "how", "MiB"), rows)


def _jobs() -> str:
    rows = []
    for method, concurrent in itertools.product(GOALS, (1, 2, 3, 4, 8)):
        made = _planned(thrifty(method=method, context=CONTEXT, concurrent=concurrent))
        peaks = [_gib(made.peak_of(phase, "gpu")) for phase in (SAMPLE, TRAIN)]
        verdict = "within" if made.peak <= GOALS[method] * 2**30 else "above"
        rows.append((f"`{method}`", str(concurrent), *peaks, f"**{_gib(made.peak)}**", _gib(made.host_peak), f"{verdict} {GOALS[method]}"))
    return _markdown(("method", "answers at once", "sampling", "training", "peak", "host", "goal, GiB"), rows)


def _contexts() -> str:
    rows = []
    for cap, goal in CAPS.items():
        found = [longest_context(method, cap * 2**30) for method in ("qlora", "lora")]
        host = _planned(thrifty(method="qlora", context=found[0])).host_peak
        rows.append((f"{cap}", f"{found[0]:,}", _gib(host), f"{goal:,}: {'reached' if found[0] >= goal else 'missed'}", _or_none(found[1])))
    return _markdown(("GiB", "`qlora`, tokens", "host, GiB", "goal", "`lora`, tokens"), rows)


def _or_none(context: int) -> str:
    return f"{context:,}" if context > PROMPT + 32 else "does not fit"


def _sizes() -> str:
    rows = []
    for size in SIZES:
        four, sixteen = (_planned(thrifty(method=method, context=SHORT_CONTEXT), size.model) for method in ("qlora", "lora"))
        rows.append((
            size.name, f"{size.parameters / 1e9:.2f}", f"{size.qlora:g}", _gib(four.peak), _gib(_of(four, ALWAYS, "weights")),
            "-" if size.lora is None else f"{size.lora:g}", _gib(sixteen.peak),
        ))
    heads = ("`qlora`, published GB", "Heron, GiB", "of that weights", "`lora`, published GB", "Heron, GiB")
    return _markdown(("model", "1e9 weights", *heads), rows)


def _of(made: Plan, phase: str, name: str) -> int:
    """Bytes on the GPU of the rows with this in their name."""
    return sum(row.bytes for row in made.rows if row.phase == phase and name in row.name and row.place == "gpu")


def _published(part: str) -> tuple[str, str]:
    return f"{HEADLINE[part].standard:g}", f"{HEADLINE[part].unsloth:g}"


def _gib(size: float) -> str:
    return f"{size / 2**30:,.2f}"


def _mib(size: float) -> str:
    return f"{size / 2**20:.3f}"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])
