"""Published memory figures, rebuilt: the arithmetic behind them, and the page that shows them."""

from __future__ import annotations

import re

import pytest

from heron.memory import plan, read_shape
from heron.memory.guide import ANSWERS, CAPS, CONTEXT, PROMPT, longest_context, tables, thrifty
from heron.memory.published import HEADLINE, LLAMA_8B, SIZES, STANDARD_LINE, UNSLOTH_LINE, Size
from tests.memory.guide_page import PAGE, PLACE, rendered

TOKENS = ANSWERS * CONTEXT


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_the_models_of_the_table_are_the_public_ones(size: Size) -> None:
    """Prevents: a row for a model that does not exist: every config.json gives the number of weights that its checkpoint holds."""
    assert read_shape(size.model).parameters == size.parameters


def test_published_figures_come_out_of_their_formulas() -> None:
    """Prevents: a rebuilt table that does not build what was published."""
    shape = read_shape(LLAMA_8B)
    logits = 2 * 2 * TOKENS * shape.vocabulary / 2**30
    assert (round(logits, 1), round(logits / 8, 1)) == (HEADLINE["logits"].standard, HEADLINE["logits"].unsloth)
    assert round(shape.parameters * 2 / 1e9) == HEADLINE["engine"].standard
    assert 2 * 2 * shape.layers * shape.key_width * CONTEXT / 2**30 == HEADLINE["cache"].standard
    for (base, slope), published in ((STANDARD_LINE, HEADLINE["training"].standard), (UNSLOTH_LINE, HEADLINE["training"].unsloth)):
        assert base + TOKENS * slope / 2**30 == pytest.approx(published, abs=0.6)
    parts = [published for name, published in HEADLINE.items() if name != "total"]
    assert sum(part.standard for part in parts) == pytest.approx(HEADLINE["total"].standard, abs=0.1)
    assert sum(part.unsloth for part in parts) == pytest.approx(HEADLINE["total"].unsloth, abs=0.05)


def test_the_slope_of_the_standard_run_is_explained() -> None:
    """Prevents: an anatomy whose parts do not add up to what was published."""
    total = re.search(r"\| sum \|.*?\*\*([\d.]+)\*\*", tables()["slope"])
    assert total is not None and float(total[1]) == pytest.approx(STANDARD_LINE[1] / 2**20, rel=0.005)


def test_the_page_shows_what_the_code_makes() -> None:
    """Prevents: figures on the page that the planner does not give any more. Write them anew: python -m tests.memory.guide_page"""
    page = PAGE.read_text()
    assert {name for name, _ in PLACE.findall(page)} == tables().keys()
    assert page == rendered(page)


def test_heron_plans_the_headline_job_far_below_both() -> None:
    """Prevents: a second copy of the weights, or whole logits, that come back into the plan unseen."""
    made = plan(thrifty(method="qlora", context=CONTEXT), LLAMA_8B, prompt_tokens=PROMPT)
    assert made.peak / 2**30 < HEADLINE["total"].unsloth / 2


def test_the_longest_context_is_the_longest() -> None:
    """Prevents: an interval that is halved to the wrong side."""
    cap = 40 * 2**30
    found = longest_context("lora", cap)

    def peak(context: int) -> int:
        return plan(thrifty(method="lora", context=context), LLAMA_8B, prompt_tokens=PROMPT).peak

    assert peak(found) <= cap < peak(found + 64)


def test_longer_contexts_need_more() -> None:
    """Prevents: caps in the wrong order, and goals that nobody looks at."""
    found = [longest_context("qlora", cap * 2**30) for cap in CAPS]
    assert found == sorted(found)
