"""Records what TRL's own `_compute_loss` says, into `trl_1_16.safetensors`. Run by hand, with TRL 1.16 installed:

    python tests/objective/record_trl.py

The real method runs, with the log-probs and entropies of `combinations.py` in the place of a model's. The off-policy ratio is made as
TRL's `_generate_and_score_completions` makes it. The tests read the file, and ask TRL itself for a few rows of it again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from combinations import (
    ADVANTAGES,
    CLIP_MAX,
    GENERATION_TOKENS,
    MAX_COMPLETION_LENGTH,
    MICRO_BATCHES,
    MINIBATCHES,
    Combination,
    combinations,
    draw_inputs,
    masks,
    tool_masks,
    trained,
)
from torch import Tensor

RECORD = Path(__file__).parent / "trl_1_16.safetensors"


def trl_loss(combination: Combination, inputs: dict[str, Tensor]) -> tuple[float, Tensor, Tensor]:
    """The loss of one optimizer step, and its gradients `[2, 4, WIDTH]` with respect to log-probs and entropies."""
    logprobs, entropy = inputs["logprobs"].clone().requires_grad_(), inputs["entropy"].clone().requires_grad_()
    trainer = _trainer(combination)
    losses = []
    for batch in range(MICRO_BATCHES):
        trainer._get_per_token_logps_and_entropies = lambda *_, at=batch, **__: (logprobs[at], entropy[at], None)
        losses.append(trainer._compute_loss(None, _batch(combination, inputs, batch)))
    if combination.loss == "rloo":  # divided outside, by transformers
        losses = [loss / MICRO_BATCHES for loss in losses]
    loss = torch.stack(losses).sum()
    loss.backward()
    return float(loss.detach()), logprobs.grad, torch.zeros_like(entropy) if entropy.grad is None else entropy.grad


def _trainer(combination: Combination) -> Any:
    """A TRL trainer that was never built: its methods, and the attributes that they read."""
    kind = _class(combination.loss)
    trainer = object.__new__(kind)
    settings = combination.settings
    trainer.__dict__.update(
        args=SimpleNamespace(steps_per_generation=MINIBATCHES * MICRO_BATCHES, use_bias_correction_kl=combination.use_bias_correction,
                             **settings),
        accelerator=SimpleNamespace(
            num_processes=1, sync_gradients=False, gather=lambda x: x, gather_for_metrics=lambda x: x,
            reduce=lambda x, **_: x, pad_across_processes=lambda x, **_: x,
        ),
        model=SimpleNamespace(training=True), current_gradient_accumulation_steps=MICRO_BATCHES, aux_loss_enabled=False,
        loss_type=combination.loss, importance_sampling_level=combination.level, beta=combination.beta,
        epsilon_low=settings["epsilon"], epsilon_high=settings["epsilon_high"], max_completion_length=MAX_COMPLETION_LENGTH,
        off_policy_mask_threshold=combination.opsm, top_entropy_quantile=combination.quantile,
        use_vllm=combination.correction != "none", vllm_importance_sampling_correction=combination.correction != "none",
        entropy_coef=combination.entropy_coef, use_adaptive_entropy=False, _entropy_bonus_enabled=combination.entropy_coef != 0.0,
        _metrics={"train": defaultdict(list)},
    )
    return trainer


def _class(loss: str) -> type:
    if loss == "rloo":
        from trl import RLOOTrainer

        return RLOOTrainer
    if loss == "gmpo":
        from trl.experimental.gmpo import GMPOTrainer

        return GMPOTrainer
    from trl import GRPOTrainer

    return GRPOTrainer


def _batch(combination: Combination, inputs: dict[str, Tensor], batch: int) -> dict[str, Tensor]:
    mask = masks()[batch]
    ids = torch.zeros(mask.shape, dtype=torch.int64)
    made = {
        "prompt_ids": ids[:, :2], "prompt_mask": torch.ones_like(ids[:, :2]), "completion_ids": ids, "completion_mask": mask.long(),
        "tool_mask": tool_masks()[batch].long(), "advantages": torch.tensor(ADVANTAGES[batch], dtype=torch.float64),
        "num_items_in_batch": torch.tensor(GENERATION_TOKENS), "ref_per_token_logps": inputs["reference"][batch],
    }
    if not combination.on_policy:
        made["old_per_token_logps"] = inputs["old"][batch]
    if combination.loss == "rloo":
        made["completion_mask"] = trained()[batch].long()
        made["old_logps"] = (inputs["old"][batch] * made["completion_mask"]).sum(1)
    if combination.correction != "none":
        made["sampling_per_token_logps"] = inputs["sampler"][batch]
        made["importance_sampling_ratio"] = _ratio(combination.correction, inputs, batch)
    return made


def _ratio(correction: str, inputs: dict[str, Tensor], batch: int) -> Tensor:
    gap = torch.nan_to_num((inputs["old"][batch] - inputs["sampler"][batch]) * trained()[batch], nan=0.0)
    level, bound = correction.split("_")
    ratio = torch.exp(gap.sum(-1, keepdim=True) if level == "sequence" else gap)
    cap = CLIP_MAX[correction]
    return ratio.clamp(max=cap) if bound == "truncate" else ratio.masked_fill(ratio > cap, 0.0)


def record() -> None:
    """Write inputs, options, losses and gradients of the whole grid."""
    from safetensors.torch import save_file

    inputs, grid, where = draw_inputs(), combinations(), trained()
    answers = [trl_loss(combination, inputs) for combination in grid]
    tensors = {
        **inputs,
        "loss": torch.tensor([loss for loss, _, _ in answers], dtype=torch.float64),
        "gradient": torch.stack([gradient[where] for _, gradient, _ in answers]),
        "entropy_gradient": torch.stack([entropy[where] for _, _, entropy in answers if entropy.any()]),
    }
    import trl

    save_file(tensors, RECORD, metadata={"trl": trl.__version__, "combinations": json.dumps([repr(each) for each in grid])})


if __name__ == "__main__":
    record()
