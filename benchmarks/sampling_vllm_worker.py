"""vLLM's side of `benchmarks.sampling`, run by vLLM's own Python: `python sampling_vllm_worker.py MODEL DTYPE`.

Reads one round a line from standard input and answers with its useful tokens and seconds, both as JSON; the first line says which vLLM
it is. It imports nothing of this repository, since its environment is another one. What it leaves out: log-probs, which would cost it time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def main(model: str, dtype: str) -> None:
    """Answer rounds until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to the log
    import vllm

    # eager: its compiled mode was slower on a CPU for models of this size
    engine = vllm.LLM(model=model, dtype=dtype, enforce_eager=True, max_model_len=1024, enable_prefix_caching=True, seed=0)
    answer({"version": vllm.__version__}, answers)
    for line in sys.stdin:
        answer(sample(engine, json.loads(line)), answers)


def sample(engine: Any, asked: dict[str, Any]) -> dict[str, float]:
    """One round: the siblings of a prompt are one request, so that they share its keys and values."""
    from vllm import SamplingParams

    params = SamplingParams(
        n=asked["siblings"], temperature=1.0, top_p=1.0, top_k=0, max_tokens=asked["max_tokens"], seed=None, ignore_eos=True,
        stop_token_ids=asked["ends"], detokenize=False,
    )
    prompts = [{"prompt_token_ids": prompt} for prompt in asked["prompts"]]
    wall, cpu = time.perf_counter(), time.process_time()
    outputs = engine.generate(prompts, params, use_tqdm=False)
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return {"tokens": sum(len(one.token_ids) for output in outputs for one in output.outputs), **seconds}


def answer(value: dict[str, Any], answers: Any) -> None:
    """As a line."""
    answers.write(json.dumps(value) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
