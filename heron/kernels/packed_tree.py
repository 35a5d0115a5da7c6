"""From rows of packed tokens to the tree that they form.

The one hard idea: rows that begin alike are a tree, and in depth-first order (preorder) everything below a token is one range.
So "is an ancestor of" becomes two comparisons of numbers, and "all that comes after this prompt" becomes a slice. What it leaves
out: tokens, models and devices; it sees packed indices alone, in whatever order they were packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A longest run of tokens that no row leaves in between. Numbers are places in preorder."""

    begin: int
    """Its first token."""
    end: int
    """Behind its last token: here its branches begin."""
    stop: int
    """Behind everything that continues it."""
    leaves: int
    """Rows that run through it (or end in it) and end in different tokens."""
    parent: int | None
    """Number of the chain that it continues, in the order of `Tree.chains`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Rows of packed tokens, their common beginnings merged."""

    order: tuple[int, ...]
    """`[T]` packed index of the token at each place in preorder."""
    depth: tuple[int, ...]
    """`[T]` how many tokens stand before it in its row, by place."""
    stop: tuple[int, ...]
    """`[T]` the place behind its last descendant, by place. Place j is seen from place i iff `j <= i < stop[j]`."""
    chains: tuple[Chain, ...]
    """In preorder: a chain stands before those that continue it."""

    @property
    def is_ordered(self) -> bool:
        """Whether the tokens are packed in preorder already."""
        return all(place == packed for place, packed in enumerate(self.order))


def tree_of(rows: Sequence[Sequence[int]]) -> Tree:
    """The tree of rows of packed indices, each in reading order; together they hold every index from 0 on."""
    children, roots = _children(rows)
    order, depth, parents, starts = _preorder(children, roots)
    assert sorted(order) == list(range(len(order))), "every packed token stands in a row"
    sizes, leaves = [1] * len(order), [0] * len(order)  # by place
    for place in reversed(range(len(order))):
        leaves[place] = leaves[place] or 1
        if (parent := parents[place]) is not None:
            sizes[parent] += sizes[place]
            leaves[parent] += leaves[place]
    stop = tuple(place + size for place, size in enumerate(sizes))
    return Tree(order=tuple(order), depth=tuple(depth), stop=stop, chains=_chains(starts, parents, stop, leaves))


def _children(rows: Sequence[Sequence[int]]) -> tuple[dict[int, list[int]], list[int]]:
    """The tokens that follow each packed token, and those that begin a row, as they come."""
    depth: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    roots: list[int] = []
    for row in rows:
        known = len(row)
        while known and row[known - 1] not in depth:
            known -= 1
        assert not known or depth[row[known - 1]] == known - 1, "a token has one place in all rows that hold it"
        for place in range(known, len(row)):
            depth[row[place]] = place
            children[row[place]] = []
            (children[row[place - 1]] if place else roots).append(row[place])
    return children, roots


def _preorder(
    children: dict[int, list[int]], roots: Sequence[int]
) -> tuple[list[int], list[int], list[int | None], list[int]]:
    """By place: packed index, depth, place of the parent; and the places at which chains begin."""
    order: list[int] = []
    depth: list[int] = []
    parents: list[int | None] = []
    starts: list[int] = []
    waiting: list[tuple[int, int | None]] = [(root, None) for root in reversed(roots)]
    while waiting:
        token, parent = waiting.pop()
        place = len(order)
        if parent is None or parent + 1 != place or len(children[order[parent]]) > 1:
            starts.append(place)
        order.append(token)
        parents.append(parent)
        depth.append(0 if parent is None else depth[parent] + 1)
        waiting += [(child, place) for child in reversed(children[token])]
    return order, depth, parents, starts


def _chains(starts: Sequence[int], parents: Sequence[int | None], stop: Sequence[int], leaves: Sequence[int]) -> tuple[Chain, ...]:
    chains: list[Chain] = []
    ends: dict[int, int] = {}  # place of a chain's last token to the chain's number
    for number, (begin, end) in enumerate(zip(starts, [*starts[1:], len(parents)], strict=True)):
        parent = parents[begin]
        ends[end - 1] = number
        chains.append(Chain(
            begin=begin, end=end, stop=stop[begin], leaves=leaves[begin], parent=None if parent is None else ends[parent],
        ))
    return tuple(chains)
