"""Messages on a line between a client and a supervisor: a length, then JSON.

The hard idea: both ends are ours; what a program said is only ever a string in them, cut to its cap before it is sent.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any


class LineClosed(Exception):
    """The other end is gone."""


def receive(line: socket.socket) -> Any:
    """One message."""
    (length,) = struct.unpack("=Q", _exactly(line, 8))
    return json.loads(_exactly(line, length))


def send(line: socket.socket, message: Any) -> None:
    """One message."""
    content = json.dumps(message).encode()
    line.sendall(struct.pack("=Q", len(content)) + content)


def _exactly(line: socket.socket, length: int) -> bytes:
    content = bytearray()
    while len(content) < length:
        if not (part := line.recv(min(1 << 20, length - len(content)))):
            raise LineClosed("the line was closed")
        content += part
    return bytes(content)
