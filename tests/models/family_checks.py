"""What it takes for a family to work under a method: four comparisons with the saved model in plain transformers (and PEFT).

The one hard idea: everything is compared with what was *saved*, read by transformers alone, with eager attention and padded rows. So what
is sampled, what is trained, its gradient and its file are all the same model, or some comparison fails.
"""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import torch
from naive import TEMPERATURE, Textbook, difference, heron_gradient, weighing
from tinymodels import TAGS, as_sampled, load_tiny, ragged_groups, random_ids, stir_adapter
from transformers import BitsAndBytesConfig

from heron.config.schema import ObjectiveConfig
from heron.engine import NativeEngine, Request, SamplingParams
from heron.kernels.attention import packed_plan
from heron.models import Policy
from heron.training.batch import pack
from heron.training.samples import make_samples

NEW = 10
LENGTHS = (9, 1, 14, 3, 22)
"""Of the prompts: longer than windows and than the original contexts of stretched rotations."""
MOST_GAP = 5e-4
"""Between a gradient in float32 and one in float64, relative: weights are drawn wide, so rounding grows from layer to layer."""
SLOTS = 2
"""Completions in the making at once: the others wait, and come in beside rows that are further on."""


QUANTISED: dict[str, dict[str, Any]] = {"qlora": {"quantization_config": BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
)}}
"""The base of the comparison is read in 4 bits, and then multiplied as what those stand for."""


def check_method(folder: Path, method: str, scratch: Path) -> None:
    """Raises an AssertionError if anything of the model differs from what transformers makes of it."""
    torch.manual_seed(0)
    policy = load_tiny(folder, method=method, **({} if method == "full" else {"lora_rank": 4}))
    assert policy.is_quantized == (method in QUANTISED)
    stir_adapter(policy)
    policy.save(scratch)
    plain = Policy(reloaded(folder, scratch, method), policy.tokenizer, tags=TAGS, source=str(scratch))
    check_greedy(policy, plain)
    check_training(policy, plain)


def reloaded(folder: Path, scratch: Path, method: str) -> Any:
    """What was saved, without Heron."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if method == "full":
        return AutoModelForCausalLM.from_pretrained(scratch, attn_implementation="eager")
    base: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **QUANTISED.get(method, {}))
    return PeftModel.from_pretrained(base.dequantize() if method in QUANTISED else base, str(scratch), is_trainable=True)


def check_greedy(policy: Policy, plain: Policy) -> None:
    """Ragged prompts in few slots say what `generate` says about each alone."""
    draw = random.Random(0)
    requests = [Request(prompt_ids=random_ids(draw, length), seeds=(0,)) for length in LENGTHS]
    answers = NativeEngine(policy, max_concurrent=SLOTS).generate(requests, SamplingParams(max_tokens=NEW, temperature=0))
    for request, (answer,) in zip(requests, answers, strict=True):
        ids = torch.tensor([request.prompt_ids])
        output = plain.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False,
            eos_token_id=sorted(policy.end_ids), pad_token_id=0,
        )
        assert answer.token_ids == tuple(output[0, ids.shape[1] :].tolist()), f"another answer to {len(request.prompt_ids)} tokens"


def check_training(policy: Policy, plain: Policy) -> None:
    """Packed log-probs and the gradient of one step are those of padded rows, full logits and float64."""
    groups, objective = ragged_groups(3), ObjectiveConfig()
    textbook = Textbook(plain, groups)
    known = as_sampled(groups, [logp for logp, _ in textbook.seen], gap=0.0)
    (batch,) = pack(make_samples(known, weighing(objective, keep_all=True)), budget=1 << 20, device=policy.device)
    with torch.no_grad():
        hidden = policy.hidden(batch.token_ids, batch.positions, batch.plan)
        logp, _ = policy.logprobs(hidden[0, batch.where], batch.targets, temperature=TEMPERATURE)
    torch.testing.assert_close(logp, batch.sampler_logprobs, rtol=0, atol=1e-4)
    ours, _, _ = heron_gradient(policy, groups, objective)
    theirs = textbook.gradient(objective)
    assert (gap := difference(ours, theirs)) < MOST_GAP, f"the gradient is off by {gap:.1e}"


def is_recorded(folder: Path) -> bool:
    """The forward pass runs on the CPU as a recording; one that computes something else raises an AssertionError."""
    policy = load_tiny(folder)
    tokens = torch.tensor([random_ids(random.Random(1), 20)])
    asked = (tokens, torch.arange(20)[None], packed_plan([range(20)], device=policy.device))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that it runs module by module
        if (replay := policy.recorder.replay()) is None:
            return False
        seen, wanted = replay(*asked).float(), policy.forward(*asked).float()
    gap = float((seen - wanted).norm() / wanted.norm())
    assert gap < (1e-5 if policy.dtype is torch.float32 else 1e-2), f"the recording is off by {gap:.1e}"
    return True
