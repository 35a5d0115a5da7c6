"""Bytes while answers are sampled: keys and values, logits, and one pass over prompts.

The one hard idea: the native engine keeps a prompt's pages once for all siblings, whereas transformers' `generate` has a row of its own for
each. On a GPU pages are allocated before they are used; on a CPU a page takes memory when it is written, so only tokens count that are.
Left out: what vLLM takes on top of weights and keys.
"""

from __future__ import annotations

from heron.memory.activations import running_layer
from heron.memory.job import Job
from heron.memory.table import GPU, HOST, Row, in_gib, row

PAGE, CHUNK = 32, 4096  # tokens of a page of the engine's cache, and of one forward pass over prompts
CACHE_FORMULA = "pages x 32 tokens x L layers x K key width x (bytes of a key + bytes of a value)"


def sampled(job: Job, phase: str, *, prompts: int, siblings: int) -> list[Row]:
    """Rows of a phase in which every prompt is answered so many times, as many at once as may be."""
    rollout = job.config.rollout
    if rollout.vllm_url is not None:
        return []
    rows = min(rollout.max_concurrent, prompts * siblings)
    cache = _generated(job, phase, rows) if rollout.engine == "hf" else _paged(job, phase, rows, siblings)
    name, size, note = max(_work(job, rows, siblings), key=lambda one: one[1])
    work = row("sampling workspace", size, phase, note, place=job.place, formula=name)
    return [cache, work, *_copies(job, phase)]


def _paged(job: Job, phase: str, rows: int, siblings: int) -> Row:
    """Pages if no completion ends early."""
    shape, rollout, prompt = job.shape, job.config.rollout, job.prompt_tokens
    per_token = shape.layers * shape.key_width * (_key_bytes(job) + job.element)
    prompts = -(-rows // siblings)
    shared, own = prompts * -(-prompt // PAGE), rows * (-(-rollout.max_completion_length // PAGE) + 1)
    if not job.on_gpu:  # of the page where a prompt ends every sibling has a copy; the last token is never computed
        shared, own = prompts * -(-prompt // PAGE), rows * -(-(prompt % PAGE + rollout.max_completion_length - 1) // PAGE)
    size = (shared + own) * PAGE * per_token
    note = f"{shared:,} pages of prompts and {own:,} of {rows} completions, {PAGE} tokens each, {shape.layers} layers"
    if rollout.cache_gib and size > rollout.cache_gib * 2**30:
        bound = int(rollout.cache_gib * 2**30)
        size, note = bound, f"rollout.cache_gib; {in_gib(size)} would let all {rows} completions run at once"
    return row("key-value cache", size, phase, note, place=job.place, formula=CACHE_FORMULA)


def _generated(job: Job, phase: str, rows: int) -> Row:
    """A row for each answer, prompt included, and one layer's keys and values a second time while a token is appended."""
    shape, length = job.shape, job.prompt_tokens + job.config.rollout.max_completion_length - 1
    layer = 2 * rows * length * shape.key_width * job.element
    note = f"{rows} rows of {length:,} tokens, {shape.layers} layers, and one more where a token is appended"
    return row("key-value cache", (shape.layers + 1) * layer, phase, note, place=job.place, formula="2 rows (P + R) K e (L + 1)")


def _work(job: Job, rows: int, siblings: int) -> list[tuple[str, float, str]]:
    """What comes and goes, one after the other: a pass over prompts, and logits."""
    shape, is_plain = job.shape, job.config.rollout.engine == "hf"
    prompts = rows if is_plain else -(-rows // siblings)
    tokens = prompts * job.prompt_tokens if is_plain else min(CHUNK, prompts * job.prompt_tokens)
    copies = 4 + (job.element if job.element < 4 else 0) + (8 if is_plain else 0)
    unpacked = job.base.largest_layer(shape) * job.element
    return [
        ("tokens x a layer without gradients", tokens * running_layer(shape, job.element) + unpacked,
         f"one layer of {tokens:,} prompt tokens"),
        ("rows x V x bytes of a logit", rows * shape.vocabulary * copies, f"logits [{rows}, {shape.vocabulary}]"),
    ]


def _copies(job: Job, phase: str) -> list[Row]:
    """The second copy of the weights that a vLLM in this process holds."""
    if job.config.rollout.engine != "vllm":
        return []
    size = job.base.bytes_of(job.shape)
    return [row("weights of vLLM", size, phase, "a second copy while it is awake", place=job.place, formula="the weights once more")]


def asleep(job: Job, phase: str) -> list[Row]:
    """Where that copy is while the trainer trains: in the host's memory. The CPU build does not sleep."""
    rollout = job.config.rollout
    if rollout.engine != "vllm" or rollout.vllm_url is not None:
        return []
    note = "vLLM sleeps" if job.place == GPU else "the CPU build of vLLM does not sleep"
    return [row("weights of vLLM", job.base.bytes_of(job.shape), phase, note, place=HOST, formula="the weights once more")]


def _key_bytes(job: Job) -> int:
    """A CPU keeps keys in float32, whatever the model's type is."""
    return job.element if job.on_gpu else max(4, job.element)
