"""Oracles for your own classes: laws that go through a sampler exactly, without Monte Carlo.

With Gaussian data (`ExactModel` of one Gaussian) every step of a sampler is affine in x and in its noise,

    x_s = M x + c + sum_j N_j z_j,                                                          (1)

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
from scorefield.samplers import Sampler
from scorefield.score import ScoreModel
from scorefield.times import Grid


class BasisNoise(Noise):
    """Noise whose draw number j is the identity on rows 1 + dim (j + 1) onwards, and zero elsewhere."""

    def __init__(self, draws: int, dim: int) -> None:
        super().__init__(0, range(1 + dim * (draws + 1)))
        self.dim, self.count = dim, 0

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """The next draw."""
        self.count += 1
        draw, first = torch.zeros(len(self), self.dim, dtype=dtype), 1 + self.dim * self.count
        rows = draw[first : first + self.dim]
        rows += torch.eye(self.dim, dtype=dtype)[: len(rows)]
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
    mean, covariance = start.mean.flatten(), start.covariance
    dim, draws = len(mean), 0
    for t, s in pairwise(times):
        while True:
            basis = torch.zeros(1 + dim * (draws + 1), dim, dtype=mean.dtype)
            basis[1 : dim + 1] = torch.eye(dim, dtype=mean.dtype)
            noise = BasisNoise(draws, dim)
            moved = sampler.step(model, basis.reshape(-1, *start.shape), t, s, noise).flatten(1)
            if noise.count == draws:
                break
            draws = noise.count
        offset = moved[0]
        matrix, *spreads = ((block - offset).T for block in torch.split(moved[1:], dim))
        mean = matrix @ mean + offset
        covariance = matrix @ covariance @ matrix.T + sum(spread @ spread.T for spread in spreads)
    return mean, covariance


def law_error(sampler: Sampler, model: ExactModel, times: Grid) -> float:
    """|mean error| + |covariance error|/|covariance| at the end of `times`, from the exact marginal at their start."""
    mean, covariance = propagate(sampler, model, times, model.marginal(times[0]))
    exact = model.marginal(times[-1])
    return float(
        (mean - exact.mean.flatten()).norm() + (covariance - exact.covariance).norm() / exact.covariance.norm()
    )
