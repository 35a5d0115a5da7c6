"""Judges: rewards that a language model gives, for what no program can check.

`protocol` (what a judge is), `client` (any OpenAI-compatible server), `limits` (rate, spend, outages), `cache` (answers on disk), `prompt`
(how it is asked), `criteria` (what it is asked, and how its answer is read), `asking` (cache, first try, repair), `scoring` (the reward
function), `grading` (graders that ask), `seat` (who is asked). A judge in this process, from a model folder or the run's own start, is
`heron.training.judging`.
"""

from heron.rewards.judge.client import HttpJudge
from heron.rewards.judge.criteria import Criterion, Sheet, load_sheet
from heron.rewards.judge.protocol import Judge
from heron.rewards.judge.scoring import JudgeReward, judge_reward

__all__ = ["Criterion", "HttpJudge", "Judge", "JudgeReward", "Sheet", "judge_reward", "load_sheet"]
