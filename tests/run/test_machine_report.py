"""The doctor's report on a machine: complete, fit to be pasted in public, and never a guess."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import socket
import stat
import textwrap
from pathlib import Path

import pytest

from heron.errors import SandboxError
from heron.run.machine import (
    Fact,
    as_json,
    as_lines,
    environment,
    gpu,
    machine_report,
    network,
    packages,
    requirements,
    storage,
    system,
    torch,
)
from heron.run.machine.sandbox import sandbox_facts
from heron.version import VERSION

SECRET = "hf_verysecret"
GPUS = "0, GPU-a, NVIDIA H200, 580.1, 143771, 20480"
HOLDERS = "GPU-a, 4711, /opt/bin/python3 serve.py --token hf_verysecret, 20000"


def named(facts: list[Fact], name: str) -> Fact:
    return next(fact for fact in facts if fact.name == name)


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose `nvidia-smi` answers with the files `gpu` and `apps`."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\ncase "$1" in --query-gpu*) cat {tmp_path}/gpu ;; *) cat {tmp_path}/apps ;; esac\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "gpu").write_text(GPUS + "\n")
    (tmp_path / "apps").write_text(HOLDERS + "\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_it_says_everything_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is made to be pasted into a public question."""
    monkeypatch.setattr(torch, "TORCH", "print('{\"version\": \"2\", \"cuda\": null, \"is_available\": false, \"gpus\": []}')")
    monkeypatch.setattr(torch, "KERNELS", "print('there')")
    for name in environment.TOLD_OF:
        monkeypatch.setenv(name, f"https://me:{SECRET}@host")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1\x1b[2J")
    facts = machine_report(tmp_path / "not" / "made" / "yet")
    told = as_json(facts)
    text = "\n".join(as_lines(facts))
    assert SECRET not in text and SECRET not in json.dumps(told) and "HF_TOKEN" in text and "OPENAI_API_KEY" in text
    assert list(told) == ["system", "GPU", "torch", "storage", "network", "sandbox", "packages", "environment", "problems"]
    assert "CUDA_VISIBLE_DEVICES=1" in text and "\x1b" not in text
    assert "GiB free" in told["storage"]["disk"]["words"] and told["packages"]["rich"]["data"]["version"][0].isdigit()


def test_problems_stand_at_the_end_with_what_to_do() -> None:
    """Prevents: a fault that is lost among forty lines of good health."""
    fine, bad = Fact(group="a", name="x", words="well"), Fact(group="b", name="y", words="ill\nand so on", advice="Mend it.")
    assert as_lines([fine]) == ["a", "  x  well", "", "Nothing stands in the way of a run."]
    assert as_lines([fine, bad])[-3:] == ["", "to look at", "! y: ill\nand so on\n  Mend it."]
    assert "! y  ill and so on" in as_lines([fine, bad])
    assert as_json([fine, bad])["problems"] == [{"group": "b", "name": "y", "words": "ill\nand so on", "advice": "Mend it."}]


class TestGpu:
    """What nvidia-smi says."""

    def test_who_holds_the_memory(self, nvidia_smi: Path) -> None:
        """Prevents: "out of memory" on a GPU that somebody else fills, and an argument of theirs that holds a secret."""
        facts = gpu.gpu_facts()
        card, process = facts
        assert card.words == "NVIDIA H200, driver 580.1, 20.0 of 140.4 GiB used" and "CUDA_VISIBLE_DEVICES" in card.advice
        assert process.words == "python3, process 4711, holds 19.5 GiB" and SECRET not in str(facts)
        assert process.data == {"pid": 4711, "program": "python3", "held_mib": 20000}

    def test_a_free_one_is_no_problem(self, nvidia_smi: Path) -> None:
        (nvidia_smi / "gpu").write_text("0, GPU-a, NVIDIA H200, 580.1, 143771, 4\n1, GPU-b, NVIDIA H200, 580.1, 143771, 90000\n")
        (nvidia_smi / "apps").write_text("GPU-a, 1, [Not Found], [N/A]\n")
        facts = gpu.gpu_facts()
        assert [fact.name for fact in facts] == ["GPU 0", "GPU 0 process", "GPU 1", "GPU 1 process"]
        assert facts[0].advice == "" and "? GiB" in facts[1].words and facts[2].advice and "none is seen" in facts[3].words

    @pytest.mark.parametrize("said", ["NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", ""])
    def test_a_driver_that_is_broken(self, nvidia_smi: Path, said: str) -> None:
        """Prevents: a traceback, or silence, where the driver is what is wrong."""
        (nvidia_smi / "nvidia-smi").write_text(f'#!/bin/sh\nprintf "%s" "{said}"\nexit 9\n')
        (found,) = gpu.gpu_facts()
        assert found.advice and (said.strip() or "exit code 9") in found.words

    def test_a_driver_that_hangs(self, nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (nvidia_smi / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 20\n")
        monkeypatch.setattr(gpu, "PATIENCE_S", 0.2)
        assert "did not answer" in gpu.gpu_facts()[0].words

    def test_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        (found,) = gpu.gpu_facts()
        assert "CPU" in found.words and found.advice == "" and found.data is None


class TestPackages:
    """Versions against what the code that runs requires."""

    PROJECT = """
        [project]
        name = "heron-rl"
        dependencies = ["torch>=2.11,<2.14", "rich<1,>=0.1", "windows-only>=1; sys_platform == 'win32'"]
        [project.optional-dependencies]
        odd = ["absent-package>=1"]
        there = ["rich>=2", "windows-only>=1; sys_platform == 'win32'"]
        dev = ["x"]
    """

    @pytest.fixture
    def code(self, tmp_path: Path) -> Path:
        """A checkout."""
        (tmp_path / "pyproject.toml").write_text(textwrap.dedent(self.PROJECT))
        return tmp_path / "heron"

    def test_versions_outside_of_the_tested_range(self, code: Path) -> None:
        """Prevents: hours spent on a fault of a version that nobody ever ran; and a local build (+cpu) taken for untested."""
        facts = packages.package_facts(code)
        assert [fact.name for fact in facts] == ["heron", "torch", "rich", "rich", "extras not installed"]
        assert facts[1].advice == "" and facts[1].words.endswith("(tested with >=2.11,<2.14)")
        assert 'install "rich>=0.1,<1"' in facts[2].advice and facts[2].data["is_tested"] is False
        assert facts[3].words.endswith("for the extra there") and facts[4].data == ["odd"]

    def test_another_checkout_than_the_one_that_is_installed(self, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: what another checkout, or an older version, required being told as what this code was tested with."""
        self.install(monkeypatch, code.parent / "other", editable=True)
        place, first, *_ = packages.package_facts(code)
        assert place.words == f"runs from {code.parent}; what is installed as heron-rl is {VERSION} of {code.parent / 'other'}"
        assert first.name == "torch" and "2.11" in first.words, "of the project beside the code, not of the installation"
        (code.parent / "pyproject.toml").unlink()
        place, found = packages.package_facts(code)
        assert "not known" in found.words and "pip install -e" in found.advice

    @pytest.mark.parametrize("version", [VERSION, "0.0.1"])
    def test_the_code_that_is_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        """Prevents: no ranges where there is only an installation; and those of another version."""
        self.install(monkeypatch, tmp_path, version=version)
        place, first, *others = packages.package_facts(tmp_path / "heron")
        if version == VERSION:
            assert place.words.endswith("as installed") and first.words.endswith("(tested with >=1,<2)")
            assert [fact.name for fact in others] == ["rich", "extras not installed"] and others[-1].data == ["odd"]
        else:
            assert "0.0.1" in place.words and first.advice and not others

    def test_without_metadata(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a traceback in a folder of code that was never installed."""
        monkeypatch.setattr(requirements, "PACKAGE", "no-such-package")
        place, found = packages.package_facts(tmp_path / "heron")
        assert "not installed" in place.words and "pip install -e" in found.advice

    def install(self, monkeypatch: pytest.MonkeyPatch, home: Path, *, editable: bool = False, version: str = VERSION) -> None:
        """As if the package lay there."""
        folder = home / "heron_rl-1.dist-info"
        folder.mkdir(parents=True)
        lines = ("Metadata-Version: 2.1", "Name: heron-rl", f"Version: {version}", "Requires-Dist: torch>=1,<2", "Provides-Extra: odd",
                 "Provides-Extra: there", "Requires-Dist: absent-package; extra == 'odd'", "Requires-Dist: rich>=2; extra == 'there'")
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        if editable:
            (folder / "direct_url.json").write_text(json.dumps({"url": home.as_uri(), "dir_info": {"editable": True}}))
        real, found = importlib.metadata.distribution, importlib.metadata.Distribution.at(folder)
        monkeypatch.setattr("importlib.metadata.distribution", lambda name: found if name == "heron-rl" else real(name))


class TestNetwork:
    """Offline or not, and the ports."""

    def test_a_port_that_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a page that does not open, without a word on why."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            number = taken.getsockname()[1]
            monkeypatch.setattr(network, "PORTS", {number: "heron ui"})
            assert "taken" in network.network_facts()[-1].words and "heron ui --port" in network.network_facts()[-1].words
        assert network.network_facts()[-1].words == "free for heron ui"

    def test_the_ports_are_those_of_the_verbs(self) -> None:
        """Prevents: a report on ports that nobody opens any more."""
        import inspect

        from heron.cli.inspect import ui
        from heron.cli.use import serve

        assert [inspect.signature(verb).parameters["port"].default for verb in (ui, serve)] == list(network.PORTS)

    @pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", True), ("0", False), ("", False)])
    def test_offline(self, monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
        assert network.network_facts()[0].data is expected

    def test_a_token_of_a_login_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: "no token" for a user who has logged in."""
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("HF_TOKEN_PATH", raising=False)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        assert network.network_facts()[1].data is False
        (tmp_path / "token").write_text(SECRET)
        assert network.network_facts()[1].data is True and SECRET not in str(network.network_facts())


class TestStorage:
    """Room, caches."""

    def test_little_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a run that dies at its first checkpoint."""
        assert named(storage.storage_facts(tmp_path), "disk").data["path"] == str(tmp_path)
        monkeypatch.setattr(storage, "SCARCE", 2**60)
        assert "Make room" in named(storage.storage_facts(tmp_path), "disk").advice

    def test_caches(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.delenv("HF_HOME", raising=False)
        monkeypatch.delenv("HF_HUB_CACHE", raising=False)
        _, cache, hub = storage.storage_facts(tmp_path)
        assert "not made yet" in cache.words and "not made yet" in hub.words
        (tmp_path / "heron" / "embedded").mkdir(parents=True)
        (tmp_path / "heron" / "embedded" / "weights").write_bytes(bytes(3 * 2**20))
        (tmp_path / "huggingface" / "hub" / "models--a--b").mkdir(parents=True)
        _, cache, hub = storage.storage_facts(tmp_path)
        assert cache.words.endswith("heron, 3 MiB") and "models: 1," in hub.words


def test_no_sandbox_that_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a run with a reward that runs programs, which is refused only when it starts."""

    def refuse() -> str:
        raise SandboxError("bubblewrap: install it")

    monkeypatch.setattr("heron.sandbox.backend_name", refuse)
    (found,) = sandbox_facts()
    assert found.advice == "bubblewrap: install it"


def test_the_system_is_this_one() -> None:
    facts = system.system_facts()
    assert named(facts, "python").data == platform.python_version()
    assert named(facts, "cpu cores").data == len(os.sched_getaffinity(0))
