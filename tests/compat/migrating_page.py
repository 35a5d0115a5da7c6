"""The table of options in docs/migrating.md, from the code. `python -m tests.compat.migrating_page` writes it there anew."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from heron.compat.notes import Kind, Note
from heron.compat.trl.config import OF_TRAINER, notes_on
from heron.compat.trl.fields import ABSENT, DIRECT
from heron.compat.trl.translating import KNOWN

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migrating.md"
PLACE = re.compile(r"<!-- table: options -->\n(.*?)\n<!-- end -->", re.DOTALL)
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "trl_1_16_grpo_config.json").read_text())

TRIED: dict[str, tuple[Any, ...]] = {
    "loss_type": ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "sapo", "vespo"), "scale_rewards": ("batch", "none", False),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"), "beta": (0.04,), "use_bias_correction_kl": (True, False),
    "optim": ("adamw_torch", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd"), "save_steps": (10, 0.5), "warmup_steps": (5,),
    "save_strategy": ("no", "steps", "epoch"), "save_total_limit": (None, 2), "per_device_train_batch_size": (16,), "use_cpu": (True,),
    "gradient_accumulation_steps": (2,), "steps_per_generation": (4,), "generation_batch_size": (16,), "top_p": (0.9,),
    "lr_scheduler_type": ("linear", "cosine", "constant", "polynomial"), "max_grad_norm": (0.5, 0.0),
    "activation_checkpointing": (True,), "data_seed": (42, 7), "warmup_ratio": (0.1,),
}
"""Values of options whose fate depends on them."""
REFUSED_IN_WORDS = {"data_seed": "a value other than `seed`'s"}
"""Values that are refused, where the one that was tried stands for others."""


def rendered(page: str) -> str:
    """The page with the table as the code makes it now."""
    return PLACE.sub(lambda _: f"<!-- table: options -->\n{table()}\n<!-- end -->", page)


def table() -> str:
    """A row for each field of TRL's."""
    rows = [f"| `{name}` | {status(name)} | {sentence(name)} |" for name in RECORDED]
    return "\n".join(["| option | | what becomes of it |", "|---|---|---|", *rows])


def status(name: str) -> str:
    """`supported`, `differs` or `refused`; of an option of which some values are refused, which."""
    if name in OF_TRAINER or name in DIRECT:
        return "supported"
    if name in ABSENT:
        absent = ABSENT[name]
        return "supported" if {"True", "False"} <= {*map(repr, absent.off)} else "differs" if absent.is_harmless else "refused"
    kinds = {repr(value): note(name, value).kind for value in TRIED[name]}
    refused = [value for value, kind in kinds.items() if kind is Kind.UNSUPPORTED]
    if len(refused) == len(kinds):
        return "refused"
    word = "differs" if Kind.DIFFERS in kinds.values() else "supported"
    values = REFUSED_IN_WORDS.get(name, "`" + ", ".join(refused) + "`")
    return f"{word}; not {values}" if refused else word


def sentence(name: str) -> str:
    """What a person is told."""
    if name in OF_TRAINER:
        return OF_TRAINER[name]
    if name in DIRECT:
        return f"`{DIRECT[name]}`"
    if name in ABSENT:
        absent = ABSENT[name]
        return f"{absent.text} Without effect while `{absent.switch}` is off." if absent.switch else absent.text
    texts = [note(name, value) for value in TRIED[name]]
    chosen = next((each for each in texts if each.kind is Kind.DIFFERS), texts[0])
    return re.sub(r"^(\w+\.\w+) = ", r"`\1` = ", chosen.text)


def note(name: str, value: Any) -> Note:
    """As a trainer notes it."""
    others = {"loss_type": {"gradient_accumulation_steps": 2}, "use_bias_correction_kl": {"beta": 0.1}}.get(name, {})
    return next(made for made in notes_on({**others, name: value}) if made.field == name)


def known() -> set[str]:
    """Fields that something is said of."""
    return {*OF_TRAINER, *KNOWN}


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
