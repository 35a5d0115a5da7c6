"""Seeds from small integers: what is drawn for (seed, prompt, sibling, turn) is the same on every machine and in every order."""

from __future__ import annotations

import hashlib


def derived_seed(*parts: int) -> int:
    """A 63-bit seed, which is what torch takes."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
