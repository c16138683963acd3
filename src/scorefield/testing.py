"""Oracles for your own classes: laws that go through a sampler exactly, without Monte Carlo.

With Gaussian data (`ExactModel` of one Gaussian) every step of a sampler is affine in x, in what the model has said
before where the sampler looks back, and in its noise. With y for the first two,

    y_s = M y_t + c + sum_j N_j z_j,                                                        (1)

so that a step's effect on basis vectors gives M, c and N_j, and mean and covariance follow at once: m <- M m + c,
C <- M C M' + sum_j N_j N_j'. The error of a sampler is then known to rounding, and its order is a ratio of two errors.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.exact import ExactModel, GaussianMixture
from scorefield.noise import Noise
from scorefield.ode import solve
from scorefield.samplers import Past, Sampler
from scorefield.score import Denoiser, ScoreModel
from scorefield.shapes import Data, Instant, expand
from scorefield.times import Grid


class BasisNoise(Noise):
    """Noise for `rows` samples whose draw number j is the identity on the dim rows of j among the last, else zero."""

    def __init__(self, draws: int, dim: int, rows: int) -> None:
        super().__init__(0, range(rows))
        self.dim, self.first, self.count = dim, rows - dim * draws, 0

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """The next draw."""
        draw, first = torch.zeros(len(self), self.dim, dtype=dtype), self.first + self.dim * self.count
        rows = draw[first : first + self.dim]
        rows += torch.eye(self.dim, dtype=dtype)[: len(rows)]
        self.count += 1
        return draw.reshape(-1, *shape)


def propagate(
    sampler: Sampler, model: ScoreModel, times: Grid, start: GaussianMixture
) -> tuple[Float[Tensor, "dim"], Float[Tensor, "dim dim"]]:
    """Mean and covariance, over flattened data, of x at the last of `times` where x at the first follows `start`.

    For models whose score is affine in x, in float64.

    >>> from scorefield.samplers import Ancestral
    >>> from scorefield.sde import VP
    >>> from scorefield.times import logsnr
    >>> law = GaussianMixture(torch.ones(1, 1).double(), variances=torch.full((1, 1), 0.25).double())
    >>> model, times = ExactModel(VP(), law), logsnr(VP(), 500)
    >>> mean, covariance = propagate(Ancestral(), model, times, model.marginal(times[0]))
    >>> round(float(mean), 2), round(float(covariance), 2)
    (1.0, 0.25)
    """
    dim, draws = start.dim, 0
    mean, covariance, seen = start.mean.flatten(), start.covariance, list[Instant]()
    for t, s in pairwise(times):
        known = len(mean)
        while True:
            basis = torch.zeros(1 + known + dim * draws, known, dtype=mean.dtype)
            basis[1 : known + 1] = torch.eye(known, dtype=mean.dtype)
            x, *said = (part.reshape(-1, *start.shape) for part in torch.split(basis, dim, 1))
            noise, past = BasisNoise(draws, dim, len(basis)), list(zip(seen, said, strict=True))
            x = sampler.step(model, x, t, s, noise, past)
            if noise.count == draws:
                break
            draws = noise.count
        seen = [time for time, _ in past]
        after = torch.cat([x.flatten(1), *(value.flatten(1) for _, value in past)], 1)
        offset = after[0]
        matrix, spread = (after[1 : known + 1] - offset).T, (after[known + 1 :] - offset).T
        mean = matrix @ mean + offset
        covariance = matrix @ covariance @ matrix.T + spread @ spread.T
    return mean[:dim], covariance[:dim, :dim]


def law_error(sampler: Sampler, model: ExactModel, times: Grid) -> float:
    """|mean error| + |covariance error|/|covariance| at the end of `times`, from the exact marginal at their start."""
    mean, covariance = propagate(sampler, model, times, model.marginal(times[0]))
    exact = model.marginal(times[-1])
    return float(
        (mean - exact.mean.flatten()).norm() + (covariance - exact.covariance).norm() / exact.covariance.norm()
    )


def flow_between(model: Denoiser, x: Data, t: Instant, s: Instant, tol: float = 1e-12) -> Data:
    """x at time t carried to time s by the probability flow, for any model of a linear SDE with alpha > 0 at both.

    In y = x/alpha and r = sigma/alpha the flow is dy = eps dr, which shares nothing with the samplers' own variables.

    >>> from scorefield.sde import VP
    >>> model = ExactModel(VP(), GaussianMixture(torch.zeros(1, 1), variances=torch.ones(1, 1)))
    >>> x = flow_between(model, torch.ones(1, 1), torch.tensor(0.9), torch.tensor(0.1), tol=1e-5)  # N(0, 1) at all t
    >>> round(float(x), 3)
    1.0
    """
    sde = model.sde

    def slope(r: Tensor, y: Data) -> tuple[Data, Tensor]:
        time = sde.time(-2 * torch.log(r))
        return model.noise(expand(sde.alpha(time), y) * y, time), y.new_empty(len(y), 0)

    start, end = (float(sde.sigma(u) / sde.alpha(u)) for u in (t, s))
    return sde.alpha(s) * solve(slope, x / sde.alpha(t), start, end, tol=tol)[0]


def flow_error(
    sampler: Sampler, model: Denoiser, x: Data, times: Grid, *, past: Past | None = None, exact: Data | None = None
) -> float:
    """The rms error at the end of `times` of a deterministic sampler that starts from `x` at times[0].

    With `past`, what the model has said at earlier times, a multistep sampler starts as if it had come from there.
    `exact` is where the flow goes, if that is known already.
    """
    noise, y, known = Noise(0, range(len(x))), x, list(past or ())
    for t, s in pairwise(times):
        y = sampler.step(model, y, t, s, noise, known)
    exact = flow_between(model, x, times[0], times[-1]) if exact is None else exact
    return float((y - exact).square().mean().sqrt())
