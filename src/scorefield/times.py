"""Time grids: the steps + 1 times, from T down to where sampling ends, that a sampler walks.

A grid is float64 and lives on the host, so that its coefficients are exact and cost no transfer.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from scorefield.sde import SDE, LinearSDE

Grid = Float64[Tensor, "times"]


def uniform(sde: SDE, steps: int, end: float | None = None) -> Grid:
    """Equal steps of time: the paper's grid.

    >>> from scorefield.sde import VP
    >>> uniform(VP(), 2)
    tensor([1.0000, 0.5005, 0.0010], dtype=torch.float64)
    """
    _check(steps)
    return torch.linspace(sde.T, sde.t_sample if end is None else end, steps + 1, dtype=torch.float64)


def logsnr(sde: LinearSDE, steps: int, end: float | None = None) -> Grid:
    """Equal steps of log-SNR: as many at low noise as at high noise (Lu et al. 2022).

    Where the log-SNR of T is -inf (rectified flow), the first step goes from T to 0.999 T and the others are equal.

    >>> from scorefield.sde import EDM
    >>> logsnr(EDM(), 2)
    tensor([8.0000e+01, 4.0000e-01, 2.0000e-03], dtype=torch.float64)
    """
    _check(steps)
    last = sde.t_sample if end is None else end
    return _from_finite(sde, steps, lambda first, steps: between(sde, first, _double(last), steps))


def quadratic(sde: SDE, steps: int, end: float | None = None) -> Grid:
    """Equal steps of the square root of time (Song, Meng & Ermon 2021, app. D.2).

    >>> from scorefield.sde import VP
    >>> quadratic(VP(), 2, end=0.25)
    tensor([1.0000, 0.5625, 0.2500], dtype=torch.float64)
    """
    _check(steps)
    last = sde.t_sample if end is None else end
    return _pinned(torch.linspace(sde.T**0.5, last**0.5, steps + 1, dtype=torch.float64) ** 2, sde.T, last)


def edm(sde: LinearSDE, steps: int, end: float | None = None, rho: float = 7.0) -> Grid:
    """Equal steps of (sigma/alpha)^(1/rho) (Karras et al. 2022, eq. 5), from T as in `logsnr`.

    >>> from scorefield.sde import EDM
    >>> edm(EDM(), 2)
    tensor([8.0000e+01, 2.5152e+00, 2.0000e-03], dtype=torch.float64)
    """
    _check(steps)
    last = _double(sde.t_sample if end is None else end)

    def grid(first: Tensor, steps: int) -> Grid:
        high, low = torch.exp(-0.5 / rho * sde.logsnr(torch.stack([first, last])))
        line = torch.linspace(float(high), float(low), steps + 1, dtype=torch.float64)
        return _pinned(sde.time(-2 * rho * torch.log(line)), float(first), float(last))

    return _from_finite(sde, steps, grid)


def between(sde: LinearSDE, first: Tensor, last: Tensor, steps: int) -> Grid:
    """Equal steps of log-SNR between two times."""
    low, high = sde.logsnr(torch.stack([first, last]))
    if not math.isfinite(high):
        raise ValueError(f"a grid equal in log-SNR to t = {float(last):g}, where no noise is left: end it before")
    line = torch.linspace(float(low), float(high), steps + 1, dtype=torch.float64)
    return _pinned(sde.time(line), float(first), float(last))


def ratios(sde: LinearSDE, highest: float, lowest: float, steps: int) -> Grid:
    """Equal steps of log-SNR between two noise-to-signal ratios sigma/alpha, from `highest`, or T where it has less.

    On this grid exponential integrators take the same steps for every SDE, which is why solvers are compared on it.

    >>> from scorefield.sde import EDM
    >>> ratios(EDM(), 20.0, 0.2, 2)
    tensor([20.0000,  2.0000,  0.2000], dtype=torch.float64)
    """
    _check(steps)
    first, last = at_ratio(sde, highest), at_ratio(sde, lowest)
    if not 0 <= last < first:
        raise ValueError(
            f"a grid from sigma/alpha = {highest:g} to {lowest:g} with {type(sde).__name__}: times from "
            f"{float(first):g} to {float(last):g}, expected a descent within 0 to T = {sde.T:g}"
        )
    return between(sde, first, last, steps)


def at_ratio(sde: LinearSDE, ratio: Tensor | float) -> Tensor:
    """The time at which sigma/alpha is `ratio`, at most T."""
    return sde.time(-2 * torch.log(torch.as_tensor(ratio, dtype=torch.float64))).clamp(max=sde.T)


def _from_finite(sde: LinearSDE, steps: int, grid: Callable[[Tensor, int], Grid]) -> Grid:
    """A grid from T, or where nothing can be said of T, T and a grid of a step less from 0.999 T."""
    if steps > 1 and not sde.informative(_double(sde.T)):
        return torch.cat([_double(sde.T)[None], grid(_double(0.999 * sde.T), steps - 1)])
    return grid(_double(sde.T), steps)


def _pinned(times: Grid, first: float, last: float) -> Grid:
    """Times whose ends are exact."""
    times[0], times[-1] = first, last
    return times


def _double(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


GridName = Literal["uniform", "quadratic", "logsnr", "edm"]
GRIDS: dict[GridName, Callable[[Any, int], Grid]] = {
    "uniform": uniform,
    "quadratic": quadratic,
    "logsnr": logsnr,
    "edm": edm,
}


def _check(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"{steps} steps, expected at least 1")
