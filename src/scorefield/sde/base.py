"""Stochastic differential equations that turn data into noise.

A forward SDE  dx = f(x, t) dt + g(t) dw  (1)  (Song et al. 2021, eq. 5) carries data at t = 0 to a prior at t = T.
All the SDEs of practice are linear: two functions of time say everything,

    x_t = alpha(t) x_0 + sigma(t) z,   z ~ N(0, I)                                       (2)

and the rest follows (Kingma et al. 2021, "Variational diffusion models"; ' is d/dt):

    f(x, t) = (alpha'/alpha) x,     g² = 2 sigma (sigma' - sigma alpha'/alpha)           (3)
    x_t | x_s ~ N(a x_s, v I),      a = alpha_t/alpha_s,   v = sigma_t² - a² sigma_s²     (4)
    log-SNR = log(alpha²/sigma²)                                                         (5)

The variance of (4) is written without the difference, v = -sigma_t² expm1(logsnr_t - logsnr_s), which is finite at
alpha_t = 0 and at sigma_s = 0.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from scorefield.shapes import Data, Time, expand, sum_data


@runtime_checkable
class Density(Protocol):
    """Anything with a log-density: what a likelihood may take for the law of x_T."""

    def log_prob(self, x: Data) -> Tensor:
        """Log-density in nats, (batch,)."""


@dataclass(frozen=True)
class NormalPrior:
    """N(0, std² I) (Song et al. 2021, appendix B).

    >>> NormalPrior(2.0).log_prob(torch.zeros(1, 1))
    tensor([-1.6121])
    """

    std: float

    def sample(self, z: Data) -> Data:
        """Turn standard normal `z` into a draw."""
        return self.std * z

    def standardize(self, x: Data) -> Data:
        """Turn a draw into standard normal noise: the inverse of `sample`."""
        return x / self.std

    def log_prob(self, x: Data) -> Tensor:
        """Log-density in nats, (batch,)."""
        dim = math.prod(x.shape[1:])
        return -0.5 * sum_data(x * x) / self.std**2 - dim * (math.log(self.std) + 0.5 * math.log(2 * math.pi))


class SDE(ABC):
    """A forward SDE (1) with drift f(x, t) and a scalar or diagonal diffusion g(t).

    Subclass it for a process of your own; where the process is linear in x, subclass `LinearSDE` instead.
    """

    @property
    def T(self) -> float:
        """The end of time, where the prior lives."""
        return 1.0

    @property
    def t_min(self) -> float:
        """Where training and likelihood start: as close to the data as numbers allow."""
        return 1e-5

    @property
    def t_sample(self) -> float:
        """Where sampling ends."""
        return self.t_min

    @property
    @abstractmethod
    def prior(self) -> NormalPrior:
        """The law at T."""

    @abstractmethod
    def drift(self, x: Data, t: Time) -> Data:
        """f(x, t)."""

    @abstractmethod
    def diffusion(self, t: Time) -> Tensor:
        """g(t): of the shape of t (scalar), or (1 or batch, *data) (diagonal)."""


class LinearSDE(SDE):
    """An SDE given by alpha(t) and sigma(t) of eq. (2).

    >>> class OrnsteinUhlenbeck(LinearSDE):
    ...     T = 5.0
    ...     def alpha(self, t): return torch.exp(-t)
    ...     def sigma(self, t): return torch.sqrt(-torch.expm1(-2 * t))
    >>> OrnsteinUhlenbeck().diffusion(torch.tensor(0.3))  # sqrt(2) at every time
    tensor(1.4142)
    """

    @abstractmethod
    def alpha(self, t: Time) -> Time:
        """What multiplies the data at time t."""

    @abstractmethod
    def sigma(self, t: Time) -> Time:
        """The standard deviation of the noise at time t."""

    def dalpha(self, t: Time) -> Time:
        """d alpha/dt."""
        return _derivative(self.alpha, t)

    def dsigma(self, t: Time) -> Time:
        """d sigma/dt."""
        return _derivative(self.sigma, t)

    @property
    def prior(self) -> NormalPrior:
        """N(0, sigma(T)²)."""
        return NormalPrior(float(self.sigma(torch.tensor(self.T, dtype=torch.float64))))

    def drift_rate(self, t: Time) -> Time:
        """alpha'/alpha of eq. (3); infinite where alpha = 0."""
        return self.dalpha(t) / self.alpha(t)

    def drift(self, x: Data, t: Time) -> Data:
        """f(x, t) of eq. (3)."""
        return expand(self.drift_rate(t), x) * x

    def diffusion(self, t: Time) -> Time:
        """g(t) of eq. (3)."""
        return torch.sqrt(2 * self.sigma(t) * (self.dsigma(t) - self.drift_rate(t) * self.sigma(t)))

    def logsnr(self, t: Time) -> Time:
        """log(alpha²/sigma²): twice the lambda of the solver papers."""
        return 2 * (torch.log(self.alpha(t)) - torch.log(self.sigma(t)))

    def informative(self, t: Time) -> Tensor:
        """Whether x_t says anything of the data: not where alpha = 0, be it up to rounding."""
        return self.alpha(t) > 1e-7 * self.sigma(t)

    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse of `logsnr`, by bisection on [0, T] unless a subclass knows better."""
        low = torch.zeros_like(logsnr)
        high = torch.full_like(logsnr, self.T)
        for _ in range(64):
            middle = 0.5 * (low + high)
            above = self.logsnr(middle) > logsnr
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return 0.5 * (low + high)

    def row(self, t: Time) -> Time:  # noqa: ARG002
        """The row of the table at t, counted from 0, for SDEs that continue a table; fractions lie between rows."""
        raise ValueError(f"{type(self).__name__} has no table whose rows could be counted: take DDPM or SMLD")

    def transition(self, s: Time, t: Time) -> tuple[Time, Time]:
        """(a, v) of x_t | x_s ~ N(a x_s, v I) for s < t, eq. (4)."""
        v = -(self.sigma(t) ** 2) * torch.expm1(self.logsnr(t) - self.logsnr(s))
        return self.alpha(t) / self.alpha(s), v


def _derivative(f: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        u = t.detach().clone().requires_grad_()
        (derivative,) = torch.autograd.grad((f(u) + 0 * u).sum(), u)
    return derivative
