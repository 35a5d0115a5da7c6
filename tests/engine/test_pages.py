"""Pages: counts of readers, where free pages are taken from, and what freed pages are remembered to hold."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heron.engine.native.pages import Pages, names


def held(pages: Pages, *prefix: int, size: int = 2) -> list[int]:
    return pages.find(list(names(prefix, size)))


def test_own_pages_from_the_bottom_shared_ones_from_the_top() -> None:
    """Prevents: both kinds mixed, so that attention over one of them runs over the other's pages."""
    pages = Pages(5)
    assert [pages.take(shared=kind) for kind in (False, True, False, True, True)] == [0, 4, 1, 3, 2]
    assert pages.take(shared=False) is None
    assert pages.take(shared=True) is None


def test_freed_page_is_taken_again() -> None:
    """Prevents: a heap that loses a page that went by the other heap, or gives it out twice."""
    pages = Pages(3)
    taken = [pages.take(shared=False), pages.take(shared=True), pages.take(shared=False)]
    for page in taken:
        assert page is not None
        pages.release(page)
    assert pages.is_idle
    assert {pages.take(shared=True) for _ in range(3)} == {0, 1, 2}
    assert pages.take(shared=False) is None


def test_page_is_free_when_its_last_reader_leaves() -> None:
    pages = Pages(2)
    page = pages.take(shared=True)
    assert page is not None
    pages.hold(page)
    pages.release(page)
    assert pages.free == 1
    pages.release(page)
    assert pages.free == 2


def test_no_second_release_and_no_reader_of_a_free_page() -> None:
    """Prevents: a page that two branches write to because it was freed twice."""
    pages = Pages(2)
    page = pages.take(shared=False)
    assert page is not None
    pages.release(page)
    with pytest.raises(AssertionError, match="released once"):
        pages.release(page)
    with pytest.raises(AssertionError, match="taken, not held"):
        pages.hold(page)


def test_all_readers_move_and_the_name_with_them() -> None:
    """Prevents: a page that is found under its name after what it held has gone elsewhere."""
    pages = Pages(4)
    page, name = pages.take(shared=True), next(names((1, 2), 2))
    assert page is not None
    pages.hold(page)
    pages.remember(name, page)
    target = pages.take(shared=True)
    assert target is not None
    pages.move_all(page, to=target)
    assert (pages.readers[page], pages.readers[target], pages.free) == (0, 2, 3)
    assert pages.find([name]) == [target]


class TestNames:
    """Names of full pages."""

    def test_only_full_pages(self) -> None:
        assert [len(list(names(range(length), 3))) for length in range(8)] == [0, 0, 0, 1, 1, 1, 2, 2]

    def test_depend_on_all_before(self) -> None:
        """Prevents: a page found for another beginning; its keys were computed from that."""
        one, other = list(names((1, 2, 3, 4, 5, 6), 2)), list(names((9, 2, 3, 4, 5, 6), 2))
        assert not set(one) & set(other)
        assert list(names((1, 2, 3, 4, 7, 7), 2))[:2] == one[:2]
        assert len(set(one)) == 3

    def test_large_tokens(self) -> None:
        """Prevents: tokens cut to a byte or two: 1 and 65 537 are different words."""
        assert list(names((1, 1), 2)) != list(names((65_537, 1), 2))


class TestFinding:
    """What is found again."""

    def test_without_a_gap(self) -> None:
        """Prevents: the third page found though the second is gone; it would stand at the wrong place."""
        pages = Pages(4)
        all_names = list(names((1, 2, 3, 4, 5, 6), 2))
        for page, name in enumerate(all_names):
            pages.remember(name, page)
        assert pages.find(all_names) == [0, 1, 2]
        pages.remember(b"something else", 1)
        assert pages.find(all_names) == [0]

    def test_freed_page_keeps_its_name_until_taken(self) -> None:
        pages = Pages(2)
        page = pages.take(shared=True)
        assert page is not None
        pages.remember(next(names((1, 2), 2)), page)
        pages.release(page)
        assert held(pages, 1, 2) == [page]
        assert pages.take(shared=True) == page
        assert held(pages, 1, 2) == []

    def test_revived_page_is_no_longer_free(self) -> None:
        """Prevents: a page found again and given out to somebody else at once."""
        pages = Pages(2)
        page = pages.take(shared=True)
        assert page is not None
        pages.remember(next(names((1, 2), 2)), page)
        pages.release(page)
        assert pages.revive(page)
        assert not pages.revive(page), "it has a reader"
        assert (pages.free, pages.take(shared=True), pages.take(shared=False)) == (1, 0, None)
        assert held(pages, 1, 2) == [page]

    def test_one_page_per_name_and_one_name_per_page(self) -> None:
        """Prevents: a name that outlives its page because two pages held it."""
        pages = Pages(3)
        name, other = names((1, 2, 3, 4), 2)
        pages.remember(name, 0)
        pages.remember(name, 1)
        assert pages.find([name]) == [1]
        pages.remember(other, 1)
        assert pages.find([name]) == []
        pages.remember(name, 0)
        assert pages.find([name, other]) == [0, 1]


ACTION = st.tuples(st.sampled_from(["own", "shared", "hold", "release", "move", "name", "revive"]), st.integers(0, 99))


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(count=st.integers(1, 7), actions=st.lists(ACTION, max_size=60))
def test_against_a_plain_count(count: int, actions: list[tuple[str, int]]) -> None:
    """Prevents: any order of calls after which a page is lost, given out twice, or found under a name that it no longer holds."""
    pages, readers, content = Pages(count), Counter[int](), dict[int, bytes]()
    for number, (action, choice) in enumerate(actions):
        alive = sorted(page for page in readers if readers[page])
        chosen = alive[choice % len(alive)] if alive else None
        if action in ("own", "shared"):
            page = pages.take(shared=action == "shared")
            assert (page is None) == (len(alive) == count)
            if page is not None:
                assert page == (max if action == "shared" else min)(set(range(count)) - set(alive))
                readers[page] = 1
                content.pop(page, None)
        elif action == "revive":
            if (page := choice % count) not in alive:
                readers[page] = 1
                assert pages.revive(page)
        elif chosen is None:
            continue
        elif action == "name":
            content[chosen] = bytes([choice % 5])
            for page in [page for page, name in content.items() if name == content[chosen] and page != chosen]:
                del content[page]
            pages.remember(content[chosen], chosen)
        elif action == "move":
            if (target := pages.take(shared=bool(number % 2))) is not None:
                pages.move_all(chosen, to=target)
                readers[target] = readers.pop(chosen)
                content.pop(target, None)
                if chosen in content:
                    content[target] = content.pop(chosen)
        else:
            (pages.hold if action == "hold" else pages.release)(chosen)
            readers[chosen] += 1 if action == "hold" else -1
        assert pages.readers == [readers[page] for page in range(count)]
        assert pages.free == pages.readers.count(0)
        assert pages.is_idle == (pages.free == count)
        for name in (bytes([n]) for n in range(5)):
            assert pages.find([name]) == [page for page, known in content.items() if known == name]
