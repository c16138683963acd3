"""The SDEs of the literature in continuous time."""

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.sde.base import LinearSDE, NormalPrior
from scorefield.shapes import Time


def check_range(low: str, minimum: float, high: str, maximum: float) -> None:
    """Raise a ValueError unless 0 < minimum < maximum."""
    if not 0 < minimum < maximum:
        raise ValueError(f"{low} {minimum:g} and {high} {maximum:g}, expected 0 < {low} < {high}")


def _check_start(name: str, value: float, T: float) -> None:
    if not 0 <= value < T:
        raise ValueError(f"{name} {value:g}, expected 0 <= {name} < T = {T:g}")


@dataclass(frozen=True)
class VE(LinearSDE):
    """Variance exploding: alpha = 1, sigma geometric from sigma_min to sigma_max (Song et al. 2021, eq. 9 and app. C).

    Data are taken as clean: sigma(0) = sigma_min, not 0.

    >>> VE().sigma(torch.tensor(0.5))
    tensor(0.7071)
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_min: float = 1e-5

    def __post_init__(self) -> None:
        check_range("sigma_min", self.sigma_min, "sigma_max", self.sigma_max)
        _check_start("t_min", self.t_min, self.T)

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Time) -> Time:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Time) -> Time:
        """sigma_min (sigma_max/sigma_min)^t."""
        return self.sigma_min * torch.exp(self._rate * t)

    def dalpha(self, t: Time) -> Time:
        """0."""
        return torch.zeros_like(t)

    def dsigma(self, t: Time) -> Time:
        """log(sigma_max/sigma_min) sigma."""
        return self._rate * self.sigma(t)

    def logsnr(self, t: Time) -> Time:
        """-2 log sigma."""
        return -2 * (math.log(self.sigma_min) + self._rate * t)

    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse of `logsnr`."""
        return (-0.5 * logsnr - math.log(self.sigma_min)) / self._rate

    def transition(self, s: Time, t: Time) -> tuple[Time, Time]:
        """(a, v), eq. (4)."""
        return self.alpha(t), self.sigma(s) ** 2 * torch.expm1(2 * self._rate * (t - s))


class Beta(LinearSDE):
    """alpha = exp(-B/2) with B(t) the integral of beta: what VP, sub-VP and DDPM share."""

    @abstractmethod
    def beta(self, t: Time) -> Time:
        """The rate at which the data fade."""

    @abstractmethod
    def integral(self, t: Time) -> Time:
        """B(t), the integral of beta from 0 to t."""

    @abstractmethod
    def inverse_integral(self, b: Tensor) -> Tensor:
        """The t at which B(t) = b."""

    @property
    def prior(self) -> NormalPrior:
        """N(0, I), as published; sigma(T)² is 1 - exp(-B(T))."""
        return NormalPrior(1.0)

    def alpha(self, t: Time) -> Time:
        """exp(-B/2)."""
        return torch.exp(-0.5 * self.integral(t))

    def dalpha(self, t: Time) -> Time:
        """-beta alpha / 2."""
        return -0.5 * self.beta(t) * self.alpha(t)

    def drift_rate(self, t: Time) -> Time:
        """-beta / 2."""
        return -0.5 * self.beta(t)


class VariancePreserving(Beta):
    """alpha² + sigma² = 1."""

    def sigma(self, t: Time) -> Time:
        """sqrt(1 - exp(-B))."""
        return torch.sqrt(-torch.expm1(-self.integral(t)))

    def dsigma(self, t: Time) -> Time:
        """beta alpha² / (2 sigma)."""
        return 0.5 * self.beta(t) * self.alpha(t) ** 2 / self.sigma(t)

    def logsnr(self, t: Time) -> Time:
        """-(B + log(1 - exp(-B)))."""
        b = self.integral(t)
        return -(b + torch.log(-torch.expm1(-b)))

    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse of `logsnr`."""
        return self.inverse_integral(torch.logaddexp(-logsnr, torch.zeros_like(logsnr)))

    def transition(self, s: Time, t: Time) -> tuple[Time, Time]:
        """(a, v), eq. (4)."""
        step = self.integral(t) - self.integral(s)
        return torch.exp(-0.5 * step), -torch.expm1(-step)


@dataclass(frozen=True)
class _LinearBeta(Beta):
    """beta(t) = beta_min + (beta_max - beta_min) t (Song et al. 2021, eq. 32)."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-5
    t_sample: float = 1e-3

    def __post_init__(self) -> None:
        check_range("beta_min", self.beta_min, "beta_max", self.beta_max)
        _check_start("t_min", self.t_min, self.T)
        _check_start("t_sample", self.t_sample, self.T)

    def beta(self, t: Time) -> Time:
        """Linear in t."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def integral(self, t: Time) -> Time:
        """beta_min t + (beta_max - beta_min) t²/2."""
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    def inverse_integral(self, b: Tensor) -> Tensor:
        """The stable root of the quadratic."""
        return 2 * b / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * b))


@dataclass(frozen=True)
class VP(_LinearBeta, VariancePreserving):
    """Variance preserving, the continuous limit of DDPM (Song et al. 2021, eq. 11, 32, 33).

    >>> (VP().alpha(torch.tensor(1.0)) ** 2 + VP().sigma(torch.tensor(1.0)) ** 2).round(decimals=4)
    tensor(1.)
    """

    def transition(self, s: Time, t: Time) -> tuple[Time, Time]:
        """(a, v), eq. (4), without the difference of two integrals."""
        step = (t - s) * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * (t + s))
        return torch.exp(-0.5 * step), -torch.expm1(-step)


@dataclass(frozen=True)
class SubVP(_LinearBeta):
    """Sub-variance-preserving: the drift of VP, a smaller diffusion (Song et al. 2021, eq. 12 and app. B).

    >>> SubVP().sigma(torch.tensor(0.5)) < VP().sigma(torch.tensor(0.5))
    tensor(True)
    """

    def sigma(self, t: Time) -> Time:
        """1 - exp(-B)."""
        return -torch.expm1(-self.integral(t))

    def dsigma(self, t: Time) -> Time:
        """beta alpha²."""
        return self.beta(t) * self.alpha(t) ** 2

    def logsnr(self, t: Time) -> Time:
        """-2 log(2 sinh(B/2))."""
        return -2 * torch.log(2 * torch.sinh(0.5 * self.integral(t)))

    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse of `logsnr`."""
        return self.inverse_integral(2 * torch.asinh(0.5 * torch.exp(-0.5 * logsnr)))

    def transition(self, s: Time, t: Time) -> tuple[Time, Time]:
        """(a, v), eq. (4): v factors into three positive terms."""
        half = 0.5 * (t - s) * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * (t + s))
        a = torch.exp(-half)
        return a, -torch.expm1(-half) * (1 + a * self.alpha(s) ** 2) * (self.sigma(t) + a * self.sigma(s))


@dataclass(frozen=True)
class EDM(LinearSDE):
    """alpha = 1, sigma = t, so that time is the noise level itself (Karras et al. 2022).

    >>> EDM().T
    80.0
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        check_range("sigma_min", self.sigma_min, "sigma_max", self.sigma_max)

    @property
    def T(self) -> float:
        """sigma_max."""
        return self.sigma_max

    @property
    def t_min(self) -> float:
        """sigma_min."""
        return self.sigma_min

    def alpha(self, t: Time) -> Time:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Time) -> Time:
        """t."""
        return t

    def dalpha(self, t: Time) -> Time:
        """0."""
        return torch.zeros_like(t)

    def dsigma(self, t: Time) -> Time:
        """1."""
        return torch.ones_like(t)

    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse of `logsnr`."""
        return torch.exp(-0.5 * logsnr)

    def transition(self, s: Time, t: Time) -> tuple[Time, Time]:
        """(a, v), eq. (4)."""
        return self.alpha(t), (t - s) * (t + s)


@dataclass(frozen=True)
class RectifiedFlow(LinearSDE):
    """The straight path alpha = 1 - t, sigma = t (Liu et al. 2022; Lipman et al. 2022).

    At t = 1 nothing of the data is left.

    >>> RectifiedFlow().logsnr(torch.tensor(0.5))
    tensor(0.)
    """

    t_min: float = 1e-5

    def __post_init__(self) -> None:
        _check_start("t_min", self.t_min, self.T)

    def alpha(self, t: Time) -> Time:
        """1 - t."""
        return 1 - t

    def sigma(self, t: Time) -> Time:
        """t."""
        return t

    def dalpha(self, t: Time) -> Time:
        """-1."""
        return -torch.ones_like(t)

    def dsigma(self, t: Time) -> Time:
        """1."""
        return torch.ones_like(t)

    def logsnr(self, t: Time) -> Time:
        """2 (log(1 - t) - log t)."""
        return 2 * (torch.log1p(-t) - torch.log(t))

    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse of `logsnr`."""
        return torch.sigmoid(-0.5 * logsnr)

    def transition(self, s: Time, t: Time) -> tuple[Time, Time]:
        """(a, v), eq. (4)."""
        a = (1 - t) / (1 - s)
        return a, (t - s) / (1 - s) * (t + a * s)


@dataclass(frozen=True)
class Cosine(LinearSDE):
    """alpha = cos(pi t/2), sigma = sin(pi t/2) (after Nichol & Dhariwal 2021).

    >>> Cosine().alpha(torch.tensor(1.0))
    tensor(0.)
    """

    t_min: float = 1e-5

    def __post_init__(self) -> None:
        _check_start("t_min", self.t_min, self.T)

    def alpha(self, t: Time) -> Time:
        """cos(pi t/2), written so that it is 0 at t = 1."""
        return torch.sin(0.5 * math.pi * (1 - t))

    def sigma(self, t: Time) -> Time:
        """sin(pi t/2)."""
        return torch.sin(0.5 * math.pi * t)

    def dalpha(self, t: Time) -> Time:
        """-(pi/2) sigma."""
        return -0.5 * math.pi * self.sigma(t)

    def dsigma(self, t: Time) -> Time:
        """(pi/2) alpha."""
        return 0.5 * math.pi * self.alpha(t)

    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse of `logsnr`."""
        return torch.atan(torch.exp(-0.5 * logsnr)) * (2 / math.pi)

    def transition(self, s: Time, t: Time) -> tuple[Time, Time]:
        """(a, v), eq. (4)."""
        difference, total = 0.5 * math.pi * (t - s), 0.5 * math.pi * (t + s)
        return self.alpha(t) / self.alpha(s), torch.sin(difference) * torch.sin(total) / self.alpha(s) ** 2
