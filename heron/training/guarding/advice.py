"""The settings by which a run would take less memory here, cheapest first, as the planner finds them."""

from __future__ import annotations

from dataclasses import replace

import torch

from heron.config.schema import Config
from heron.errors import ModelError
from heron.memory.case import case_of, spelled
from heron.memory.devices import Device
from heron.memory.fitting import cheapest_changes
from heron.memory.seconds import element_of
from heron.memory.table import GPU, in_gib
from heron.training.cost import config_json
from heron.training.present import device_present
from heron.training.timing import resident


def cheapest_settings(config: Config, prompt_tokens: int, count: int = 3) -> str:
    """A sentence with up to `count` ways; why there is none for a model whose memory cannot be planned."""
    try:
        model = config_json(config)
        device = _whole(device_present(config.model.device, element=element_of(config, model)))
        case = case_of(config, model, prompt_tokens=prompt_tokens, device=device)
    except ModelError as error:
        return f"Which settings take less cannot be planned: {error}"
    found = [f"{spelled(change.settings)} ({in_gib(change.plan.peak)})" for change in cheapest_changes(case, count)]
    return f"Settings that take less than the {in_gib(case.plan.peak)} planned, the cheapest first: {'; '.join(found)}."


def _whole(device: Device) -> Device:
    """With what this process holds now: a run that begins anew would have it too."""
    held = torch.cuda.memory_allocated() if device.place == GPU else resident()
    return replace(device, memory=device.memory + held)
