"""Adaptive Runge–Kutta with a step of its own for each sample.

Solves dy/du = f(u, y) for a batch, where u is (batch,): every sample has its own place and step, chosen from its own
error, so that it does not feel its batch mates. A second, integrated quantity q with dq/du = g(u, y) may ride along.

An embedded pair gives the errors of y and q in a step of size h. Their sum along the way, of length L, is to stay near
`tol`, so a step may use up the share h/L of it, though never less than 1/50:

    e = max(rms(error of y)/max(1, rms y), max|error of q|/scale)/(tol max(h/L, 1/50))              (1)

A step is taken where e <= 1, and the next is h clip(0.9 e^(-1/p), 0.2, 10) for a pair whose higher order is p (Hairer,
Nørsett & Wanner, II.4). Control of each step alone would allow N steps N times `tol`; the share alone (error per unit
step) would never be content with a slope that is noisier than `tol`. A step to where the slope is not finite is tried
again, shorter. Dormand & Prince's pair of order 5(4) evaluates its last stage where the next step begins: 6 evaluations
a step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.shapes import Data, expand

FEW = 50

Slope = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Tableau:
    """An explicit embedded Runge–Kutta pair whose last stage is the next step's first.

    `stages[i]` are the weights of the slopes so far that give stage i + 1, at `nodes[i]`; the last row is the solution
    of high order, and `error` its difference from that of low order.
    """

    order: int
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    error: tuple[float, ...]


DORMAND_PRINCE = Tableau(
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

BOGACKI_SHAMPINE = Tableau(
    order=3,
    nodes=(1 / 2, 3 / 4, 1.0),
    stages=((1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    error=(-5 / 72, 1 / 12, 1 / 9, -1 / 8),
)


class IntegrationError(ValueError):
    """The solver could not go on."""


def rk_step(
    slope: Slope, tableau: Tableau, u: Tensor, y: Tensor, h: Tensor, first: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """One step: (y at u + h, increment of the integral, errors of both, slopes at u + h)."""
    slopes = [first]
    step = expand(h, y)
    for node, weights in zip(tableau.nodes, tableau.stages, strict=True):
        increment = sum(w * k[0] for w, k in zip(weights, slopes, strict=True) if w)
        here = y + step * increment
        slopes.append(slope(u + node * h, here))
    integral = sum(w * k[1] for w, k in zip(tableau.stages[-1], slopes[:-1], strict=True) if w)
    error, integral_error = (sum(w * k[i] for w, k in zip(tableau.error, slopes, strict=True) if w) for i in (0, 1))
    last = slopes[-1]
    span = expand(h, last[1])
    return here, span * integral, (step * error, span * integral_error), last


def _rms(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norm.double() / math.sqrt(max(1, x[0].numel()))


def _where(choice: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(choice.reshape(-1, *[1] * (a.ndim - 1)), a, b)


def solve(
    slope: Slope,
    y: Data,
    start: float,
    end: float,
    *,
    tol: float = 1e-5,
    integral_scale: float = 1.0,
    tableau: Tableau = DORMAND_PRINCE,
    max_steps: int = 10_000,
) -> tuple[Data, Float[Tensor, "batch *more"]]:
    """Integrate from u = `start` to `end`, forwards or backwards; return the state and the integral at the end.

    `tol` bounds the errors made along the whole way: rms over coordinates, relative to max(1, rms y).
    `slope(u, y)` takes u (batch,) float64 and y (batch, *data) and returns (dy/du, dq/du); dq/du is (batch, *more),
    with no columns where nothing rides along. Raises `IntegrationError` that names the sample and u from where no
    step succeeds.

    >>> decay = lambda u, y: (-y, y[:, :0])
    >>> solve(decay, torch.ones(1, 1), 0.0, 1.0)[0]
    tensor([[0.3679]])
    """
    if not tol > 0:
        raise ValueError(f"tolerance {tol}, expected a positive number")
    u = torch.full((len(y),), start, dtype=torch.float64, device=y.device)
    h = torch.full_like(u, 0.01 * (end - start))
    slopes = slope(u, y)
    integral = torch.zeros_like(slopes[1])
    for _ in range(max_steps):
        running = u != end
        if not bool(running.any()):
            return y, integral
        last = (u + 1.01 * h - end) * (end - start) >= 0
        h = torch.where(last, end - u, h)
        proposed, increment, error, after = rk_step(slope, tableau, u, y, h, slopes)
        e = _rms(error[0]) / torch.maximum(_rms(y), _rms(proposed)).clamp(min=1)
        if integral.shape[1]:
            e = torch.maximum(e, error[1].abs().flatten(1).amax(1).double() / integral_scale)
        share = (h.abs() / abs(end - start)).clamp(min=1 / FEW)
        e = torch.where(running, e / (tol * share), 0).nan_to_num(math.inf)
        _check(u, h, running)
        accepted = running & (e <= 1)
        y = _where(accepted, proposed, y)
        integral = _where(accepted, integral + increment, integral)
        slopes = _where(accepted, after[0], slopes[0]), _where(accepted, after[1], slopes[1])
        u = torch.where(accepted, torch.where(last, end, u + h), u)
        h = torch.where(running, h * (0.9 * e.clamp(min=1e-10) ** (-1 / tableau.order)).clamp(0.2, 10), h)
    raise IntegrationError(f"{max_steps} steps did not reach the end: loosen the tolerance ({tol:g})")


def _check(u: Tensor, h: Tensor, running: Tensor) -> None:
    stuck = running & (u + h == u)
    if bool(stuck.any()):
        i = int(stuck.nonzero()[0])
        raise IntegrationError(
            f"sample {i} of the batch cannot go on from {float(u[i]):.6g}, where no step is small enough: check that "
            "the model's output is finite and smooth there, or loosen the tolerance"
        )
