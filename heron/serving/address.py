"""Where a server may listen, and with what."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from heron.errors import ConfigError


def check_address(host: str, port: int, token: str | None) -> None:
    """ConfigError where a server may not listen, or only with a token."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"port must be between 0 and 65535, but it is {port}.")
    if token is not None and (not token.strip() or not token.isascii()):
        raise ConfigError("token must be ASCII text that is not empty. Make one with: openssl rand -hex 32")
    if token is None and not is_loopback(host):
        raise ConfigError(f"host {host} can be reached from other machines, so a token is required. Give a file that holds one, "
                          "--token-file FILE (in Python: token=...), or listen on 127.0.0.1.")


def token_in(file: Path) -> str:
    """The token that a file holds, without the blanks around it. ConfigError if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {file} cannot be read: {error}. Make one with: openssl rand -hex 32 > {file}") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
