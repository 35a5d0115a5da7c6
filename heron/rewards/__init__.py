"""Rewards: verifiers decide whether an answer is right, reward functions give a number, a rubric adds the numbers up.

A reward function is a plain function that names the arguments it wants (see `heron.rewards.calling`). The built-in
ones are in `arithmetic`, `format`, `gsm8k` and `proximity`. Nothing here loads torch.
"""

from heron.rewards import arithmetic, format, gsm8k, proximity
from heron.rewards.answers import Parts, answer_text, parts
from heron.rewards.format import follows_format
from heron.rewards.numbers import bare_number, last_number, number, only_number
from heron.rewards.resolving import BUILT_IN, load_functions, resolve, resolve_verifier
from heron.rewards.rubric import Rubric, check_reference
from heron.rewards.verifying import Verdict, Verifier, reward, verdict, verifiers

__all__ = [
    "BUILT_IN",
    "Parts",
    "Rubric",
    "Verdict",
    "Verifier",
    "answer_text",
    "arithmetic",
    "bare_number",
    "check_reference",
    "follows_format",
    "format",
    "gsm8k",
    "last_number",
    "load_functions",
    "number",
    "only_number",
    "parts",
    "proximity",
    "resolve",
    "resolve_verifier",
    "reward",
    "verdict",
    "verifiers",
]
