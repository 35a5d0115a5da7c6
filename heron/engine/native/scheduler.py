"""What runs next: plain integers, no tensors.

The one hard idea: a row may run only if its pages are there. A branch is admitted when the pages of what it has said are free, with one
to spare for each of its siblings. When a running branch needs a page and none is free, the youngest one gives back all of its pages and
waits at the head of the queue; later it is computed again from its tokens. The oldest branch never gives way, so every request
ends. What it leaves out: what the tokens are, and the copies of pages (it says which, `moves`; the store does them).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator
from collections.abc import Sequence as List
from dataclasses import dataclass

from heron.engine.native.pages import Pages, names
from heron.engine.native.sequence import Branch, Sequence

Moves = list[tuple[int, int]]
"""Pages to copy: `(from, to)`. All are read before any is written."""

DENSE = 0.75
"""Pages are moved together when less than this share of their range is in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Tokens of one branch to compute now."""

    branch: Branch
    """Whose."""
    begin: int
    """The first token; those before it are in the branch's pages."""
    end: int
    """Behind the last one."""

    @property
    def is_last(self) -> bool:
        """After it the branch's next token can be drawn."""
        return self.end == self.branch.size


class Scheduler:
    """Queue and rows of one engine."""

    def __init__(self, pages: Pages, *, page_size: int, max_rows: int, chunk_tokens: int) -> None:
        self.pages = pages
        self.page_size = page_size
        self.max_rows = max_rows
        self.chunk_tokens = chunk_tokens
        self.waiting: deque[Branch] = deque()
        self.filling: deque[Branch] = deque()
        self.running: list[Branch] = []
        self.preemptions = 0

    @property
    def is_done(self) -> bool:
        """Nothing waits and nothing runs."""
        return not (self.waiting or self.filling or self.running)

    @property
    def rows(self) -> int:
        """Completions in the making; each may become a row of its own."""
        return sum(len(branch.sequences) for branch in (*self.filling, *self.running))

    # Beginning

    def admit(self) -> Moves:
        """Give pages to waiting branches, first come first served. What freed pages still hold of them is copied, not computed."""
        admitted: list[tuple[Branch, list[int], list[bool]]] = []
        owed = 0  # pages that these still take; what they find is kept from each other first
        while self.waiting and self._has_room(self.waiting[0], owed):
            branch = self.waiting.popleft()
            known = self.pages.find(list(names(branch.token_ids, self.page_size))[: (branch.size - 1) // self.page_size])
            revived = [self.pages.revive(page) for page in known]
            owed += -(-branch.size // self.page_size) - sum(revived)
            admitted.append((branch, known, revived))
            self.filling.append(branch)
        return [move for branch, known, revived in admitted for move in self._furnish(branch, known, revived)]

    def chunks(self) -> list[Chunk]:
        """Tokens of admitted branches to compute in the next forward pass, at most `chunk_tokens`."""
        chosen: list[Chunk] = []
        room = self.chunk_tokens
        while self.filling and room > 0:
            branch = self.filling[0]
            end = min(branch.size, branch.length + room)
            chosen.append(Chunk(branch=branch, begin=branch.length, end=end))
            room -= end - branch.length
            if end < branch.size:
                break
            self.running.append(self.filling.popleft())
        return chosen

    def computed(self, chunks: Iterable[Chunk]) -> None:
        """Their keys and values are in their pages now, full ones to be found again."""
        for chunk in chunks:
            branch = chunk.branch
            branch.length = chunk.end
            full = branch.shared[: chunk.end // self.page_size]
            for name, page in zip(names(branch.token_ids, self.page_size), full, strict=False):
                self.pages.remember(name, page)

    def _has_room(self, branch: Branch, owed: int) -> bool:
        idle = not (self.filling or self.running)
        needed = -(-branch.size // self.page_size) + len(branch.sequences)
        return idle or (self.rows + len(branch.sequences) <= self.max_rows and needed <= self.pages.free - owed)

    def _furnish(self, branch: Branch, known: List[int], revived: List[bool]) -> Moves:
        """Pages for all that a branch has said: full ones to be shared, the rest its own."""
        full, rest = divmod(branch.size, self.page_size)
        branch.shared = [page if alive else self._page(shared=True) for page, alive in zip(known, revived, strict=True)]
        moves = [(page, target) for page, target in zip(known, branch.shared, strict=True) if page != target]
        branch.shared += [self._page(shared=True) for _ in range(full - len(known))]
        branch.own = [self._page(shared=False)] if rest else []
        branch.length = len(known) * self.page_size
        return moves

    def _page(self, *, shared: bool) -> int:
        page = self.pages.take(shared=shared)
        assert page is not None, "room was counted before pages are taken"
        return page

    # Going on

    def grow(self) -> list[Branch]:
        """The running branches, each with a place for its next token; the youngest give way where pages run out."""
        number = 0
        while number < len(self.running):
            branch = self.running[number]
            if branch.length % self.page_size == 0:
                while (page := self.pages.take(shared=False)) is None and self.running[-1] is not branch:
                    self._preempt(self.running.pop())
                if page is None:
                    self._preempt(self.running.pop())
                    break
                branch.own.append(page)
            number += 1
        return list(self.running)

    def settle(self, branches: Iterable[Branch]) -> Moves:
        """Let go of what has ended among branches that have just drawn a token, and fork those whose siblings differ."""
        moves: Moves = []
        stay: list[Branch] = []
        drawn = set(map(id, branches))
        for branch in self.running:
            parts = branch.split() if id(branch) in drawn else [branch.sequences]
            if not parts:
                self._let_go(branch)
                continue
            branch.sequences = parts[0]
            stay.append(branch)
            for part in parts[1:]:
                fork = Branch(sequences=part)
                if (needed := self._fork(branch, fork)) is None:
                    self.waiting.appendleft(fork)
                else:
                    moves += needed
                    stay.append(fork)
        self.running = stay
        return moves

    def _fork(self, branch: Branch, fork: Branch) -> Moves | None:
        """Pages for a new branch that begins like another; None if there are not enough."""
        full, rest = divmod(branch.length, self.page_size)
        own_full = full - len(branch.shared)
        if self.pages.free < min(own_full, 1) + (1 if rest else 0):
            return None
        moves: Moves = []
        for page in branch.own[:own_full]:  # several will read it from now on
            target = self._page(shared=True)
            self.pages.move_all(page, to=target)
            moves.append((page, target))
            branch.shared.append(target)
        del branch.own[:own_full]
        for page in branch.shared:
            self.pages.hold(page)
        fork.shared, fork.length = list(branch.shared), branch.length
        if rest:
            fork.own = [self._page(shared=False)]
            moves.append((branch.own[0], fork.own[0]))
        return moves

    def _preempt(self, branch: Branch) -> None:
        self._let_go(branch)
        self.waiting.appendleft(branch)
        self.preemptions += 1

    def _let_go(self, branch: Branch) -> None:
        for page in (*branch.shared, *branch.own):
            self.pages.release(page)
        branch.shared, branch.own, branch.length = [], [], 0

    def drop(self, sequences: Container[Sequence]) -> None:
        """Take these out, wherever they are; pages that no other reads are free again."""
        for queue in (self.waiting, self.filling, self.running):
            for branch in list(queue):
                branch.sequences = [sequence for sequence in branch.sequences if sequence not in sequences]
                if not branch.sequences:
                    self._let_go(branch)
                    queue.remove(branch)

    def stop(self) -> Iterator[Branch]:
        """End everything: all pages are free again. Yields what was open."""
        for branch in (*self.running, *self.filling, *self.waiting):
            self._let_go(branch)
            yield branch
        self.running, self.filling, self.waiting = [], deque(), deque()

    # Keeping pages together

    def compact(self) -> Moves:
        """Move pages into holes where few of a range are in use, so that attention does not run over what nobody reads."""
        return [*self._compact(shared=False), *self._compact(shared=True)]

    def _compact(self, *, shared: bool) -> Moves:
        holders: dict[int, list[list[int]]] = {}
        for branch in (*self.running, *self.filling):
            pages = branch.shared if shared else branch.own
            for page in pages:
                holders.setdefault(page, []).append(pages)
        count = self.pages.count
        far = sorted(holders, reverse=not shared)  # farthest from its end of the range first
        span = 0 if not far else count - far[0] if shared else far[0] + 1
        if len(far) >= DENSE * span:
            return []
        moves: Moves = []
        for page in far:
            target = self.pages.take(shared=shared)
            if target is None:
                break
            if (target < page) == shared:  # no hole is left on the near side
                self.pages.release(target)
                break
            self.pages.move_all(page, to=target)
            moves.append((page, target))
            for pages in holders[page]:
                pages[pages.index(page)] = target
        return moves
