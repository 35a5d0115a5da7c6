"""Who holds which page of the cache. Plain integers; the tensors are in `store`.

The one hard idea: pages that one row reads are taken from the bottom, pages that several may read from the top. So both kinds lie
close together, and attention over each is one product over one range (`kernels.paged`), holes masked. Freed pages remember what they
held until they are taken again: a prompt that comes back (a second turn, a preempted row, a common system prompt) finds them.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections.abc import Iterator, Sequence

PAGE = 32
"""Tokens of a page. Shorter wastes less behind the last token; longer means fewer and larger products."""


class Pages:
    """Counts of readers; a page without any is free."""

    def __init__(self, count: int) -> None:
        self.readers = [0] * count
        self.free = count
        self._bottom = _Heap(range(count))
        self._top = _Heap(range(0, -count, -1))  # negated
        self._held: dict[int, bytes] = {}
        self._known: dict[bytes, int] = {}

    @property
    def count(self) -> int:
        """Of all pages."""
        return len(self.readers)

    @property
    def is_idle(self) -> bool:
        """Nobody reads any."""
        return self.free == self.count

    def take(self, *, shared: bool) -> int | None:
        """A free page with one reader from now on: the lowest, or the highest for sharing. None if all are taken."""
        if self.free == 0:
            return None
        heap, sign = (self._top, -1) if shared else (self._bottom, 1)
        page = sign * heap.pop()
        while self.readers[page]:
            page = sign * heap.pop()
        return self._taken(page)

    def revive(self, page: int) -> bool:
        """Take this very page, with what it holds, if it is free."""
        if self.readers[page]:
            return False
        self.readers[page], self.free = 1, self.free - 1
        return True

    def hold(self, page: int) -> None:
        """One more reader of a page that has some."""
        assert self.readers[page] > 0, "a free page is taken, not held"
        self.readers[page] += 1

    def release(self, page: int) -> None:
        """One reader less."""
        assert self.readers[page] > 0, "a page is released once by each reader"
        self.readers[page] -= 1
        if self.readers[page] == 0:
            self.free += 1
            self._bottom.push(page)
            self._top.push(-page)

    def move_all(self, page: int, *, to: int) -> None:
        """All readers of a page read `to`, which was taken for it."""
        self.readers[to] = self.readers[page]
        self.readers[page] = 1
        if (name := self._held.get(page)) is not None:
            self.remember(name, to)
        self.release(page)

    def remember(self, name: bytes, page: int) -> None:
        """The page holds what has this name (see `names`)."""
        self._forget(page)
        if (before := self._known.get(name)) is not None:
            del self._held[before]
        self._known[name], self._held[page] = page, name

    def find(self, names: Sequence[bytes]) -> list[int]:
        """Pages that hold the first of these, as far as they are known without a gap."""
        found: list[int] = []
        for name in names:
            if (page := self._known.get(name)) is None:
                break
            found.append(page)
        return found

    def _taken(self, page: int) -> int:
        self._forget(page)
        self.readers[page], self.free = 1, self.free - 1
        return page

    def _forget(self, page: int) -> None:
        if (name := self._held.pop(page, None)) is not None:
            del self._known[name]


class _Heap:
    """Smallest number first; each number at most once. Numbers may be out of date: whoever takes one looks."""

    def __init__(self, numbers: range) -> None:
        self._numbers = sorted(numbers)
        self._inside = set(numbers)

    def push(self, number: int) -> None:
        if number not in self._inside:
            self._inside.add(number)
            heapq.heappush(self._numbers, number)

    def pop(self) -> int:
        number = heapq.heappop(self._numbers)
        self._inside.discard(number)
        return number


def names(token_ids: Sequence[int], size: int) -> Iterator[bytes]:
    """What each full page of these tokens holds: a digest of all tokens up to its end, since keys depend on everything before them."""
    digest = hashlib.blake2b(digest_size=16)
    for begin in range(0, len(token_ids) - size + 1, size):
        digest.update(array("q", token_ids[begin : begin + size]).tobytes())
        yield digest.digest()
