"""Lessons: small experiments that show how reinforcement learning works, one a file, each over in seconds on one core.

The one hard idea: nothing is acted. A lesson has a tiny policy (a table, or a few weights) in the place of a language model, and Heron's
own rewards, advantages and losses work on it. So what a lesson shows is what a run does, and a lesson can fail.
"""
