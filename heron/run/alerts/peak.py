"""The best that the reward has been, and whether it has fallen from there by more than chance does.

The one hard idea: a mean over a window jumps about by itself, and most where a step has few problems; and the best of many windows is
high by luck, more so the more there were. So a fall counts only beyond a noise that the run itself shows: how far each step lies from the
one before. Where a step has many problems it is known at once: how far rewards lie apart, over the root of the problems. (The longest jump
may then be the fall itself, and is left out.)

Left out: why it fell. Problems that become harder look the same.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from statistics import fmean

BEST_OF = (1, 5, 20, 40)
"""Steps in a row whose mean may be the best so far."""
NEWEST = (3, 5, 10, 15, 20, 30)
"""Newest steps whose mean is compared with it."""
ENOUGH_GROUPS = 4
"""Problems in a step from which on one step tells something: how far its rewards lie apart is then known, and a single step may be best."""
ENOUGH_STEPS = 20
"""Steps from which on it is known how far one lies from the next."""
LIKELY = 2.0
"""Standard errors beyond which a fall is likely."""
MOST_GROUPS = 512
"""Problems in a step that are told from the shares they make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """The reward is lower than it was."""

    best: float
    """Mean over the best window."""
    last: int
    """The step that window ended with."""
    steps: int
    """How many it has."""
    now: float
    """Mean over the newest steps."""
    newest: int
    """How many these are."""


class Peak:
    """Fed with every step, however many; what it keeps stays the same."""

    def __init__(self) -> None:
        self.best: dict[int, tuple[float, int]] = {}
        """By steps in a row: the highest mean, and the step that they ended with."""
        self._newest: deque[float] = deque(maxlen=max(*BEST_OF, *NEWEST))
        self._steps, self._jumps, self._jump, self._spread, self._groups = 0, 0.0, 0.0, 0.0, 1
        self._high, self._low = -math.inf, math.inf
        self._recent: deque[int] = deque(maxlen=max(*BEST_OF, *NEWEST))

    def add(self, step: int, reward: float, spread: float = 0.0, shares: Iterable[float] = ()) -> None:
        """The next step's mean reward, how far its rewards lie apart, and shares of its groups, which tell how many there are at least: 5/8
        takes eight."""
        jump = (reward - self._newest[-1]) ** 2 if self._newest else 0.0
        self._jumps, self._jump = self._jumps + jump, max(self._jump, jump)
        self._steps, self._spread = self._steps + 1, max(self._spread, spread)
        self._high, self._low = max(self._high, reward), min(self._low, reward)
        self._newest.append(reward)
        self._recent.append(step)
        self._groups = max(self._groups, *(_groups(share) for share in shares if not float(share * self._groups).is_integer()), 1)
        for count in BEST_OF:
            mean = self._mean(count)
            if mean is not None and (count not in self.best or mean > self.best[count][0]):
                self.best[count] = mean, step

    def is_falling(self) -> bool:
        """A fall is likely, and may be certain in a few steps."""
        return self._fall(self._falls(NEWEST), LIKELY) is not None

    def fall(self) -> Fall | None:
        """From the best, if it is certain: beyond what the luckiest of all windows would show."""
        if self._tells:
            return self._fall(self._falls(NEWEST), self._needed())
        return self._fall(self._falls(NEWEST[1:]), self._needed()) if self._steps >= ENOUGH_STEPS else None

    def _fall(self, falls: Iterable[Fall], needed: float) -> Fall | None:
        """The first that is much, and so many standard errors."""
        noise, much = self._noise(), self._much()
        for fall in falls:
            reach = max(needed * noise * math.sqrt(1 / fall.steps + 1 / fall.newest), much)
            if fall.best - fall.now > reach:
                return fall
        return None

    def _falls(self, windows: Iterable[int]) -> Iterator[Fall]:
        """From each window that was best to those of the newest steps that came after it."""
        for newest in windows:
            if (now := self._mean(newest)) is None:
                return
            for count, (best, last) in self.best.items():
                if last < self._recent[-newest] and (count > 1 or self._tells):
                    yield Fall(best=best, last=last, steps=count, now=now, newest=newest)

    @property
    def _tells(self) -> bool:
        """One step tells something."""
        return self._groups >= ENOUGH_GROUPS and self._spread > 0

    def _needed(self) -> float:
        """The difference of the highest and the lowest of n draws is about 2 sqrt(ln n) standard errors of a difference; some more, since
        the windows are of several lengths and the noise is an estimate."""
        return max(4.0, 2 * math.sqrt(math.log(max(1, self._steps)))) + (0.75 if self._tells else 1.5)

    def _much(self) -> float:
        """Half of how far the rewards of one step lie apart; of steps that do not tell, a third of how far they have lain apart."""
        return max(0.5 * self._spread, 0.0 if self._tells else (self._high - self._low) / 3, 1e-9)

    def _noise(self) -> float:
        """Standard deviation of a step's mean reward."""
        by_groups = self._spread / math.sqrt(self._groups)
        if not self._tells:  # the siblings' own luck, which a mean evens out, is in their spread too
            return max(0.6 * by_groups, math.sqrt(self._jumps / (2 * max(1, self._steps - 1))))
        others = max(0.0, self._jumps - self._jump) / (2 * max(1, self._steps - 2))
        return max(by_groups, math.sqrt(others))

    def _mean(self, count: int) -> float | None:
        return fmean(islice(reversed(self._newest), count)) if len(self._newest) >= count else None


def _groups(share: float) -> int:
    """The least number of groups that can have this share."""
    return Fraction(share).limit_denominator(MOST_GROUPS).denominator
