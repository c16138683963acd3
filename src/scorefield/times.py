"""Time grids: the steps + 1 times, from T down to where sampling ends, that a sampler walks.

A grid is float64 and lives on the host, so that its coefficients are exact and cost no transfer.
"""

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
    if steps > 1 and torch.isinf(sde.logsnr(torch.tensor(sde.T, dtype=torch.float64))):
        return torch.cat([torch.tensor([sde.T], dtype=torch.float64), _equal(sde, 0.999 * sde.T, last, steps - 1)])
    return _equal(sde, sde.T, last, steps)


def _equal(sde: LinearSDE, first: float, last: float, steps: int) -> Grid:
    ends = torch.tensor([first, last], dtype=torch.float64)
    if steps == 1:
        return ends
    high, low = sde.logsnr(ends).tolist()
    inner = sde.time(torch.linspace(high, low, steps + 1, dtype=torch.float64)[1:-1])
    return torch.cat([ends[:1], inner, ends[1:]])


GridName = Literal["uniform", "logsnr"]
GRIDS: dict[GridName, Callable[[Any, int], Grid]] = {"uniform": uniform, "logsnr": logsnr}


def _check(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"{steps} steps, expected at least 1")
