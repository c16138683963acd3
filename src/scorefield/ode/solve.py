"""The walk of a batch to its end; what it is made of, and how errors are bounded, is in :mod:`scorefield.ode.base`."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.ode.adams import ADAMS
from scorefield.ode.base import IntegrationError, Method, Problem, Slope, Walk, flat
from scorefield.shapes import Data


def solve(
    slope: Slope,
    y: Data,
    start: float,
    end: float,
    *,
    method: Method = ADAMS,
    tol: float = 1e-5,
    integral_scale: float = 1.0,
    along: Sequence[Tensor] = (),
    max_steps: int = 10_000,
) -> tuple[Data, Float[Tensor, "batch *more"]]:
    """Integrate from u = `start` to `end`, forwards or backwards; return the state and the integral at the end.

    `tol` bounds the errors made along the whole way: rms over coordinates, relative to max(1, rms y).
    ``slope(u, y, *along)`` takes u (walking,) float64 and y like the state, of those samples that are still walking,
    and returns (dy/du, dq/du); dq/du has no columns where nothing rides along. Tensors `along`, batch first, are
    reduced to the samples still walking as y is. Raises `IntegrationError` that names the sample and u from where no
    step succeeds.

    >>> decay = lambda u, y: (-y, y[:, :0])
    >>> solve(decay, torch.ones(1, 1), 0.0, 1.0)[0]
    tensor([[0.3679]])
    """
    if not tol > 0:
        raise ValueError(f"tolerance {tol}, expected a positive number")
    u = torch.full((len(y),), start, dtype=torch.float64, device=y.device)
    dy, dq = slope(u, y, *along)
    slopes, state = flat(dy, dq), flat(y, torch.zeros_like(dq))
    problem = Problem(slope, y.shape[1:], start, end, tol, integral_scale)
    first = problem.first(slopes, state)
    rows = torch.arange(len(y), device=y.device)
    walk = method.begin(Walk(u, first, torch.ones_like(rows), state, rows, tuple(along)), slopes)
    result = walk.state.clone()
    for _ in range(max_steps):
        if not len(walk.rows):
            return result[:, : problem.size].reshape(y.shape), result[:, problem.size :].reshape(dq.shape)
        taken, tried = method.step(problem, walk)
        u = torch.where(taken, tried.u, walk.u)
        arrived = u == end
        stuck = ~((u + tried.h - u).abs() > 0) & ~arrived
        refused, finished, failed = torch.stack([~taken, arrived, stuck]).sum(1).tolist()
        walk = tried.back(taken, walk) if refused else tried
        if failed:
            _fail(walk, stuck)
        if finished:
            result[walk.rows[arrived]] = walk.state[arrived]
            walk = walk.only((~arrived).nonzero().flatten())
    raise IntegrationError(f"{max_steps} steps did not reach the end: loosen the tolerance ({tol:g})")


def _fail(walk: Walk, stuck: Tensor) -> None:
    i = int(stuck.nonzero()[0])
    raise IntegrationError(
        f"sample {int(walk.rows[i])} of the batch cannot go on from {float(walk.u[i]):.6g}, where no step is small "
        "enough: check that the model's output is finite and smooth there, or loosen the tolerance"
    )
