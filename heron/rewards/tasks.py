"""The reward of generated tasks: each row says which verifier judges it, so that tasks can be mixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heron.errors import DataError, did_you_mean
from heron.rewards.answers import answer_text
from heron.rewards.verifying import Verdict, checks_row, verifiers
from heron.types import Tags


def check_verifier(columns: Mapping[str, Any]) -> None:
    """The row names a verifier that there is, and its reference can be read."""
    name = str(columns.get("verifier"))
    if name not in verifiers:
        raise DataError(f"Its column verifier says {name!r}.{did_you_mean(name, verifiers)} There are {', '.join(verifiers)}.")
    verifiers[name](str(columns["answer"]), str(columns["answer"]))


@checks_row(check_verifier)
def right(completion: str, answer: Any, verifier: str, tags: Tags, prefilled: str = "") -> float:
    """+1 if the row's own verifier says that the answer is right, else 0.

    | completion                                   | verifier, answer     | score |
    |----------------------------------------------|----------------------|-------|
    | `<SOLUTION>olleh</SOLUTION>`                 | `exact`, `olleh`     | 1     |
    | `<SOLUTION>(8 + 1) * 3</SOLUTION>`           | `countdown`, `27 from 3 8 1` | 1 |
    | `<SOLUTION>27</SOLUTION>`                    | `countdown`, `27 from 3 8 1` | 0 |
    | `olleh`, or no answer                        | `exact`, `olleh`     | 0     |
    """
    found = answer_text(completion, tags, prefilled)
    return float(found is not None and verifiers[verifier](found, str(answer)) is Verdict.RIGHT)
