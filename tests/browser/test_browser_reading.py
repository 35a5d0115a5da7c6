"""Reading is not disturbed: by news, by a resumed run, by long texts, by going elsewhere and coming back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import recorded
from browsing import PHONE, settled
from recorded import begin, record, write_step

from heron.run import RunWriter
from heron.types import Rollout

Visit = Callable[..., Any]
STEP = "() => Number(document.querySelector('#head .progress b')?.textContent.replace('step ', ''))"
OPEN = "() => [...document.querySelectorAll('.alert')].map((one) => one.open)"
SICK = {
    "reward": 1.0, "reward_std": 0.0, "rewards/f/mean": 1.0, "rewards/f/std": 0.0, "groups/with_signal": 0.0, "frac_reward_zero_std": 1.0,
    "completions/clipped_ratio": 0.9, "time/step": 1.0, "pass@1": 0.1, "groups/mixed": 0.0, "groups/all_wrong": 0.9,
    "groups/all_right": 0.1,
}  # fmt: skip


def test_alerts_stay_as_the_reader_left_them_while_the_run_goes_on(visit: Visit, runs: Path) -> None:
    """Each step opens again what was closed, closes what was opened, and takes the focus away."""
    writer = begin(runs / "sick", steps=100)
    for step in range(1, 31):
        writer.log(step, SICK)
    page = visit("sick", "now")
    page.wait_for_selector(".alert >> nth=1")
    assert page.evaluate(OPEN)[:2] == [True, False], "the gravest is open by itself"
    page.locator(".alert summary").nth(0).click()
    page.locator(".alert summary").nth(1).focus()
    page.keyboard.press("Enter")
    titles = page.locator(".alert summary").all_inner_texts()
    for step in (31, 32):
        writer.log(step, SICK)
    page.wait_for_function(f"() => ({STEP})() === 32")
    page.wait_for_timeout(300)
    assert page.locator(".alert summary").all_inner_texts() == titles and page.evaluate(OPEN)[:2] == [False, True]
    assert page.evaluate("document.activeElement.textContent") == page.locator(".alert summary").nth(1).text_content()
    writer.close()


def test_groups_of_steps_that_were_taken_back_make_room_for_those_that_came_instead(visit: Visit, runs: Path) -> None:
    """One reads a group of step 8 of a run that is back at step 4, and the list under `step 4` shows those of step 8."""
    first = begin(runs / "back")
    for step in range(1, 9):
        write_step(first, step)
    first.close()
    page = visit("back", "groups", "?step=8")
    before = page.inner_text(".list")
    again = RunWriter.reopen(runs / "back", last_step=4)
    page.wait_for_function("() => document.querySelector('.steps output').textContent === 'step 4 of 4'")
    page.wait_for_function("() => document.querySelector('.found').textContent.includes('in step 4')")
    page.wait_for_function("before => document.querySelector('.list').innerText !== before", arg=before)
    for step in range(5, 9):
        write_step(again, step, rate=1e-5)
    page.wait_for_function("() => document.querySelector('.steps output').textContent === 'step 4 of 8'")
    assert "in step 4" in page.inner_text(".found"), "what is read stays"
    again.close()


def test_a_long_answer_is_cut_in_its_chip_and_folded_below_until_one_asks(visit: Visit, runs: Path) -> None:
    """One answer of a model that found no end fills the screen, and what it was paid for is far above."""
    long = "word " * 2000
    record(runs / "long", steps=1, texts=[long])
    page = visit("long", "groups", "?step=1")
    answer = page.locator(".sibling", has_text="all 10\u202f000 characters").first
    assert len(answer.locator(".facts").inner_text()) < 400 and answer.bounding_box()["height"] < 500
    answer.locator(".facts").get_by_role("button", name="all 10").click()
    assert long.strip() in answer.locator(".facts").inner_text()
    answer.locator(".facts").get_by_role("button", name="less").click()
    assert len(answer.locator(".facts").inner_text()) < 400
    assert len(answer.locator("pre").text_content()) < 1300, "what is not seen is not laid out, which takes a browser minutes"
    answer.locator("pre + button").click()
    assert answer.locator("pre").bounding_box()["height"] > 400


def test_of_many_turns_the_first_and_the_last_stand_and_the_others_come_when_asked_for(visit: Visit, runs: Path, monkeypatch: Any) -> None:
    """Eight answers of ten turns each: one scrolls for minutes to see how they ended."""
    plain = recorded._rollout
    said = tuple({"role": ("assistant", "user")[number % 2], "content": f"turn {number}"} for number in range(10))

    def talked(*given: Any, **more: Any) -> Rollout:
        one = plain(*given, **more)
        return dataclasses.replace(one, turns=one.turns * 5, messages=(*one.prompt.messages, *said))

    monkeypatch.setattr(recorded, "_rollout", talked)
    record(runs / "turns", steps=1)
    page = visit("turns", "groups", "?step=1")
    one = page.locator(".sibling").first
    assert one.locator("pre:visible").all_inner_texts() == ["turn 0", "turn 1", "turn 8", "turn 9"]
    one.get_by_role("button", name="show the 6 turns between").click()
    assert one.locator("pre:visible").count() == 10 and page.evaluate("document.activeElement.textContent") == "turn 2"


def test_what_was_searched_for_survives_another_screen_and_a_reload(visit: Visit) -> None:
    """One looks up a number beside, and begins the search again."""
    page = visit("good", "explain")
    page.get_by_label("find a number").fill("gradient")
    found = page.locator(".metric:visible").count()
    page.click("#tab-groups")
    settled(page, "groups")
    page.click("#filter-wrong")
    page.fill(".groups input[type=search]", "carry")
    page.wait_for_url("**search=carry**")
    page.click("#tab-explain")
    settled(page, "explain")
    assert page.input_value("[aria-label='find a number']") == "gradient" and page.locator(".metric:visible").count() == found
    page.reload()
    settled(page, "explain")
    assert page.input_value("[aria-label='find a number']") == "gradient" and page.locator(".metric:visible").count() == found
    page = visit("good", "groups", "?filter=wrong&search=carry")
    page.click("#tab-now")
    settled(page, "now")
    page.click("#tab-groups")
    settled(page, "groups")
    assert page.get_attribute("#filter-wrong", "aria-pressed") == "true" and page.input_value(".groups input[type=search]") == "carry"


def test_many_runs_to_compare_are_folded_behind_a_search(visit: Visit, runs: Path) -> None:
    """Forty chips push the comparison off the screen of a phone."""
    for number in range(12):
        begin(runs / f"many-{number}").close()
    page = visit("good", "compare", "?with=slow", size=PHONE)
    page.wait_for_function("() => document.querySelectorAll('.others label').length >= 12")
    assert page.locator(".picker").bounding_box()["height"] < 160
    page.click(".rest summary")
    page.get_by_label("find a run").fill("many-7")
    assert page.locator(".others label:visible").all_inner_texts() == ["many-7"]
    page.get_by_label("many-7", exact=True).check()
    page.wait_for_function("() => document.querySelectorAll('.chosen label').length === 3")
    assert page.input_value("[aria-label='find a run']") == "many-7" and page.locator(".rest").get_attribute("open") is not None
    widths = page.evaluate("[...document.querySelectorAll('.key-name')].map((one) => one.getBoundingClientRect().height)")
    assert widths and max(widths) < 30, "no key is broken"
