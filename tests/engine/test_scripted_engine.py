"""The scripted engine keeps the contract of every engine, so what passes with it means something."""

from __future__ import annotations

from heron.engine import Engine, Request, SamplingParams, ScriptedEngine
from heron.types import FinishReason


def test_contract() -> None:
    """Completions in the order of requests and seeds; the limit cuts and says so; everything asked is remembered."""
    engine: Engine = ScriptedEngine(lambda prompt, sibling: (*prompt, sibling))
    asked = [Request(prompt_ids=(1, 2), seeds=(10, 11)), Request(prompt_ids=(3,), seeds=(12,))]
    with engine.awake():
        answers = engine.generate(asked, SamplingParams(max_tokens=2))
    assert [[a.token_ids for a in siblings] for siblings in answers] == [[(1, 2), (1, 2)], [(3, 0)]]
    assert [[a.finish_reason for a in siblings] for siblings in answers] == [[FinishReason.LENGTH] * 2, [FinishReason.STOP]]
    assert all(len(a.logprobs) == len(a.token_ids) for siblings in answers for a in siblings)
    assert isinstance(engine, ScriptedEngine)
    assert engine.requests == asked
    engine.sync()


def test_progress_is_reported() -> None:
    """Prevents: a view that waits for ever for an engine which never says that it is done."""
    seen: list[tuple[int, int]] = []
    ScriptedEngine(lambda prompt, sibling: [5]).generate(
        [Request(prompt_ids=(1,), seeds=(0, 1))], SamplingParams(max_tokens=2), on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1:] == [(2, 2)]
