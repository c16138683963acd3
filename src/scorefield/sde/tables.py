"""The published chains as tables that are also SDEs: every sampler, and the flow, can use them."""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.sde.base import LinearSDE
from scorefield.sde.continuous import VariancePreserving, check_range
from scorefield.shapes import Time


@dataclass(frozen=True)
class DDPM(VariancePreserving):
    """The chain of Ho et al. 2020 with its table of betas, in continuous time: row i (from 0) is t = (i + 1)/steps.

    Between its rows log alpha is linear in t, so that the table is exact and every sampler, and the flow, can use it.
    The betas depend on `steps` (Song et al. 2021, app. B): to sample in few steps, walk a coarse grid of this chain.

    >>> DDPM().transition(torch.tensor(0.0), torch.tensor(0.001))[1]  # the first beta
    tensor(0.0001)
    """

    steps: int = 1000
    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max < self.steps:
            raise ValueError(
                f"DDPM with beta_max {self.beta_max} and {self.steps} steps: each beta, at most beta_max/steps, must "
                "lie in (0, 1); take more steps, and walk a coarse grid to sample in few"
            )

    @property
    def t_min(self) -> float:
        """The first row."""
        return 1 / self.steps

    def row(self, t: Time) -> Time:
        """Row i is t = (i + 1)/steps."""
        return (t * self.steps - 1).clamp(min=0)

    def _knots(self, like: Tensor) -> Tensor:
        return _ddpm_integral(self.steps, self.beta_min, self.beta_max).to(like)

    def _row(self, t: Tensor) -> Tensor:
        return (torch.ceil(t * self.steps).long() - 1).clamp(0, self.steps - 1)

    def beta(self, t: Time) -> Time:
        """Constant between rows."""
        knots, row = self._knots(t), self._row(t)
        return self.steps * (knots[row + 1] - knots[row])

    def integral(self, t: Time) -> Time:
        """-sum log(1 - beta_i), linear between rows."""
        knots, row = self._knots(t), self._row(t)
        return knots[row] + (t * self.steps - row) * (knots[row + 1] - knots[row])

    def inverse_integral(self, b: Tensor) -> Tensor:
        """Linear between rows."""
        knots = self._knots(b)
        row = (torch.searchsorted(knots, b.contiguous()) - 1).clamp(0, self.steps - 1)
        return (row + (b - knots[row]) / (knots[row + 1] - knots[row])) / self.steps


@functools.cache
def _ddpm_integral(steps: int, beta_min: float, beta_max: float) -> Tensor:
    beta = torch.linspace(beta_min / steps, beta_max / steps, steps, dtype=torch.float64, device="cpu")
    return torch.cat([beta.new_zeros(1), -torch.cumsum(torch.log1p(-beta), 0)])


@dataclass(frozen=True)
class SMLD(LinearSDE):
    """The noise levels of Song & Ermon 2019, geometric, in continuous time: row i (from 0) is t = (i + 1)/steps.

    Below the first row sigma² falls linearly to 0, so that the chain's last step lands on the data.

    >>> SMLD().sigma(torch.tensor([0.0, 0.001, 1.0]))
    tensor([0.0000e+00, 1.0000e-02, 5.0000e+01])
    """

    steps: int = 1000
    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"SMLD with {self.steps} steps: a geometric table needs at least 2")
        check_range("sigma_min", self.sigma_min, "sigma_max", self.sigma_max)

    @property
    def t_min(self) -> float:
        """The first row."""
        return 1 / self.steps

    def row(self, t: Time) -> Time:
        """Row i is t = (i + 1)/steps."""
        return (t * self.steps - 1).clamp(min=0)

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min) * self.steps / (self.steps - 1)

    def alpha(self, t: Time) -> Time:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Time) -> Time:
        """Geometric from the first row on."""
        rows = t * self.steps
        geometric = torch.exp(self._rate * (t - self.t_min).clamp(min=0))
        return self.sigma_min * geometric * torch.sqrt(rows.clamp(max=1))

    def dalpha(self, t: Time) -> Time:
        """0."""
        return torch.zeros_like(t)

    def dsigma(self, t: Time) -> Time:
        """The derivative from below at the first row, where there are two."""
        rows = t * self.steps
        return torch.where(rows > 1, self._rate * self.sigma(t), 0.5 * self.sigma_min * self.steps * torch.rsqrt(rows))

    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse of `logsnr`."""
        ratio = torch.exp(-0.5 * logsnr) / self.sigma_min
        return self.t_min * ratio.clamp(max=1) ** 2 + torch.log(ratio.clamp(min=1)) / self._rate
