"""What many tests share: the SDEs under test and laws with closed forms."""

import torch

from scorefield.exact import GaussianMixture
from scorefield.sde import DDPM, EDM, SDE, SMLD, VE, VP, Cosine, LinearSDE, NormalPrior, RectifiedFlow, SubVP
from scorefield.times import ratios


class OrnsteinUhlenbeck(LinearSDE):
    """A user's SDE: everything but alpha and sigma is derived."""

    T = 6.0

    def alpha(self, t):
        return torch.exp(-t)

    def sigma(self, t):
        return torch.sqrt(-torch.expm1(-2 * t))


class Diagonal(SDE):
    """A general SDE, dx = -rate x dt + sqrt(2 rate) dw, with a rate for each coordinate."""

    T = 4.0

    def __init__(self, *rates):
        self.rates = torch.tensor(rates, dtype=torch.float64)

    @property
    def prior(self):
        return NormalPrior(1.0)

    def drift(self, x, t):
        return -self.rates * x

    def diffusion(self, t):
        return torch.sqrt(2 * self.rates)[None]

    def law(self, t, mean, variance):
        """Mean and variance at t of data N(mean, variance)."""
        fade = torch.exp(-self.rates * t.reshape(-1, 1))
        return fade * mean, fade**2 * variance + 1 - fade**2


FIVE = [VE(), VP(), SubVP(), EDM(), RectifiedFlow()]
ALL = [*FIVE, Cosine(), DDPM(), SMLD(), OrnsteinUhlenbeck()]


def name(value: object) -> str:
    return type(value).__name__


def middle(sde, steps):
    """A grid over noise-to-signal ratios from 20 to 0.1, equal in log-SNR."""
    return ratios(sde, 20, 0.1, steps)


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def correlated(dim: int = 3) -> GaussianMixture:
    """A Gaussian with full covariance and a mean."""
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(dim, dim, generator=generator, dtype=torch.float64) * 0.4
    mean = torch.linspace(-0.5, 0.7, dim, dtype=torch.float64)
    return GaussianMixture.gaussian(mean, root @ root.T + 0.05 * torch.eye(dim, dtype=torch.float64))


def mixture(*shape: int, components: int = 3) -> GaussianMixture:
    """A mixture with diagonal variances on data of any shape."""
    generator = torch.Generator().manual_seed(2)
    means = torch.randn(components, *shape, generator=generator, dtype=torch.float64) * 0.6
    variances = 0.02 + 0.1 * torch.rand(components, *shape, generator=generator, dtype=torch.float64)
    weights = torch.arange(1, components + 1, dtype=torch.float64)
    return GaussianMixture(means, variances=variances, weights=weights)
