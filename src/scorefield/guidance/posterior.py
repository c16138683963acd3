r"""The score of p(x_0 | y) for a measurement y = A x_0 + s n, from that of p(x_0).

Bayes' rule adds grad log p(y | x_t) to the score; the denoised data D and the noise eps follow (Song et al. 2021, app.
I; Tweedie's formula),

    D_y = D + (sigma²/alpha) g,    eps_y = eps - sigma g,    g = grad log p(y | x_t).                 (1)

Taking x_0 given x_t for Gaussian, N(D, C), with J = dD/dx_t held fixed,

    g = J' A' (s² + A C A')^-1 (y - A D),    and in truth    C = Cov[x_0 | x_t] = (sigma²/alpha) J.     (2)

The methods differ in what they take for C. With r = sigma/alpha:

- ``Full``: C as it is (MMPS, Rozet et al. 2024). Exact for Gaussian data, and then for any SDE and sampler the law is
  the posterior; each iteration of its solution costs a backward evaluation.
- ``RowSums``: for A C A' the diagonal matrix of its row sums' moduli (TMPD, Boys et al. 2023); two backward
  evaluations.
- ``Isotropic``: r²d²/(r² + d²), exact for uncorrelated data of deviation d (PiGDM, Song et al. 2023, with d = 1), and
  r² unless d is given; one.
- ``Nothing``: 0 (DPS, Chung et al. 2022, before it is normalized), overconfident where r is large, and unstable where s
  is small.

`Proximal` changes D itself and needs no derivative: D_y minimizes |y - A x|²/s² + |x - D|²/(k r²) over x (DiffPIR, Zhu
et al. 2023), which stands for C = k r² and J = alpha C/sigma².
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from scorefield.guidance.measurement import Measurement
from scorefield.guidance.systems import solve
from scorefield.samplers.base import denoiser
from scorefield.score import Denoiser
from scorefield.shapes import Data, Time, expand

Transposed = Callable[[Data], Data]
"""v to J' v."""


class Covariance(ABC):
    """What is taken for C = Cov[x_0 | x_t]; `ratio` is r and `slope` sigma²/alpha."""

    def check(self, measurement: Measurement) -> None:  # noqa: B027
        """Raise a ValueError where the measurement is not one for this covariance."""

    @abstractmethod
    def solve(self, measurement: Measurement, b: Tensor, ratio: Time, slope: Time, transposed: Transposed) -> Tensor:
        """(s² + A C A')^-1 b."""


@dataclass(frozen=True)
class Full(Covariance):
    """(sigma²/alpha) J, by a backward evaluation for each iteration.

    `iterations` and `tol` are those of :func:`scorefield.guidance.systems.solve`.
    """

    iterations: int = 3
    tol: float = 1e-3

    def solve(self, measurement: Measurement, b: Tensor, ratio: Time, slope: Time, transposed: Transposed) -> Tensor:  # noqa: ARG002
        """Iteratively."""
        operator = measurement.operator

        def system(w: Tensor) -> Tensor:
            v = transposed(operator.adjoint(w))
            return measurement.std**2 * w + operator.apply(expand(slope, v) * v)

        return solve(system, b, tol=self.tol, iterations=self.iterations)


@dataclass(frozen=True)
class RowSums(Covariance):
    """For A C A' the diagonal matrix of the row sums of A (sigma²/alpha) J A', by one backward evaluation."""

    def solve(self, measurement: Measurement, b: Tensor, ratio: Time, slope: Time, transposed: Transposed) -> Tensor:  # noqa: ARG002
        """A division; sums count by their moduli, since variances are not negative."""
        operator = measurement.operator
        v = transposed(operator.adjoint(torch.ones_like(b)))
        variance = measurement.std**2 + operator.apply(expand(slope, v) * v).real.abs()
        return torch.where(variance > 0, b / variance, 0)


@dataclass(frozen=True)
class Isotropic(Covariance):
    """r²d²/(r² + d²), for data of standard deviation d in model units, and r² unless d is given.

    Where data are correlated, Cov[x_0 | x_t] is larger than for a finite d in some directions, and the guidance
    overshoots there; r² is never too small.
    """

    data_std: float = math.inf

    def solve(self, measurement: Measurement, b: Tensor, ratio: Time, slope: Time, transposed: Transposed) -> Tensor:  # noqa: ARG002
        """Without an evaluation."""
        spread = ratio**2 / (1 + (ratio / self.data_std) ** 2)
        return measurement.regularized(b, torch.full_like(spread, measurement.std**2), spread)


@dataclass(frozen=True)
class Nothing(Covariance):
    """0."""

    def check(self, measurement: Measurement) -> None:
        """There must be noise."""
        if not measurement.std > 0:
            raise ValueError("no covariance (DPS) with a measurement without noise: give std, or another method")

    def solve(self, measurement: Measurement, b: Tensor, ratio: Time, slope: Time, transposed: Transposed) -> Tensor:  # noqa: ARG002
        """b/s²."""
        return b / measurement.std**2


class _Conditioned(Denoiser):
    """A model that knows a measurement."""

    def __init__(self, model: Denoiser, measurement: Measurement) -> None:
        super().__init__(model.sde, model.space)
        self.model, self.measurement = model, measurement
        self.plans = model.plans

    def select(self, rows: Int64[Tensor, "rows"]) -> "_Conditioned":
        """For some samples of the batch."""
        return self._with(model=denoiser(self.model.select(rows), self), measurement=self.measurement.select(rows))

    def predict(self, x: Data, t: Time) -> tuple[Data, Data]:
        """(denoised, noise) given y, without derivatives. Raises ValueError where these are asked for."""
        if x.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"the derivative of a {type(self).__name__}, which has none: likelihoods are of the model itself, or "
                "guided by a classifier"
            )
        denoised, noise = self(x, t)
        return denoised, noise


class Posterior(_Conditioned):
    """The score model of p(x_0 | y) by (1) and (2).

    Where alpha = 0, x_t says nothing of x_0 and the model's own answer stands.
    """

    def __init__(self, model: Denoiser, measurement: Measurement, covariance: Covariance) -> None:
        super().__init__(model, measurement)
        covariance.check(measurement)
        self.covariance = covariance

    def forward(self, x: Data, t: Time) -> tuple[Data, Data]:
        """(denoised, noise) given y: one evaluation, and backward ones."""
        informative = self.sde.informative(t)
        if not bool(informative.any()):
            return self.model.predict(x, t)
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        slope = torch.where(informative, sigma**2 / alpha, 0)
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            denoised, noise = self.model.predict(leaf, t.clone())

        def transposed(v: Data) -> Data:
            found: Tensor
            (found,) = torch.autograd.grad(denoised, leaf, v.detach().clone(), retain_graph=True)
            return found

        D, eps = denoised.detach(), noise.detach()
        with torch.inference_mode(False), torch.no_grad():
            w = self.covariance.solve(self.measurement, self.measurement.residual(D), sigma / alpha, slope, transposed)
            g = expand(informative, D) * transposed(self.measurement.operator.adjoint(w))
        return D + expand(slope, D) * g, eps - expand(sigma, eps) * g


class Proximal(_Conditioned):
    """The score model of DiffPIR: D moved towards the measurement, without a derivative; `strength` is 1/k."""

    def __init__(self, model: Denoiser, measurement: Measurement, strength: float = 1.0) -> None:
        super().__init__(model, measurement)
        if not strength > 0:
            raise ValueError(f"DiffPIR of strength {strength}, expected a positive number")
        self.strength = strength

    def forward(self, x: Data, t: Time) -> tuple[Data, Data]:
        """(denoised, noise) given y: one evaluation."""
        denoised, noise = self.model.predict(x, t)
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        variance = self.strength * (self.measurement.std * alpha / sigma) ** 2
        w = self.measurement.regularized(self.measurement.residual(denoised), variance, torch.ones_like(variance))
        change = self.measurement.operator.adjoint(w).to(denoised)
        return denoised + change, noise - expand(alpha / sigma, noise) * change
