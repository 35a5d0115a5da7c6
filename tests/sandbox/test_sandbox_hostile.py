"""Hostile programs in every backend that is here, as root and as an ordinary user: none gets out, and nothing of them is left.

`unsafe-rlimit` is run, too: what gets out of it is a list, so that nobody sells it as a wall, and so that attacks are known to work.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from heron.sandbox.attacks import ATTACKS, OUTWARD
from heron.sandbox.backends import AUTOMATIC, BACKENDS
from heron.sandbox.choosing import why_not
from heron.sandbox.selftest import selftest

ROOT = Path(__file__).resolve().parents[2]
AS_NOBODY: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}
UNSAFE = "unsafe-rlimit"
NAMES = [attack.name for attack in ATTACKS]
HARMLESS = [attack for attack in ATTACKS if attack.name not in OUTWARD]
GET_OUT = {
    "read_home", "symlink_out", "hardlink_out", "rename_in", "write_outside", "remove_outside", "tmp_race_next_sample", "tcp_loopback_ui",
    "udp_out", "tcp_listen", "raw_and_netlink", "abstract_unix", "docker_sock", "keyctl", "watch_outside",
    "shared_memory_stays", "message_queue_stays",
}
"""From limits alone, whoever we are; more, where the kernel lets ordinary users do more."""
GET_OUT_AS_ORDINARY = {
    *GET_OUT, "kill_parent", "kill_supervisor", "ptrace_parent", "prlimit_parent", "renice_parent", "read_parent_environ",
}
HELPER = """
import json, sys, tempfile
from heron.sandbox.attacks import ATTACKS, OUTWARD, RESOURCES
from heron.sandbox.choosing import why_not
from heron.sandbox.selftest import selftest
tempfile.tempdir = sys.argv[2]
problem = why_not(sys.argv[1])
attacks = [attack for attack in ATTACKS if sys.argv[1] != "unsafe-rlimit" or attack.name not in {**OUTWARD, **RESOURCES}]
print(json.dumps({"why_not": problem} if problem else {each.attack: each.problem for each in selftest(sys.argv[1], attacks)}))
"""


@cache
def interpreter_for_all() -> str | None:
    """An interpreter that an ordinary user can start; the one that runs us may lie in root's home."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError):
            program = "import sys; assert sys.version_info >= (3, 11)"
            done = subprocess.run([path, "-c", program], **AS_NOBODY, capture_output=True, cwd="/", check=False)
            if done.returncode == 0:
                return path
    return None


@cache
def outcomes(backend: str, user: str) -> dict[str, str]:
    """Attack to how it got out, empty if it was held; all in one process, so that files that are left are seen at the end."""
    scratch = tempfile.mkdtemp(prefix="heron-test-")
    os.chmod(scratch, 0o777)
    try:
        if user == "ordinary":
            return _as_ordinary(backend, scratch)
        before, tempfile.tempdir = tempfile.tempdir, scratch
        try:
            found = {each.attack: each.problem for each in selftest(backend, HARMLESS if backend == UNSAFE else ATTACKS)}
        finally:
            tempfile.tempdir = before
        assert os.listdir(scratch) == [], "files are left"
        return found
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _as_ordinary(backend: str, scratch: str) -> dict[str, str]:
    if os.geteuid() != 0:
        pytest.skip("we are an ordinary user: the other half runs as one")
    if (python := interpreter_for_all()) is None:
        pytest.skip("no interpreter here that an ordinary user can start")
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, "-c", HELPER, backend, scratch], **AS_NOBODY, env=environment, cwd="/",
        capture_output=True, text=True, check=False, timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if "why_not" in found:
        pytest.skip(f"an ordinary user has no {backend} here: {found['why_not']}")
    assert os.listdir(scratch) == [], "files are left"
    return found


@pytest.mark.parametrize("user", ["ourselves", "ordinary"])
@pytest.mark.parametrize("backend", [backend.name for backend in AUTOMATIC])
@pytest.mark.parametrize("attack", NAMES)
def test_attack_is_held(attack: str, backend: str, user: str) -> None:
    """Prevents: a program of a model that reads secrets, reaches the network or our processes, uses up the machine, or lives on."""
    if problem := why_not(backend):
        pytest.skip(f"{backend} does not work here: {problem}")
    assert outcomes(backend, user)[attack] == ""


@pytest.mark.parametrize("user", ["ourselves", "ordinary"])
def test_limits_alone_let_these_out(user: str) -> None:
    """Prevents: `unsafe-rlimit` sold as a wall; and attacks that are held everywhere since they never worked."""
    found = {name for name, problem in outcomes(UNSAFE, user).items() if problem}
    expected = GET_OUT_AS_ORDINARY if user == "ordinary" or os.geteuid() != 0 else GET_OUT
    assert expected <= found
    assert user == "ordinary" or "mem_shared_and_forgotten" in found, "an attack that is held everywhere shows nothing"
    held = {"fork_bomb", "mem_many_procs", "stdout_flood", "disk_fill", "double_fork_daemon", "subreaper_hides", "read_env", "sigstop_self"}
    assert not held & found


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no such right in the first place")
def test_deleted_files_are_seen_without_the_right_to_trace() -> None:
    """Prevents: a disk filled by mapped files where root may not look into processes of others, as in most containers."""
    if problem := why_not("landlock"):
        pytest.skip(f"landlock does not work here: {problem}")
    program = """
import ctypes, os, sys
for right in (19, 21, 38):  # CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON
    assert ctypes.CDLL(None).prctl(24, right, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-c", '''
from heron.sandbox.attacks import ATTACKS
from heron.sandbox.selftest import selftest
print([each.problem for each in selftest("landlock", [a for a in ATTACKS if a.name == "files_deleted_but_mapped"])])
'''])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "['']\n", done.stderr


def test_every_backend_says_what_it_leaves() -> None:
    """Prevents: a wall without a word about its gaps."""
    assert all(backend.holds and backend.leaves for backend in BACKENDS.values())
    assert any("network" in text for text in BACKENDS[UNSAFE].leaves)
