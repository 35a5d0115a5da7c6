"""The game of the lesson `grid`: walk over a small board, eat beans, don't meet a monster.

The one hard idea: the whole game is three tables over (state, move), made once, so that all games of a group are played at the same
time. A state is a place and the beans that are eaten; the same place with other beans left is another state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BOARD = ("S.M.o", ".#.#.", "..o..", ".M#.o")
"""S start, o bean, M monster, # wall."""
MOVES = {"↑": (-1, 0), "↓": (1, 0), "←": (0, -1), "→": (0, 1)}
"""Rows and columns by arrow."""
LONGEST = 16
"""Moves after which a game is over."""

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class State:
    """Where one is, and what is eaten."""

    place: Place
    """Row and column."""
    eaten: frozenset[Place]
    """Beans that are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Game:
    """A board as tables."""

    board: Sequence[str]
    """Its rows."""
    states: Sequence[State]
    """All that can be reached; the first is the start."""
    following: Tensor
    """`[S, 4]` int64: the state behind each move."""
    gain: Tensor
    """`[S, 4]` +1 for a bean, -1 for a monster."""
    is_over: Tensor
    """`[S, 4]` bool: the move ends the game, by a monster or with the last bean."""

    @classmethod
    def of(cls, board: Sequence[str] = BOARD) -> Game:
        """All states in the order in which they are first reached."""
        states, rows = [State(_places(board, "S")[0], frozenset())], []
        for state in states:  # grows while it is gone through
            after = [_moved(board, state, move) for move in MOVES.values()]
            states += [each for each in dict.fromkeys(each for each, _, _ in after) if each not in states]
            rows.append([(states.index(each), gain, is_over) for each, gain, is_over in after])
        return cls(
            board=board, states=states, following=torch.tensor([[each for each, _, _ in row] for row in rows]),
            gain=torch.tensor([[gain for _, gain, _ in row] for row in rows], dtype=torch.float64),
            is_over=torch.tensor([[is_over for _, _, is_over in row] for row in rows]),
        )

    @property
    def beans(self) -> int:
        """The best score there is."""
        return len(_places(self.board, "o"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """G games from the start to their ends, move by move, one game behind the other."""

    states: Tensor
    """`[N]` int64, the state of each move."""
    moves: Tensor
    """`[N]` int64."""
    lengths: list[int]
    """Moves of each game."""
    scores: list[float]
    """Of each game, told when it is over."""


def play(game: Game, choices: Tensor, games: int, generator: torch.Generator) -> Played:
    """Games with moves drawn from the probabilities `choices [S, 4]`."""
    state, is_on = torch.zeros(games, dtype=torch.int64), torch.ones(games, dtype=torch.bool)
    score, seen = torch.zeros(games, dtype=torch.float64), []
    for _ in range(LONGEST):
        move = torch.multinomial(choices[state], 1, generator=generator)[:, 0]  # [G]
        seen.append((state, move, is_on))
        score = score + game.gain[state, move] * is_on
        state, is_on = torch.where(is_on, game.following[state, move], state), is_on & ~game.is_over[state, move]
    states, moves, was_on = (torch.stack(column, dim=1) for column in zip(*seen, strict=True))  # [G, LONGEST]
    return Played(states=states[was_on], moves=moves[was_on], lengths=was_on.sum(1).tolist(), scores=score.tolist())


def _moved(board: Sequence[str], state: State, move: Place) -> tuple[State, float, bool]:
    """The state behind a move, what it gains, and whether the game is over; into a wall one stays where one is."""
    row, column = state.place[0] + move[0], state.place[1] + move[1]
    is_inside = 0 <= row < len(board) and 0 <= column < len(board[0]) and board[row][column] != "#"
    place = (row, column) if is_inside else state.place
    sign = board[place[0]][place[1]]
    is_bean = sign == "o" and place not in state.eaten
    eaten = state.eaten | {place} if is_bean else state.eaten
    return State(place, eaten), float(is_bean) - float(sign == "M"), sign == "M" or len(eaten) == len(_places(board, "o"))


def _places(board: Sequence[str], sign: str) -> list[Place]:
    return [(row, column) for row, line in enumerate(board) for column, found in enumerate(line) if found == sign]
