"""Rewards: verifiers decide whether an answer is right, reward functions give a number, a rubric adds the numbers up.

A reward function is a plain function that names the arguments it wants (see `heron.rewards.calling`). The built-in
ones are in a file for each task, such as `gsm8k` and `email`. Nothing here loads torch.
"""

from heron.rewards import arithmetic, code, email, format, gsm8k, json_schema, language, proximity, shaping, similarity
from heron.rewards.answers import Parts, answer_text, parts, said
from heron.rewards.calling import takes_away
from heron.rewards.format import follows_format
from heron.rewards.graders import grader, load_grader
from heron.rewards.judge import judge_reward
from heron.rewards.numbers import bare_number, last_number, number, only_number
from heron.rewards.resolving import BUILT_IN, load_functions, name_and_settings, resolve, resolve_verifier
from heron.rewards.rubric import Rubric, check_reference, for_task
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
    "code",
    "email",
    "follows_format",
    "for_task",
    "format",
    "grader",
    "gsm8k",
    "json_schema",
    "judge_reward",
    "language",
    "last_number",
    "load_functions",
    "load_grader",
    "name_and_settings",
    "number",
    "only_number",
    "parts",
    "proximity",
    "resolve",
    "resolve_verifier",
    "reward",
    "said",
    "shaping",
    "similarity",
    "takes_away",
    "verdict",
    "verifiers",
]
