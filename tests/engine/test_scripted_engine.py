"""The scripted engine keeps the contract of every engine, so what passes with it means something."""

from __future__ import annotations

from dataclasses import replace

from heron.engine import Engine, Request, SamplingParams, ScriptedEngine
from heron.types import FinishReason

ASKED = [Request(prompt_ids=(1, 2), seeds=(10, 11)), Request(prompt_ids=(3,), seeds=(12,))]
MOST = SamplingParams(max_tokens=9)


def counting(prompt: tuple[int, ...], sibling: int) -> tuple[int, ...]:
    """Three tokens for siblings 0, five for siblings 1."""
    return tuple(range(prompt[0], prompt[0] + 3 + 2 * sibling))


def test_contract() -> None:
    """Completions in the order of requests and seeds; the limit cuts and says so; everything asked is remembered."""
    engine: Engine = ScriptedEngine(lambda prompt, sibling: (*prompt, sibling))
    with engine.awake():
        answers = engine.generate(ASKED, SamplingParams(max_tokens=2))
    assert [[a.token_ids for a in siblings] for siblings in answers] == [[(1, 2), (1, 2)], [(3, 0)]]
    assert [[a.finish_reason for a in siblings] for siblings in answers] == [[FinishReason.LENGTH] * 2, [FinishReason.STOP]]
    assert all(len(a.logprobs) == len(a.token_ids) for siblings in answers for a in siblings)
    assert isinstance(engine, ScriptedEngine)
    assert engine.requests == ASKED
    engine.sync()


def test_progress_is_reported() -> None:
    """Prevents: a view that waits for ever for an engine which never says that it is done."""
    seen: list[tuple[int, int]] = []
    ScriptedEngine(lambda prompt, sibling: [5]).generate(
        [Request(prompt_ids=(1,), seeds=(0, 1))], SamplingParams(max_tokens=2), on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1:] == [(2, 2)]


def test_short_answers_finish_first() -> None:
    """Prevents: a stream that hands out in the order of requests, with which no test of overlap would mean anything."""
    rounds: list[tuple[int, int]] = []
    stream = ScriptedEngine(counting).stream(ASKED, MOST, on_token=lambda done, total: rounds.append((done, total)))
    assert rounds == [], "nothing is sampled before it is asked for"
    first = next(stream)
    assert (first.request, first.sibling, len(rounds)) == (0, 0, 3)
    assert [(one.request, one.sibling) for one in stream] == [(1, 0), (0, 1)]
    assert rounds[-1] == (3, 3)


def test_a_pause_keeps_what_was_said_and_newer_weights_go_on() -> None:
    """Prevents: a continued completion that begins anew, loses its old tokens, or does not say which weights said what."""
    engine = ScriptedEngine(counting)
    stream = engine.stream(ASKED, MOST)
    next(stream)
    rest = {(one.request, one.sibling): one.completion for one in stream.pause()}
    assert list(stream) == []
    assert {place: each.token_ids for place, each in rest.items()} == {(0, 1): (1, 2, 3), (1, 0): (3, 4, 5)}
    assert rest[0, 1].finish_reason is FinishReason.PAUSED
    assert rest[1, 0].finish_reason is FinishReason.STOP, "it had finished, and was not handed out yet"
    engine.version = 4
    ((more,),) = engine.generate([replace(ASKED[0], seeds=(11,), said=(rest[0, 1],))], MOST)
    assert more.token_ids[:3] == (1, 2, 3)
    assert more.versions[0] == (0, 3) and all(version == 4 for version, _ in more.versions[1:])


def test_a_pause_before_anything_was_asked() -> None:
    paused = ScriptedEngine(counting).stream(ASKED, MOST).pause()
    assert [(one.completion.token_ids, one.completion.finish_reason) for one in paused] == [((), FinishReason.PAUSED)] * 3
