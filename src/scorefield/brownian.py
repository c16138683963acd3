"""Brownian motion addressed by time.

An adaptive solver of an SDE that rejects a step must not draw new noise for the shorter one: the steps that are taken
would have been chosen for their noise, and the law would be wrong. Here W is a function of time, and a sample's own:
what a solver has tried or refused changes nothing.

Time is an integer from 0 to `END`, W(0) = 0, W(END) is standard normal, and between two times whose W is known the
middle follows from them and from a draw that belongs to that time alone (Lévy's construction):

    W(m) = (W(a) + W(b))/2 + sqrt((b - a)/END)/2 z_m,    m = (a + b)/2                           (1)

A walk remembers what lies ahead of it, so that a step costs few draws where its end is a round binary number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.noise import Noise

END = 2**40
"""The last time. In units of the whole way, times are multiples of 2^-40."""


@dataclass(frozen=True)
class Place:
    """A time, W there, and the times ahead where W is known, the next one last."""

    time: int
    value: Float[Tensor, "*data"]
    ahead: tuple[tuple[int, Float[Tensor, "*data"]], ...]


@dataclass(frozen=True)
class BrownianPath:
    """W of sample number `row` of `noise`.

    >>> path = BrownianPath(Noise(0, range(3)), 1, (2,))
    >>> there = path.walk(path.start(), END // 4)
    >>> back = path.walk(path.walk(path.start(), END // 8), END // 4)
    >>> bool((there.value == back.value).all())
    True
    """

    noise: Noise
    row: int
    shape: Sequence[int]

    def start(self) -> Place:
        """Time 0."""
        end = self._draw(END)
        return Place(0, torch.zeros_like(end), ((END, end),))

    def walk(self, place: Place, time: int) -> Place:
        """To a later time."""
        if not place.time < time <= END:
            raise ValueError(f"time {time} from {place.time}, expected a later one of at most {END}")
        at, value, ahead = place.time, place.value, list(place.ahead)
        while at < time:
            if ahead[-1][0] <= time:
                at, value = ahead.pop()
                continue
            following, beyond = ahead[-1]
            middle = (at + following) // 2
            spread = 0.5 * math.sqrt((following - at) / END)
            ahead.append((middle, (value + beyond).mul_(0.5).add_(self._draw(middle), alpha=spread)))
        return Place(at, value, tuple(ahead))

    def _draw(self, time: int) -> Tensor:
        return self.noise.at(self.row, time, self.shape)


def rounded(time: int, step: float) -> int:
    """The end of a step of about `step` from `time`, at a time that is cheap to reach: 1/8 of the step is left off.

    >>> rounded(0, 0.3) / END
    0.28125
    """
    unit = max(1, 2 ** math.floor(math.log2(max(step * END, 1)) - 3))
    end = (time + max(1, int(step * END))) // unit * unit
    return min(END, end if end > time else time + 1)
