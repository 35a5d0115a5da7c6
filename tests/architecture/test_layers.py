"""The plan of the house, enforced: `docs/architecture.md` says who may call whom, the imports are read from the source."""

from __future__ import annotations

import ast
import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from heron.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "heron"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
HEAVY = {"torch", "transformers", "peft", "safetensors", "tokenizers", "accelerate"}
OPTIONAL = ("vllm", "ray", "bitsandbytes", "optimi", "math_verify", "llguidance", "datasets", "pyarrow", "deepspeed", "verifiers")


@dataclass(frozen=True)
class Import:
    """One imported module, and how."""

    file: Path
    line: int
    module: str
    at_import_time: bool
    for_types_only: bool

    @property
    def place(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def read_levels() -> dict[str, int]:
    """Room to level, from the page's table."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = re.search(r"## Who may call whom.*?```\n(.*?)```", page, re.DOTALL)
    assert table is not None, "docs/architecture.md has lost its table of layers"
    levels: dict[str, int] = {}
    level = -1
    for line in table[1].splitlines():
        number, names = re.match(r"(\d*)\s*(.*)", line).groups()  # type: ignore[union-attr]
        level = int(number) if number else level
        words = re.split(r"\s+-\s|\(", names)[0]
        levels |= dict.fromkeys(words.split(), level)
    return levels


def imports_of(file: Path) -> list[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return list(_imports(tree, file, at_import_time=True, for_types_only=False))


def _imports(node: ast.AST, file: Path, *, at_import_time: bool, for_types_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, child.lineno, alias.name, at_import_time, for_types_only)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{file}:{child.lineno} has a relative import"
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                path = ROOT / Path(*whole.split("."))
                is_module = path.is_dir() or path.with_suffix(".py").is_file()
                yield Import(file, child.lineno, whole if is_module else str(child.module), at_import_time, for_types_only)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _imports(
                child, file, at_import_time=at_import_time and not inside, for_types_only=for_types_only or guarded
            )


def room_of_file(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def room_of_module(module: str) -> str | None:
    """`heron.data.rows` is in `data`; None for `heron` itself and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "heron" and len(parts) > 1 else None


LEVELS = read_levels()
IMPORTS = [found for file in FILES for found in imports_of(file)]
ROOM_IMPORTS = [
    (room_of_file(found.file), room, found) for found in IMPORTS
    if (room := room_of_module(found.module)) is not None and room != room_of_file(found.file) and room_of_file(found.file) != "__init__"
]


def test_table_names_the_rooms_that_exist() -> None:
    """Prevents: a room that no rule holds, and a rule about a room that is gone."""
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    rooms |= {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert rooms <= LEVELS.keys(), f"docs/architecture.md does not say on which level {rooms - LEVELS.keys()} is"
    assert LEVELS.keys() <= rooms, f"docs/architecture.md names {LEVELS.keys() - rooms}, which is not there"


def test_nobody_calls_up() -> None:
    """Lower rooms import nothing from higher ones, not even inside a function."""
    wrong = [found.place for room, other, found in ROOM_IMPORTS if LEVELS[other] > LEVELS[room] and not found.for_types_only]
    assert wrong == []


def test_no_cycles_between_rooms() -> None:
    """Rooms of one level may use one another, but not in a circle."""
    graph: dict[str, set[str]] = {room: set() for room in LEVELS}
    for room, other, found in ROOM_IMPORTS:
        if not found.for_types_only:
            graph[room].add(other)
    finished: set[str] = set()

    def visit(room: str, path: tuple[str, ...]) -> None:
        assert room not in path, " -> ".join((*path[path.index(room) :], room))
        if room not in finished:
            for other in sorted(graph[room]):
                visit(other, (*path, room))
            finished.add(room)

    for room in graph:
        visit(room, ())


def test_no_cycles_between_files() -> None:
    """Files that need each other to be imported are one file, or a hidden order of imports."""
    names = {".".join(("heron", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): file for file in FILES}
    graph: dict[str, set[str]] = {}
    for name, file in names.items():
        found = {i.module for i in imports_of(file) if i.at_import_time and not i.for_types_only}
        graph[name] = {module for module in found if module in names and module != name}
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in finished:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            finished.add(name)

    for name in graph:
        visit(name, ())


def test_light_rooms_import_nothing_heavy() -> None:
    """Types, errors and the rooms of level 1 but kernels and objective stay free of torch, anywhere in the file."""
    light = {room for room, level in LEVELS.items() if level <= 1} - {"kernels", "objective"}
    assert {"config", "data", "rewards", "run"} <= light
    wrong = [i.place for i in IMPORTS if room_of_file(i.file) in light and i.module.split(".")[0] in HEAVY]
    assert wrong == []


def test_kernels_and_objective_know_torch_and_plain_arguments() -> None:
    """No config, no policy, no prompt reaches them."""
    outside = {"torch", "triton", "numpy"} | set(sys.stdlib_module_names)
    for found in IMPORTS:
        room = room_of_file(found.file)
        if room in ("kernels", "objective"):
            top = found.module.split(".")[0]
            is_ground = found.module in ("heron.errors", "heron.userfile", "heron.folders")
            is_late = top == "transformers" and not found.at_import_time
            allowed = top in outside or found.module.startswith(f"heron.{room}") or is_ground or is_late
            assert allowed, found.place


def test_dashboard_sees_only_run() -> None:
    seen = {other for room, other, _ in ROOM_IMPORTS if room == "dashboard"}
    assert seen <= {"run", "errors", "types"}


def test_engine_does_not_know_the_trainer() -> None:
    seen = {other for room, other, _ in ROOM_IMPORTS if room == "engine"}
    assert not seen & {"config", "rewards", "data", "training", "rollout"}


PARTS = {"bitsandbytes": {"models/quantized.py", "models/int8.py", "models/sensitivity.py", "training/optimizer.py"}}
"""Files that wrap a part of a package each: layers, a layer's class, functions, optimizers."""
READ_LATE = {"models/int8.py"}
"""Files that define a subclass of an optional package's class, and are imported inside functions alone."""


def test_optional_packages_are_wrapped_once_and_late() -> None:
    """Each is imported in one file at most (or one for each of its parts), and late: `import heron` works without any of them."""
    for package in OPTIONAL:
        found = [i for i in IMPORTS if i.module.split(".")[0] == package]
        files = {str(i.file.relative_to(PACKAGE)) for i in found}
        assert len(files) <= 1 or files <= PARTS.get(package, set()), [i.place for i in found]
        early = [i for i in found if i.at_import_time and not i.for_types_only and str(i.file.relative_to(PACKAGE)) not in READ_LATE]
        assert [i.place for i in early] == []
    readers = [i for i in IMPORTS if f"{i.module.removeprefix('heron.').replace('.', '/')}.py" in READ_LATE]
    assert readers and [i.place for i in readers if i.at_import_time] == []


def test_triton_is_touched_only_where_it_is_wanted() -> None:
    """Its kernels need it when their file is read, so nobody reads such a file before a GPU asks for it."""
    triton_files = {i.file for i in IMPORTS if i.module.split(".")[0] == "triton"}
    assert triton_files and all(file.name.startswith("triton_") for file in triton_files)
    readers = [i for i in IMPORTS if i.module.split(".")[-1].startswith("triton_")]
    assert readers and [i.place for i in readers if i.at_import_time and i.file not in triton_files] == []


def test_dependencies_are_declared() -> None:
    """Prevents: a package that is there by chance, since another one needs it."""
    declared = re.findall(r'"([A-Za-z0-9_-]+)(?:>=|")', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    known = {name.replace("-", "_").lower() for name in declared} | set(sys.stdlib_module_names) | {"heron", "__future__"}
    known |= {"huggingface_hub", "tokenizers", "yaml"}  # transformers' own requirements, pinned by it
    known |= {"optimi"}  # what torch-optimi is imported as
    wrong = [i.place for i in IMPORTS if i.module.split(".")[0].lower() not in known]
    assert wrong == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_file_opens_with_a_docstring_and_is_small(file: Path) -> None:
    """A reader learns from the first line what a file does; no file grows beyond what fits in a head."""
    text = file.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring is not None
    assert docstring.splitlines()[0].endswith((".", ":", "?")), docstring.splitlines()[0]
    assert len(text.splitlines()) <= 350


def test_no_environment_variables_as_arguments() -> None:
    """`os.environ` is read in two places: for the user's cache folder, and where the doctor reports what is set."""
    readers = {str(file.relative_to(PACKAGE)) for file in FILES if re.search(r"os\.(environ|getenv)", file.read_text(encoding="utf-8"))}
    assert readers <= {"folders.py", "run/machine/environment.py"}


def test_errors_page_draws_the_tree_that_exists() -> None:
    """The docstring's tree is what users read: names, parents, extra bases, exit codes."""
    from heron import errors

    tree = ast.get_docstring(ast.parse((PACKAGE / "errors.py").read_text(encoding="utf-8"))) or ""
    drawn: dict[str, tuple[str | None, str | None, int]] = {}
    stack: list[str] = []
    for line in tree.splitlines():
        match = re.match(r"([\s│├└─]*)([A-Z]\w+)\s+(?:\((\w+)\)\s+)?(?:exit code )?(\d)\b", line)
        if match:
            depth = (len(match[1]) - 4) // 4 if len(match[1]) > 4 else 0
            stack = [*stack[:depth], match[2]]
            drawn[match[2]] = (stack[depth - 1] if depth else None, match[3], int(match[4]))
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.HeronError)}
    assert drawn.keys() == classes.keys()
    for name, (parent, extra, code) in drawn.items():
        bases = [base.__name__ for base in classes[name].__bases__]
        assert bases == [base for base in (parent or "Exception", extra) if base], name
        assert classes[name].exit_code == code, name
        assert classes[name].__doc__, name


class TestPublicSurface:
    """What `import heron` offers."""

    def test_names_are_exact_and_sorted(self) -> None:
        import heron

        functions = ["chat", "check", "evaluate", "last_number", "load", "number", "resume", "rewards", "train", "warmup"]
        assert heron.__all__ == ["Run", *functions]
        assert heron.__all__ == sorted(heron.__all__)
        assert set(dir(heron)) == {*heron.__all__, "__version__"}
        for name in heron.__all__:
            assert getattr(heron, name) is not None
        with pytest.raises(AttributeError, match="nonsense"):
            _ = heron.nonsense

    def test_names_for_type_checkers_are_the_same(self) -> None:
        """Lazy names are invisible to mypy and editors unless they are imported for types, too."""
        import heron

        guarded = [node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.If)]
        names = {alias.name for node in guarded for child in node.body if isinstance(child, ast.ImportFrom) for alias in child.names}
        assert names == set(heron.__all__)

    def test_every_room_says_what_it_exports(self) -> None:
        """`__all__` of a room is sorted (as ruff sorts: classes and constants as they are) and names only what is there."""
        import importlib

        for folder in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
            module = importlib.import_module(f"heron.{folder.name}")
            for name in getattr(module, "__all__", ()):
                assert hasattr(module, name), f"heron.{folder.name}.{name}"

    def test_version_is_the_packages(self) -> None:
        import heron

        settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "heron.version.VERSION"}
        assert heron.__version__ == VERSION


def loaded_after(program: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running this."""
    code = (
        f"import sys, json\nsys.argv = ['heron', '--help']\n{program}\n"
        "print('\\n' + json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


class TestWeight:
    """What costs seconds is loaded when it is needed."""

    def test_import_heron_loads_no_torch(self) -> None:
        program = "import heron\nheron.train, heron.rewards.follows_format, heron.number, heron.Run, dir(heron)"
        assert not loaded_after(program) & {*HEAVY, *OPTIONAL, "numpy"}

    def test_help_loads_no_torch(self) -> None:
        """`heron --help` answers at once."""
        program = "from heron.cli.main import main\ntry: main()\nexcept SystemExit as end: assert not end.code, end.code"
        assert not loaded_after(program) & {*HEAVY, *OPTIONAL, "numpy"}

    def test_light_rooms_load_no_torch(self) -> None:
        """What the source says is checked against what an interpreter does."""
        light = [room for room, level in LEVELS.items() if level <= 1 and room not in ("kernels", "objective")]
        modules = [
            ".".join(("heron", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
            for file in FILES if room_of_file(file) in [*light, "dashboard", "cli"]
        ]
        modules = [name for name in modules if not name.endswith(("launcher", "__main__"))]
        program = "".join(f"import {name}\n" for name in modules)
        assert not loaded_after(program) & {*HEAVY, *OPTIONAL}

    def test_kernels_load_no_transformers(self) -> None:
        loaded = loaded_after("import heron.kernels.attention, heron.kernels.logprobs, heron.kernels.sampling, heron.objective")
        assert not loaded & {"transformers", "peft"}


def test_levels_are_read_as_meant() -> None:
    """Guards this file: an empty or misread table would let everything pass."""
    assert LEVELS["errors"] == 0 < LEVELS["kernels"] == LEVELS["config"] < LEVELS["engine"] < LEVELS["rollout"] < LEVELS["training"]
    assert LEVELS["training"] < LEVELS["dashboard"] < LEVELS["cli"]
    assert len(IMPORTS) > 200
    assert any(room == "training" and other == "engine" for room, other, _ in ROOM_IMPORTS)
    assert len(list(itertools.chain(FILES))) > 50
