"""The scheduler without tensors, in random workloads: what is written to every cell of every page, and what every row would read there.

A cell's content is the whole beginning that its key depends on: all tokens up to its own. So a row that reads a wrong, stale, moved or
foreign cell is seen at once, whatever its tokens are.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence as List
from dataclasses import dataclass, field

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from heron.engine.native.pages import Pages, names
from heron.engine.native.scheduler import Chunk, Moves, Scheduler
from heron.engine.native.sequence import Branch, Sequence, new_sequence, same_so_far
from heron.types import Completion, FinishReason

Words = tuple[int, ...]
END = 3
"""Token that ends a completion."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked, and of what engine."""

    page_size: int
    spare: int
    """Pages beyond those that the longest completion needs."""
    max_rows: int
    chunk_tokens: int
    max_tokens: int
    prompts: tuple[Words, ...]
    siblings: tuple[int, ...]
    """Of each prompt."""
    variety: float
    """How often siblings draw for themselves; else all of a prompt draw alike."""

    @property
    def longest(self) -> int:
        return max(map(len, self.prompts)) + self.max_tokens

    @property
    def count(self) -> int:
        """Pages: what `pages_wanted` gives at least."""
        return -(-self.longest // self.page_size) + 1 + self.spare

    def word(self, request: int, sibling: int, place: int) -> int:
        """What this sibling says there, whatever it runs with."""
        alone = random.Random(f"{request} {sibling} {place}").random() < self.variety
        return random.Random(f"{request} {sibling if alone else None} {place} word").choice((0, 1, 2, 0, 1, 2, 0, END))

    def answer(self, request: int, sibling: int) -> Words:
        """All that it says."""
        words = [self.word(request, sibling, place) for place in range(self.max_tokens)]
        return tuple(words[: words.index(END) + 1] if END in words else words)

    def branches(self, said: dict[tuple[int, int], Completion]) -> list[Branch]:
        """What is to be sampled, as the engine queues it."""
        queue = []
        for number in sorted(range(len(self.prompts)), key=lambda n: -len(self.prompts[n])):
            rows = [new_sequence(number, s, self.prompts[number], 0, said.get((number, s))) for s in range(self.siblings[number])
                    if (number, s) not in said or said[number, s].finish_reason is FinishReason.PAUSED]
            for first in range(0, len(rows), self.max_rows):
                queue += same_so_far(rows[first : first + self.max_rows])
        return queue


@st.composite
def loads(draw: st.DrawFn) -> Load:
    """Short prompts of two words, many of which begin alike, on little room."""
    system = draw(st.lists(st.integers(0, 1), max_size=9))
    ends = draw(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 1), min_size=1, max_size=9)), min_size=1, max_size=6))
    prompts = tuple(tuple(system * common + end) for common, end in ends)
    return Load(
        page_size=draw(st.integers(1, 4)), spare=draw(st.integers(0, 6)), max_rows=draw(st.integers(1, 9)),
        chunk_tokens=draw(st.integers(1, 20)), max_tokens=draw(st.integers(1, 12)), prompts=prompts,
        siblings=tuple(draw(st.integers(0, 5)) for _ in prompts), variety=draw(st.sampled_from([0.0, 0.1, 0.3, 1.0])),
    )


@dataclass(kw_only=True)
class Room:
    """An engine without tensors: it plays `Session.step` and keeps what every cell holds."""

    load: Load
    pages: Pages
    cells: dict[tuple[int, int], Words] = field(default_factory=dict)
    """What each place of each page holds: all tokens up to that one."""
    finished: dict[tuple[int, int], Completion] = field(default_factory=dict)
    computed: int = 0
    """Prompt tokens."""
    peak: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(
            self.pages, page_size=self.load.page_size, max_rows=self.load.max_rows, chunk_tokens=self.load.chunk_tokens
        )

    def run(self, said: dict[tuple[int, int], Completion] | None = None, steps: int = 1 << 30) -> None:
        self.scheduler.waiting.extend(self.load.branches(said or {}))
        allowed = min(steps, 10 + sum(self.load.siblings) * self.load.max_tokens * (self.load.longest // self.load.chunk_tokens + 2))
        for self.steps in range(1, allowed + 1):
            if self.scheduler.is_done:
                return
            self.step()
        assert self.scheduler.is_done or steps == allowed, "requests wait for ever"

    def step(self) -> None:
        oldest = self.scheduler.running[:1]
        self.copy(self.scheduler.admit())
        chunks = self.scheduler.chunks()
        if chunks:
            branches = [chunk.branch for chunk in chunks if chunk.is_last]
            self.prefill(chunks)
            self.scheduler.computed(chunks)
        else:
            branches = self.scheduler.grow()
            assert branches[:1] == oldest, "the oldest row never gives way"
            self.decode(branches)
        self.check_tables()
        for branch in branches:
            for sequence in branch.sequences:
                self.say(sequence)
        self.copy(self.scheduler.settle(branches))
        self.copy(self.scheduler.compact())
        for branch in self.scheduler.running:
            assert len({tuple(sequence.token_ids) for sequence in branch.sequences}) == 1
            assert branch.length == branch.size - 1
            self.check_read(branch, branch.length)

    def copy(self, moves: Moves) -> None:
        targets = [to for _, to in moves]
        assert len(set(targets)) == len(targets), "two pages are copied to one"
        before = dict(self.cells)
        for page, to in moves:
            for offset in range(self.load.page_size):
                self.cells[to, offset] = before.get((page, offset), ())
        self.check_tables()
        self.check_known()

    def prefill(self, chunks: List[Chunk]) -> None:
        assert 0 < sum(chunk.end - chunk.begin for chunk in chunks) <= self.load.chunk_tokens
        for chunk in chunks:
            assert chunk.begin == chunk.branch.length < chunk.end <= chunk.branch.size
            self.computed += chunk.end - chunk.begin
            for place in range(chunk.begin, chunk.end):
                self.write(chunk.branch, place)
        for chunk in chunks:
            self.check_read(chunk.branch, chunk.end)

    def decode(self, branches: List[Branch]) -> None:
        for branch in branches:
            assert branch.length == branch.size - 1
            assert branch.length // self.load.page_size == len(branch.shared) + len(branch.own) - 1, "the next token goes to the last page"
            self.write(branch, branch.length)
            branch.length += 1
        for branch in branches:
            self.check_read(branch, branch.length)

    def write(self, branch: Branch, place: int) -> None:
        number, offset = divmod(place, self.load.page_size)
        page = [*branch.shared, *branch.own][number]
        assert self.pages.readers[page] == 1, "a page that others read is written"
        self.cells[page, offset] = branch.token_ids[: place + 1]

    def say(self, sequence: Sequence) -> None:
        place = len(sequence.token_ids)
        token = self.load.word(sequence.request, sequence.sibling, place)
        sequence.say(token, -float(place), 0.0, 0)
        if token == END or place + 1 == self.load.max_tokens:
            sequence.finish_reason = FinishReason.STOP if token == END else FinishReason.LENGTH
            assert (sequence.request, sequence.sibling) not in self.finished, "ended twice"
            self.finished[sequence.request, sequence.sibling] = sequence.completion(0)

    def check_read(self, branch: Branch, length: int) -> None:
        """What the branch would attend to is what it has said."""
        table, words = [*branch.shared, *branch.own], branch.token_ids
        for place in range(length):
            number, offset = divmod(place, self.load.page_size)
            assert self.cells[table[number], offset] == words[: place + 1]

    def check_tables(self) -> None:
        """Readers are the tables that hold a page; rows and pages are no more than allowed."""
        branches = [*self.scheduler.running, *self.scheduler.filling]
        readers = Counter(page for branch in branches for page in (*branch.shared, *branch.own))
        assert self.pages.readers == [readers[page] for page in range(self.load.count)]
        assert self.pages.free == self.pages.readers.count(0)
        assert all(readers[page] == 1 for branch in branches for page in branch.own)
        assert all(not (branch.shared or branch.own or branch.length) for branch in self.scheduler.waiting)
        for branch in branches:
            assert len(branch.shared) <= branch.size // self.load.page_size, "only full pages are shared"
        assert self.scheduler.rows <= self.load.max_rows
        self.peak = max(self.peak, self.pages.count - self.pages.free)

    def check_known(self) -> None:
        """A page that is found holds what it was looked for."""
        for words in (*self.load.prompts, *(branch.token_ids for branch in (*self.scheduler.running, *self.scheduler.waiting))):
            for number, page in enumerate(self.pages.find(list(names(words, self.load.page_size)))):
                for offset in range(self.load.page_size):
                    assert self.cells[page, offset] == words[: number * self.load.page_size + offset + 1]

    def check_answers(self) -> None:
        wanted = {(r, s): self.load.answer(r, s) for r, count in enumerate(self.load.siblings) for s in range(count)}
        assert {key: completion.token_ids for key, completion in self.finished.items()} == wanted
        for completion in self.finished.values():
            assert completion.logprobs == tuple(-float(place) for place in range(len(completion.token_ids)))
            assert completion.versions == ((0, len(completion.token_ids)),)
        assert self.pages.is_idle
        assert {self.pages.take(shared=bool(n % 2)) for n in range(self.load.count)} == set(range(self.load.count)), "a page was lost"


CHECKED = settings(max_examples=200, deadline=None, derandomize=True, database=None)


@CHECKED
@given(load=loads())
def test_every_row_reads_what_it_has_said(load: Load) -> None:
    """Prevents: pages leaked, freed twice, written while shared, overwritten by a copy; rows beyond the limit; requests that never end;
    tokens lost or doubled by preemption and forks."""
    room = Room(load=load, pages=Pages(load.count))
    room.run()
    event(f"preempted: {room.scheduler.preemptions > 0}")
    room.check_answers()


@CHECKED
@given(load=loads(), steps=st.integers(1, 30))
def test_paused_and_continued(load: Load, steps: int) -> None:
    """Prevents: pages that stay held after a pause, and old pages taken for what they do not hold in the next run of the same cache."""
    room = Room(load=load, pages=Pages(load.count))
    room.run(steps=steps)
    said = dict(room.finished)
    for branch in room.scheduler.stop():
        said |= {(s.request, s.sibling): s.completion(0) for s in branch.sequences}
    assert room.pages.is_idle
    assert room.scheduler.is_done
    assert set(said) == {(r, s) for r, count in enumerate(load.siblings) for s in range(count)}
    room.run(said)
    room.check_answers()


@CHECKED
@given(load=loads())
def test_again_in_the_same_cache(load: Load) -> None:
    """Prevents: freed pages that are found after they were overwritten."""
    pages = Pages(load.count)
    cells: dict[tuple[int, int], Words] = {}
    for _ in range(2):
        room = Room(load=load, pages=pages, cells=cells)
        room.run()
        assert pages.is_idle
    room.check_answers()


# What is wanted of some loads in particular


def load(**settings: object) -> Load:
    usual = {"page_size": 4, "spare": 50, "max_rows": 64, "chunk_tokens": 64, "max_tokens": 8, "variety": 1.0}
    return Load(**{**usual, **settings})  # type: ignore[arg-type]


def test_common_beginning_is_computed_once_per_cache() -> None:
    """Prevents: a system prompt computed again for every wave of requests."""
    system = (0, 1) * 8
    rooms = load(prompts=tuple((*system, 2, 0, n % 2, n) for n in range(6)), siblings=(1,) * 6, max_rows=2)
    room = Room(load=rooms, pages=Pages(rooms.count))
    room.run()
    room.check_answers()
    assert room.computed == 2 * 20 + 4 * 4


def test_prompt_again_computes_its_last_page_only() -> None:
    """Prevents: nothing left to compute, so that there are no logits to draw from."""
    again = load(prompts=((0, 1, 1, 0, 1, 0, 0, 1),), siblings=(1,))
    pages, cells = Pages(again.count), dict[tuple[int, int], Words]()
    counts = []
    for _ in range(2):
        room = Room(load=again, pages=pages, cells=cells)
        room.run()
        counts.append(room.computed)
    assert counts == [8, 4]


def test_tight_room_preempts_and_ends() -> None:
    """Prevents: tests of preemption that never preempt."""
    tight = load(prompts=((0, 1, 0),) * 4, siblings=(4,) * 4, spare=2, max_tokens=12)
    room = Room(load=tight, pages=Pages(tight.count))
    room.run()
    assert room.scheduler.preemptions > 3
    room.check_answers()


def test_siblings_share_their_prompt_and_what_they_say_alike() -> None:
    """Prevents: a row, or a copy of the prompt's pages, for every sibling."""
    alike = load(prompts=(tuple(range(3)) * 8,), siblings=(8,), variety=0.0)
    room = Room(load=alike, pages=Pages(alike.count))
    room.run()
    said = len(alike.answer(0, 0))
    assert room.peak <= -(-(24 + said) // 4)
    different = load(prompts=(tuple(range(3)) * 8,), siblings=(8,), variety=1.0)
    room = Room(load=different, pages=Pages(different.count))
    room.run()
    assert room.peak <= 6 + 8 * 2 + 1


def test_long_prompts_do_not_hold_each_other_up() -> None:
    """A chunk goes on with the next prompt where there is room in it, and breaks a prompt where there is not."""
    long = load(prompts=((0,) * 7, (1,) * 6, (2,) * 3), siblings=(1, 1, 1), chunk_tokens=8)
    room = Room(load=long, pages=Pages(long.count))
    room.scheduler.waiting.extend(long.branches({}))
    sizes = []
    while len(sizes) < 2:
        room.scheduler.admit()
        chunks = room.scheduler.chunks()
        room.scheduler.computed(chunks)
        sizes.append([(chunk.begin, chunk.end, chunk.is_last) for chunk in chunks])
    assert sizes == [[(0, 7, True), (0, 1, False)], [(1, 6, True), (0, 3, True)]]


def test_first_come_first_served() -> None:
    """Prevents: small requests that pass a large one again and again."""
    mixed = load(prompts=((0,) * 12, (1,) * 2, (2,) * 2), siblings=(4, 1, 1), max_rows=4)
    scheduler = Scheduler(Pages(mixed.count), page_size=4, max_rows=4, chunk_tokens=64)
    small, large = mixed.branches({})[1], mixed.branches({})[0]
    scheduler.waiting.extend([small, large, mixed.branches({})[2]])
    scheduler.admit()
    assert list(scheduler.filling) == [small]
    assert scheduler.waiting[0] is large


def test_those_that_give_way_come_before_those_that_wait() -> None:
    """Prevents: a row that gave way and waits behind all that came later, while what it has said grows old."""
    rows = load(prompts=((0,) * 4, (1,) * 4, (2,) * 4, (0, 1)), siblings=(1, 1, 1, 1))
    scheduler = Scheduler(Pages(4), page_size=4, max_rows=3, chunk_tokens=64)
    first, second, third, last = rows.branches({})
    for branch, page in zip((first, second, third), (0, 1, 2), strict=True):
        assert scheduler.pages.take(shared=False) == page
        branch.own, branch.length = [page], 4
        scheduler.running.append(branch)
    scheduler.waiting.append(last)
    assert scheduler.grow() == [first, second]
    assert list(scheduler.waiting) == [third, last]
    first.length, second.length = 8, 8
    assert scheduler.grow() == [first]
    assert list(scheduler.waiting) == [second, third, last]
    assert scheduler.preemptions == 2


@pytest.mark.parametrize("shared", [False, True])
def test_compact_closes_holes(shared: bool) -> None:
    """Prevents: attention over a long range of which little is read, after the rows between have ended."""
    pages = Pages(20)
    scheduler = Scheduler(pages, page_size=4, max_rows=64, chunk_tokens=64)
    taken = [page for _ in range(12) if (page := pages.take(shared=shared)) is not None]
    kept = [taken[1], taken[9], taken[11]]
    for page in set(taken) - set(kept):
        pages.release(page)
    for page in kept:
        branch = Branch(sequences=[new_sequence(0, 0, (1,) * 5, 0, None)])
        (branch.shared if shared else branch.own).append(page)
        scheduler.running.append(branch)
    moves = scheduler.compact()
    tables = [(*branch.shared, *branch.own) for branch in scheduler.running]
    near = [19, 18, 17] if shared else [0, 1, 2]
    assert sorted(page for table in tables for page in table) == sorted(near)
    assert dict(moves) == {before: table[0] for before, table in zip(kept, tables, strict=True) if before != table[0]}
    assert scheduler.compact() == []
