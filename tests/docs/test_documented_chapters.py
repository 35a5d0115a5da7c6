"""The chapters of docs/learn: the settings, alerts and numbers that they name exist."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest

from heron.config import Config, load_config, parse_overrides
from heron.run.alerts import CHECKS
from heron.training.compiled import advice_on, objective_of

LEARN = Path(__file__).resolve().parents[2] / "docs" / "learn"
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted(LEARN.glob("*.md")) if page.name >= "07"}
INLINE = [(name, code) for name, text in PAGES.items() for code in re.findall(r"`([^`\n]+)`", text)]
SETTINGS = sorted({code for _, code in INLINE if re.fullmatch(r"(--[a-z]+\.\w+=\S+ ?|--[a-z]+\.\w+='.*' ?)+", code)})
NO_FAULTS_OF_LEARNING = {"out-of-memory", "disk", "judge-budget"}


@pytest.mark.parametrize("options", [code for code in SETTINGS if "my_file.py" not in code])
def test_settings_that_are_advised_are_taken(options: str) -> None:
    """Prevents: advice that a run refuses, or that has no effect with the loss it is given for."""
    config = load_config("gsm8k", parse_overrides([word.replace("'", "") for word in re.split(r" (?=--)", options)]))
    assert advice_on(config.objective, objective_of(config.objective)) == []


def test_every_named_setting_exists() -> None:
    """Prevents: a key that was renamed."""
    sections = {field.name: getattr(load_config(), field.name) for field in fields(Config)}
    named = {(section, key) for _, code in INLINE for section, key in re.findall(r"(?:^|--)([a-z]+)\.([a-z_0-9]+)(?==|$)", code)}
    known = {(section, key) for section, key in named if section in sections}
    assert len(known) > 30
    assert [f"{section}.{key}" for section, key in known if not hasattr(sections[section], key) and (section, key) not in REWARDS] == []


REWARDS = {("rewards", "takes_away")}


def test_the_tree_names_every_alert() -> None:
    """Prevents: an alert that nobody can look up, and one that was renamed."""
    shape = re.compile(r"[a-z]+(-[a-z]+)+")
    stuck = {code for name, code in INLINE if name == "stuck.md"}
    assert stuck >= set(CHECKS) - NO_FAULTS_OF_LEARNING
    told = {match[1] for text in PAGES.values() for match in re.finditer(r"alerts? `([a-z-]+)`", text)}
    assert told and all(shape.fullmatch(name) for name in told) and told <= set(CHECKS)


def test_every_leaf_of_the_tree_has_its_section() -> None:
    """Prevents: a leaf that leads nowhere."""
    tree = re.search(r"```text\n(.*?)```", PAGES["stuck.md"], re.DOTALL)
    assert tree is not None
    leaves = {int(number) for number in re.findall(r"\.{3,} +(\d+) ", tree[1])}
    assert leaves == {int(number) for number in re.findall(r"^## (\d+)\. ", PAGES["stuck.md"], re.MULTILINE)} == set(range(1, 14))


def test_numbers_that_are_named_are_recorded() -> None:
    """Prevents: a curve that no run has."""
    known = tomllib.loads(files("heron.run").joinpath("metrics.toml").read_text(encoding="utf-8"))
    groups = {name.partition("/")[0] for name in known if "/" in name} - {"logged"}
    named = {code for _, code in INLINE if re.fullmatch(r"[\w@]+/[\w@/<>]+", code) and code.partition("/")[0] in groups}
    assert len(named) > 10 and named <= {*known, "completions/max_length"}


def test_settings_are_found() -> None:
    """Prevents: the tests above passing because nothing was found."""
    assert len(SETTINGS) > 20
