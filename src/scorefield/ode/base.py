"""Samples that walk along an ordinary differential equation, each alone: what a method of integration sees.

Solves dy/du = f(u, y) for a batch, where u is (batch,): every sample has its own place and step, chosen from its own
error, so that it does not feel its batch mates; who has arrived leaves the batch, so that nobody is evaluated in vain.
A second, integrated quantity q with dq/du = g(u, y) may ride along. What crosses to the host is two numbers a step.

A method estimates the errors of y and q in a step of size h. Their sum along the way, of length L, is to stay near
`tol`, so a step may use up the share h/L of it, though never less than a tenth:

    e = max(rms(error of y)/max(1, rms y), max|error of q|/scale)/(tol max(h/L, 1/10))              (1)

A step is taken where e <= 1. Control of each step alone would allow N steps N times `tol`; the share alone (error per
unit step) would never be content with a slope that is noisier than `tol`. A step to where the slope is not finite is
tried again, shorter.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

_LEAST_SHARE = 0.1

Slope = Callable[..., tuple[Tensor, Tensor]]
"""slope(u, y, *along) -> (dy/du, dq/du)."""


class IntegrationError(ValueError):
    """The solver could not go on."""


@dataclass(frozen=True)
class Walk:
    """Where the samples still on their way stand: at u, with y and q flattened side by side in `state`.

    `h` is the step to be tried next and `order` that of its formula, `rows` says which of the batch they are, `along`
    is what belongs to each of them, and `memory` what the method wants to know again.
    """

    u: Float64[Tensor, "walking"]
    h: Float64[Tensor, "walking"]
    order: Int64[Tensor, "walking"]
    state: Float[Tensor, "walking numbers"]
    rows: Int64[Tensor, "walking"]
    along: tuple[Tensor, ...]
    memory: tuple[Tensor, ...] = ()

    def only(self, chosen: Int64[Tensor, "chosen"]) -> "Walk":
        """Those samples alone."""
        along, memory = (tuple(part[chosen] for part in parts) for parts in (self.along, self.memory))
        u, h, order, state, rows = (part[chosen] for part in (self.u, self.h, self.order, self.state, self.rows))
        return Walk(u, h, order, state, rows, along, memory)

    def back(self, kept: Bool[Tensor, "walking"], before: "Walk") -> "Walk":
        """Where it was `before`, but for the samples `kept`; with what is to be tried next for all."""
        u, state = torch.where(kept, self.u, before.u), where(kept, self.state, before.state)
        memory = tuple(where(kept, new, old) for new, old in zip(self.memory, before.memory, strict=True))
        return replace(self, u=u, state=state, memory=memory)


@dataclass(frozen=True)
class Problem:
    """The slope of flattened states, the way's ends, and what counts as an error."""

    slope: Slope
    shape: torch.Size
    start: float
    end: float
    tol: float
    integral_scale: float

    @property
    def size(self) -> int:
        """How many numbers of a state are y; the others are q."""
        return self.shape.numel()

    def slopes(self, u: Tensor, state: Tensor, along: tuple[Tensor, ...]) -> Tensor:
        """dy/du and dq/du, side by side."""
        return flat(*self.slope(u, state[:, : self.size].reshape(-1, *self.shape), *along))

    def relative(
        self, error: Float[Tensor, "walking *more numbers"], state: Tensor
    ) -> Float64[Tensor, "walking *more"]:
        """The errors of eq. (1) before they are compared with `tol`, in steps to `state`."""
        y, q = error[..., : self.size], error[..., self.size :]
        e = _rms(y) / _rms(state[:, : self.size]).clamp(min=1).reshape(-1, *[1] * (error.ndim - 2))
        return torch.maximum(e, q.abs().amax(-1).double() / self.integral_scale) if q.shape[-1] else e

    def allowed(self, h: Tensor) -> Tensor:
        """The relative error that a step of size h may make."""
        return self.tol * (h.abs() / abs(self.end - self.start)).clamp(min=_LEAST_SHARE)

    def first(self, slopes: Tensor, state: Tensor) -> Float64[Tensor, "walking"]:
        """A first step, which changes y and q by 0.3 sqrt(tol) relatively, or is a tenth of the way."""
        way = self.end - self.start
        h = 0.3 * self.tol**0.5 / self.relative(slopes, state)
        first: Tensor = math.copysign(1, way) * h.clamp(max=0.1 * abs(way))
        return first

    def ahead(self, walk: Walk) -> tuple[Tensor, Tensor]:
        """(step, place after it), with steps that reach the end or nearly so ending there."""
        last = (walk.u + 1.01 * walk.h - self.end) * (self.end - self.start) >= 0
        return torch.where(last, self.end - walk.u, walk.h), torch.where(last, self.end, walk.u + walk.h)


class Method(ABC):
    """How a step is made and its error estimated. No state: what it remembers is the walk's `memory`."""

    @abstractmethod
    def begin(self, walk: Walk, slopes: Float[Tensor, "walking numbers"]) -> Walk:
        """The walk before its first step, with what is remembered of the slopes at its start."""

    @abstractmethod
    def step(self, problem: Problem, walk: Walk) -> tuple[Bool[Tensor, "walking"], Walk]:
        """Who may take the step that was tried, and the walk after it."""


def flat(y: Float[Tensor, "walking *data"], q: Float[Tensor, "walking *more"]) -> Float[Tensor, "walking numbers"]:
    """y and q side by side."""
    return torch.cat([y.flatten(1), q.flatten(1)], 1)


def where(choice: Bool[Tensor, "walking"], a: Tensor, b: Tensor) -> Tensor:
    """a for the samples chosen, b for the others."""
    return torch.where(choice.reshape(-1, *[1] * (a.ndim - 1)), a, b)


def _rms(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return norm.double() / math.sqrt(max(1, x.shape[-1]))
