"""The lesson `grid`: an agent learns to walk from nothing but the score of whole games.

The one hard idea: nobody says which move was good. A group of games is played by the same policy; every move of a game that scored
better than its siblings becomes more probable, also the silly ones in it, and over many groups only the moves that help stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from heron.lessons.descent import improved
from heron.lessons.drawing import figure, signed, text
from heron.lessons.game import MOVES, Game, Played, play
from heron.objective import advantages
from heron.run import sparkline
from heron.run.text import share

RATE = 20.0
"""Learning rate. It is large since a table has a number of its own for every state: a move changes that state's alone."""
STYLES = {"M": "red", "o": "yellow", "#": "dim", "S": "bold"}
ROWS = 5
"""Of the table of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What came of it."""

    game: Game
    """The board."""
    scores: list[float]
    """Mean score of each step's games."""
    monsters: list[float]
    """Share of each step's games that ended at a monster."""
    signals: list[bool]
    """Whether the games of a step differed in their scores."""
    before: Played
    """A game of the untrained policy."""
    after: Played
    """A game of the trained one."""


def learn(*, steps: int, games: int, seed: int) -> Learnt:
    """`steps` times: play a group of games, compare their scores, take one step of gradient descent."""
    game, generator = Game.of(), torch.Generator().manual_seed(seed)
    table = torch.zeros(len(game.states), len(MOVES), dtype=torch.float64)  # every move as probable as any other
    before = play(game, table.softmax(1), 1, generator)
    scores, monsters, signals = [], [], []
    for _ in range(steps):
        played = play(game, table.softmax(1), games, generator)
        (better,) = advantages([played.scores])
        table = improved(table, partial(_logprobs, played), played.lengths, better, rate=RATE)
        scores.append(fmean(played.scores))
        monsters.append(fmean(_met_monster(game, played)))
        signals.append(any(better))
    return Learnt(game=game, scores=scores, monsters=monsters, signals=signals, before=before,
                  after=play(game, table.softmax(1), 1, generator))


def _logprobs(played: Played, table: Tensor) -> Tensor:
    """`[N]` of each move."""
    return table.log_softmax(1)[played.states, played.moves]


def _met_monster(game: Game, played: Played) -> list[bool]:
    last = torch.tensor(played.lengths).cumsum(0) - 1  # [G] the last move of each game
    return (game.gain[played.states[last], played.moves[last]] < 0).tolist()


def shown(learnt: Learnt) -> list[RenderableType]:
    """The board with both ways, the scores over the steps, and what it teaches."""
    best, steps = learnt.game.beans, len(learnt.scores)
    boards = Table.grid(padding=(0, 4))
    boards.add_row("the board", "untrained", f"after {steps} steps", style="bold")
    boards.add_row(_board(learnt.game, None), _board(learnt.game, learnt.before), _board(learnt.game, learnt.after))
    boards.add_row("", *(f"score {signed(played.scores[0], 0)} in {played.lengths[0]} moves" for played in (learnt.before, learnt.after)))
    return [
        boards, text("S start, o bean +1, M monster -1 and the end, # wall. An arrow is the last move made from there."), _steps(learnt),
        text(f"mean score, step by step: {sparkline(learnt.scores)}  (the best possible is {best})"),
        text(f"In {sum(not signal for signal in learnt.signals)} of {steps} steps all games scored the same: nothing was learnt from them. "
             "No move was ever called good or bad."),
    ]


def _board(game: Game, played: Played | None) -> Text:
    """The board; with the moves of a game, and without what it ate."""
    arrows, eaten = dict[tuple[int, int], str](), frozenset[tuple[int, int]]()
    for state, move in zip(played.states.tolist(), played.moves.tolist(), strict=True) if played else ():
        arrows[game.states[state].place] = list(MOVES)[move]
        eaten = game.states[int(game.following[state, move])].eaten
    drawn = Text()
    for row, line in enumerate(game.board):
        for column, sign in enumerate(line):
            left = "." if (row, column) in eaten else sign
            drawn.append(arrows.get((row, column), left) + " ", style="green" if (row, column) in arrows else STYLES.get(left, "dim"))
        drawn.append("\n")
    return drawn


def _steps(learnt: Learnt) -> Table:
    """A few steps of the run, evenly spread, the last among them."""
    drawn = figure("step", "mean score", "games that met the monster")
    last = len(learnt.scores)
    for step in sorted({1 + round(index * (last - 1) / (ROWS - 1)) for index in range(ROWS)}):
        drawn.add_row(str(step), signed(learnt.scores[step - 1]), share(learnt.monsters[step - 1]))
    return drawn
