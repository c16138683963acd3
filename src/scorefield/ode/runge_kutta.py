"""Embedded Runge–Kutta pairs.

A pair of order p gives the error as the difference of its two solutions, and the next step is h clip(0.9 e^(-1/p), 0.2,
10) (Hairer, Nørsett & Wanner, II.4). Dormand & Prince's pair of order 5(4) evaluates its last stage where the next step
begins: 6 evaluations a step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scorefield.ode.base import Method, Problem, Walk


@dataclass(frozen=True)
class RungeKutta(Method):
    """An explicit embedded pair whose last stage is the next step's first.

    `stages[i]` are the weights of the slopes so far that give stage i + 1, at `nodes[i]`; the last row is the solution
    of high order, and `error` its difference from that of low order.
    """

    order: int
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    error: tuple[float, ...]

    def begin(self, walk: Walk, slopes: Tensor) -> Walk:
        """The first stage of the first step."""
        return replace(walk, memory=(slopes,))

    def step(self, problem: Problem, walk: Walk) -> tuple[Tensor, Walk]:
        """All stages, then the next step."""
        h, after = problem.ahead(walk)
        state, error, last = self.advance(
            lambda u, state: problem.slopes(u, state, walk.along), walk.u, walk.state, h, walk.memory[0]
        )
        e = problem.relative(error, state) / problem.allowed(h)
        e = e.nan_to_num(torch.inf, posinf=torch.inf).clamp(min=1e-10)
        scale = (0.9 * e ** (-1 / self.order)).clamp(0.2, 10)
        return e <= 1, replace(walk, u=after, h=h * scale, state=state, memory=(last,))

    def advance(
        self, slopes: Callable[[Tensor, Tensor], Tensor], u: Tensor, state: Tensor, h: Tensor, first: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step of size h from a slope `first`: (state, its error, slope there)."""
        stages, here, width = [first], state, h[:, None].to(state)
        for node, weights in zip(self.nodes, self.stages, strict=True):
            here = state + width * sum(w * k for w, k in zip(weights, stages, strict=True) if w)
            stages.append(slopes(u + node * h, here))
        error = width * sum(w * k for w, k in zip(self.error, stages, strict=True) if w)
        return here, error, stages[-1]


DORMAND_PRINCE = RungeKutta(
    order=5,
    nodes=(1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    stages=(
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
)

BOGACKI_SHAMPINE = RungeKutta(
    order=3,
    nodes=(1 / 2, 3 / 4, 1.0),
    stages=((1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    error=(-5 / 72, 1 / 12, 1 / 9, -1 / 8),
)
