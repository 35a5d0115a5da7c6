"""What the documents tell a reader to paste must work: every block of Python on every page is run, fenced or indented.

A page's blocks are run from top to bottom, as its reader would, with small trainings. Where a page shows an output below a block, that
must be what the block prints. Pages that need a server, or more looking after, have tests of their own: `ELSEWHERE`.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import heron
from heron.compat.unsloth import SamplingParams
from heron.config import load_config
from heron.data import load
from heron.rewards import Rubric, load_functions
from heron.training.trainer import Trainer
from tests.docs.documents import LANGUAGES, PAGES, ROOT, Block, blocks, python_of, shown_below
from tests.docs.workplace import HOW_TO, SMALL

DOCS = ROOT / "docs"
SKETCH = DOCS / "architecture.md"
ELSEWHERE = {
    **dict.fromkeys(HOW_TO, "tests/docs/test_documented_howto.py::test_the_python_of_a_page_runs_from_top_to_bottom"),
    DOCS / "learn" / "09-reward-hacking.md": "tests/docs/test_documented_hacks.py::test_every_block_of_the_page_is_in_a_file_that_is_tried",
    DOCS / "objective.md": "tests/docs/test_documented_objective.py::test_every_block_of_the_page_is_a_file_that_is_used",
    DOCS / "serving.md": "tests/docs/test_documented_serving.py::test_the_clients_lines_run",
    DOCS / "export.md": "tests/export/test_export_page.py::test_the_pages_python_runs",
}
HERE = [page for page in PAGES if python_of(page) and page not in ELSEWHERE and page != SKETCH]


def supplied(page: Path, folder: Path) -> dict[str, Any]:
    """What a page's blocks take as given: names that its reader has, and files that these lead to."""
    if page.name == "migrating.md":
        model = AutoModelForCausalLM.from_pretrained(folder / "path" / "or" / "id")
        get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(folder / "lora")
        return {"text": "What is 2 + 2?", "SamplingParams": SamplingParams}
    if page.name == "judge.md":
        config = load_config("arithmetic")
        prompts = load(config.data, config.tags, seed=0, eval_size=2).train[:2]
        return {"rubric": Rubric(load_functions("arithmetic.number_right"), tags=config.tags), "prompts": prompts}
    return {}


@pytest.fixture
def desk(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a page is followed: the furnished folder, in which every training is small and has rows to train on."""
    monkeypatch.chdir(workplace)
    train: Callable[..., Any] = heron.train

    def small_train(*args: Any, **kwargs: Any) -> Any:
        data = workplace / "path" / "to" / "gsm8k"
        return train(*args, run_dir=tmp_path / "run", quiet=True, data=str(data), **SMALL, **kwargs)

    monkeypatch.setattr(heron, "train", small_train, raising=False)
    return workplace


@pytest.mark.parametrize("page", HERE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs_and_prints_what_it_shows(page: Path, desk: Path) -> None:
    """Prevents: an example that a reader pastes and that does not work, or whose output is another one."""
    namespace: dict[str, Any] = {"__name__": "__main__", **supplied(page, desk)}
    for block in python_of(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.text, block.name, "exec"), namespace)
        assert shown_below(block) in (None, printed.getvalue()), block.name


@pytest.mark.parametrize("test", sorted(set(ELSEWHERE.values())))
def test_a_page_that_is_run_elsewhere_is_run_whole(test: str) -> None:
    """Prevents: a page that no test runs since its own was renamed, or takes only some of its blocks."""
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    assert "python_of" in ast.unparse(function)


def test_no_block_is_in_a_language_that_no_test_reads() -> None:
    """Prevents: a fence of `py` or `console`, whose lines would be run by nothing."""
    assert [block.name for page in PAGES for block in blocks(page) if block.language not in LANGUAGES] == []


def test_the_sketch_of_the_loop_names_its_steps() -> None:
    """Prevents: a plan whose loop does other things, or does them in another order, than the trainer."""
    (sketch,) = python_of(SKETCH)
    told, done = ([*calls(ast.parse(text))] for text in (sketch.text, textwrap.dedent(inspect.getsource(Trainer.train))))
    rest = iter(done)
    assert len(told) > 4 and [call for call in told if call not in rest] == []


def calls(tree: ast.AST) -> Iterator[str]:
    """Of methods of `self`, in their order."""
    found = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [(one.lineno, ast.unparse(one)) for one in found if ast.unparse(one).startswith("self.")]
    return (name for _, name in sorted(names))


def test_every_form_of_a_block_is_found(tmp_path: Path) -> None:
    """Prevents: the tests above passing over what is indented, or stands in a fence without a name."""
    page = tmp_path / "page.md"
    fences = "```\nimport two\n```\n\n```python\nthree = 3\n```\n\n```text\n3\n```\n"
    no_python = "    [model]\n    name = 'one'\n\nRows:\n\n    Rows: 592 to train on.\n\n- a point\n    that goes on()\n"
    page.write_text(f"One:\n\n    import one\n\n    one.two(3)\n\nTwo:\n\n{fences}\nA recipe and an output:\n\n{no_python}")
    found: list[Block] = python_of(page)
    assert [(block.line, block.text) for block in found] == [
        (3, "import one\n\none.two(3)\n"), (9, "import two\n"), (13, "three = 3\n")]
    assert [shown_below(block) for block in found] == [None, None, "3\n"]
