"""docs/migrating.md says of every option of TRL's what the code does with it."""

from __future__ import annotations

import dataclasses
import re

from tests.compat.migrating_page import PAGE, PLACE, RECORDED, known, rendered, status, table


def test_the_table_is_what_the_code_does() -> None:
    """Prevents: a page that promises what no longer holds. Write it anew: python -m tests.compat.migrating_page"""
    page = PAGE.read_text(encoding="utf-8")
    assert len(PLACE.findall(page)) == 1 and rendered(page) == page


def test_every_option_has_a_row_and_none_is_unknown() -> None:
    """Prevents: an option of TRL's that is silently ignored."""
    assert RECORDED.keys() <= known()
    assert re.findall(r"^\| `(\w+)` \|", table(), re.MULTILINE) == list(RECORDED)


def test_the_status_is_what_happens() -> None:
    """Prevents: a table whose words come from somewhere else than the behaviour."""
    assert [status(name) for name in ("epsilon", "use_vllm", "top_k", "logging_steps", "fsdp")] == [
        "supported", "differs", "refused", "supported", "refused"]
    assert status("lr_scheduler_type") == "supported; not `'polynomial'`" and status("bf16") == "supported"


def test_the_recorded_options_are_those_of_the_installed_trl() -> None:
    """Prevents: a list that is older than the TRL that people use."""
    import trl

    assert trl.__version__.startswith("1.16."), "recorded from 1.16"
    fields = {field.name: field for field in dataclasses.fields(trl.GRPOConfig) if field.init}
    assert fields.keys() == RECORDED.keys()
    for name, field in fields.items():
        if field.default is not dataclasses.MISSING and (field.default is None or isinstance(field.default, bool | int | float | str)):
            assert getattr(field.default, "value", field.default) == RECORDED[name], name
