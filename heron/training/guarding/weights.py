"""Weights of a checkpoint put back into the model that is being trained, in place: the optimizer and the engine hold on to its tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from heron.config.schema import Config
from heron.models import load_policy
from heron.models.adapters import TRAINED
from heron.models.policy import Policy


@torch.no_grad()
def put_back(policy: Policy, config: Config, checkpoint: Path) -> None:
    """What was saved of the model: its adapter, or all of it, which is read into the host's memory first."""
    folder = checkpoint / "model"
    if policy.is_lora:
        from peft import load_peft_weights, set_peft_model_state_dict

        set_peft_model_state_dict(policy.model, load_peft_weights(str(folder), device=str(policy.device)), adapter_name=TRAINED)
        return
    saved = load_policy(replace(config.model, device="cpu"), config.tags, source=str(folder)).model
    known = dict(saved.named_parameters())
    for name, weight in policy.model.named_parameters():
        weight.copy_(known[name])
