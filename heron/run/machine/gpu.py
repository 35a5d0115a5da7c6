"""The GPUs, and who holds their memory: what `nvidia-smi` says of both.

The one hard idea: of a process its number and its program's name are told and not its arguments, which may hold a secret.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from heron.run.machine.fact import Fact
from heron.run.text import one_line

PATIENCE_S = 10
GPUS = ("index", "uuid", "name", "driver_version", "memory.total", "memory.used")
HOLDERS = ("gpu_uuid", "pid", "process_name", "used_memory")
BUSY = 0.1
"""Share of a GPU's memory from which on others are in the way."""


class Unanswered(Exception):
    """`nvidia-smi` did not say it; the words are why."""


def gpu_facts() -> list[Fact]:
    """A line for each GPU with its memory, and one for each process that holds some of it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return [_fact("GPU", "none found (there is no nvidia-smi): training runs on the CPU")]
    try:
        gpus, holders = _ask(program, "--query-gpu", GPUS), _ask(program, "--query-compute-apps", HOLDERS)
    except Unanswered as reason:
        return [_fact("GPU", str(reason), advice="Training would run on the CPU. Does the driver work? Try nvidia-smi by itself.")]
    return [fact for gpu in gpus for fact in _of_gpu(gpu, [each for each in holders if each["gpu_uuid"] == gpu["uuid"]])]


def _of_gpu(gpu: Mapping[str, str], holders: Sequence[Mapping[str, str]]) -> list[Fact]:
    used, total = _mebibytes(gpu["memory.used"]), _mebibytes(gpu["memory.total"])
    name, is_busy = f"GPU {gpu['index']}", bool(used and total and used > BUSY * total)
    words = f"{gpu['name']}, driver {gpu['driver_version']}, {_gib(used)} of {_gib(total)} GiB used"
    data = {"name": gpu["name"], "driver": gpu["driver_version"], "total_mib": total, "used_mib": used}
    advice = "End what holds its memory, or choose another GPU with CUDA_VISIBLE_DEVICES." if is_busy else ""
    unseen = [_fact(f"{name} process", "none is seen from here: it may be in another container")] if is_busy and not holders else []
    return [_fact(name, words, data, advice), *(_holder(name, each) for each in holders), *unseen]


def _holder(gpu: str, found: Mapping[str, str]) -> Fact:
    held, program = _mebibytes(found["used_memory"]), _program(found["process_name"])
    data = {"pid": int(found["pid"]), "program": program, "held_mib": held}
    return _fact(f"{gpu} process", f"{program}, process {found['pid']}, holds {_gib(held)} GiB", data)


def _ask(program: str, question: str, fields: Sequence[str]) -> list[dict[str, str]]:
    """Rows of an answer, by the names of the fields."""
    command = [program, f"{question}={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as late:
        raise Unanswered(f"nvidia-smi did not answer within {PATIENCE_S} seconds: the driver may be stuck") from late
    rows = [[one_line(cell, 200) for cell in row] for row in csv.reader(answer.stdout.splitlines(), skipinitialspace=True)]
    if answer.returncode or any(len(row) != len(fields) for row in rows):
        said = answer.stdout.strip() or answer.stderr.strip() or f"nothing, and exit code {answer.returncode}"
        raise Unanswered(f"nvidia-smi said: {one_line(said, 200)}")
    return [dict(zip(fields, row, strict=True)) for row in rows]


def _program(name: str) -> str:
    """`python3`, of whatever is said to run."""
    return PurePath((name.split() or ["?"])[0]).name


def _mebibytes(word: str) -> int | None:
    return int(word) if word.isdigit() else None


def _gib(size: int | None) -> str:
    return "?" if size is None else f"{size / 1024:.1f}"


def _fact(name: str, words: str, data: object = None, advice: str = "") -> Fact:
    return Fact(group="GPU", name=name, words=words, data=data, advice=advice)
