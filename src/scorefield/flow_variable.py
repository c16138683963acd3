"""The probability-flow ODE in a variable that solvers like.

Any SDE:  dx/dt = f - g² s/2 in plain time (Song et al. 2021, eq. 13).

A linear SDE allows better. With n² = alpha² d² + sigma², the angle phi = atan2(sigma, alpha d) and z = x/n,

    dz/dphi = cos(phi) eps - sin(phi) D/d                                              (1)

whose right side is finite wherever alpha and sigma are (rectified flow starts at alpha = 0), of order one, and zero for
Gaussian data of standard deviation d. It generalizes to any linear SDE what Salimans & Ho (2022) use for VP and d = 1.

Densities change by the volume: log p_t(x_t) = log p_T(x_T) + log-volume + integral of the divergence of the right side
(Song et al. 2021, eq. 39), where the log-volume of (1) is dim log(n_T/n_t).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.sde import LinearSDE
from scorefield.shapes import Data, Time, expand


class FlowVariable(ABC):
    """An ODE dz/du = slope(u, z) from the data at u = `start` to the prior at u = `end`."""

    @property
    @abstractmethod
    def start(self) -> float:
        """u at the data."""

    @property
    @abstractmethod
    def end(self) -> float:
        """u at the prior."""

    @abstractmethod
    def state(self, x: Data, u: float) -> Data:
        """x at u to the ODE's state z."""

    @abstractmethod
    def data(self, z: Data, u: float) -> Data:
        """The state at u to x."""

    @abstractmethod
    def slope(self, u: Time, z: Data) -> Data:
        """dz/du."""

    @abstractmethod
    def log_volume(self, dim: int) -> float:
        """log |dx_end/dz_end| - log |dx_start/dz_start|."""


@dataclass(frozen=True)
class PlainTime(FlowVariable):
    """u = t, z = x."""

    t_min: float
    T: float
    velocity: Callable[[Data, Time], Data]

    @property
    def start(self) -> float:
        """t_min."""
        return self.t_min

    @property
    def end(self) -> float:
        """T."""
        return self.T

    def state(self, x: Data, u: float) -> Data:  # noqa: ARG002
        """x itself."""
        return x

    def data(self, z: Data, u: float) -> Data:  # noqa: ARG002
        """z itself."""
        return z

    def slope(self, u: Time, z: Data) -> Data:
        """The velocity."""
        return self.velocity(z, u)

    def log_volume(self, dim: int) -> float:  # noqa: ARG002
        """0."""
        return 0.0


@dataclass(frozen=True)
class Angle(FlowVariable):
    """u = phi, z = x/n, eq. (1), for data of standard deviation about `data_std` in model units.

    ``blend(x, t, a, b)`` is a D + b eps.
    """

    sde: LinearSDE
    blend: Callable[[Data, Time, Time, Time], Data]
    data_std: float = 0.5

    def _ends(self, t: float) -> tuple[float, float]:
        time = torch.tensor(t, dtype=torch.float64)
        return float(self.sde.alpha(time)) * self.data_std, float(self.sde.sigma(time))

    @property
    def start(self) -> float:
        """The angle at t_min."""
        alpha, sigma = self._ends(self.sde.t_min)
        return math.atan2(sigma, alpha)

    @property
    def end(self) -> float:
        """The angle at T, at most pi/2."""
        alpha, sigma = self._ends(self.sde.T)
        return math.atan2(sigma, alpha)

    def _time(self, u: Tensor) -> Tensor:
        return self.sde.time(2 * (torch.log(torch.cos(u)) - torch.log(torch.sin(u)) - math.log(self.data_std)))

    def _scale(self, u: Tensor) -> Tensor:
        t = self._time(u)
        return torch.hypot(self.sde.alpha(t) * self.data_std, self.sde.sigma(t))

    def state(self, x: Data, u: float) -> Data:
        """x/n."""
        return x / self._scale(torch.tensor(u, dtype=torch.float64))

    def data(self, z: Data, u: float) -> Data:
        """n z."""
        return z * self._scale(torch.tensor(u, dtype=torch.float64))

    def slope(self, u: Time, z: Data) -> Data:
        """cos(phi) eps - sin(phi) D/d."""
        t = self._time(u)
        n = torch.hypot(self.sde.alpha(t) * self.data_std, self.sde.sigma(t))
        return self.blend(expand(n, z) * z, t, -torch.sin(u) / self.data_std, torch.cos(u))

    def log_volume(self, dim: int) -> float:
        """dim log(n_T/n_t)."""
        return dim * math.log(math.hypot(*self._ends(self.sde.T)) / math.hypot(*self._ends(self.sde.t_min)))
