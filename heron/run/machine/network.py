"""What leaves this machine, and what listens on it: offline or not, a token or none, the ports that the verbs take by default.

Left out: whether the network can be reached. To find out, something would have to be sent.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from heron.run.machine.environment import has_hub_token, offline_switch
from heron.run.machine.fact import Fact

PORTS: Mapping[int, str] = {7860: "heron ui", 8000: "heron serve"}
"""By what they are taken unless another is named."""


def network_facts() -> list[Fact]:
    """Offline state, token, ports."""
    return [_offline(), _token(), *(_port(number, verb) for number, verb in PORTS.items())]


def _offline() -> Fact:
    switch = offline_switch()
    words = f"yes, by {switch}: models and data come from folders and the cache alone" if switch else (
        "no: models and data that are named by a hub id are downloaded if they are not there")
    return _fact("offline", words, switch is not None)


def _token() -> Fact:
    there = has_hub_token()
    return _fact("Hugging Face token", "there" if there else "none, so models behind a licence cannot be downloaded", there)


def _port(number: int, verb: str) -> Fact:
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", number))
        except OSError as refusal:
            words = f"taken by another program ({refusal.strerror}); name another with: {verb} --port NUMBER"
            return _fact(f"port {number}", words, {"verb": verb, "is_free": False})
    return _fact(f"port {number}", f"free for {verb}", {"verb": verb, "is_free": True})


def _fact(name: str, words: str, data: object) -> Fact:
    return Fact(group="network", name=name, words=words, data=data)
