"""Score models: one function of (x, t), seen in four ways.

For a linear SDE, x = alpha x_0 + sigma z, the network's output F and the four views are linear in one another:

    denoised D = E[x_0 | x_t],   noise eps = E[z | x_t],   x = alpha D + sigma eps             (1)
    score s = grad log p_t(x) = -eps/sigma                     (Tweedie's formula; Efron 2011)    (2)
    velocity u = alpha' D + sigma' eps = f - g² s/2            (the probability-flow ODE)        (3)

A parameterization is what the network is asked for, F = p D + q eps, so that with m = q alpha - p sigma and
k = alpha sigma' - alpha' sigma

    D = (q x - sigma F)/m,   eps = (alpha F - p x)/m,   u = ((alpha' q - sigma' p) x + k F)/m      (4)

Each view comes from its own coefficients of x and F, never from another view: no nearly equal numbers are subtracted.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from scorefield.flow_variable import Angle, FlowVariable, PlainTime
from scorefield.plan import Plan
from scorefield.sde import SDE, LinearSDE
from scorefield.shapes import Data, Time, expand
from scorefield.space import DataSpace

Model = TypeVar("Model", bound="ScoreModel")


def labels_of(label: Tensor | int, rows: Int64[Tensor, "rows"]) -> Tensor | int:
    """The labels of some samples, of one label for all or of (n,), one for each. Raises ValueError where they end.

    >>> labels_of(3, torch.tensor([0, 2])), labels_of(torch.tensor([5, 6, 7]), torch.tensor([0, 2]))
    (3, tensor([5, 7]))
    """
    if not isinstance(label, Tensor) or label.ndim == 0:
        return label
    if len(rows) and int(rows.max()) >= len(label):
        raise ValueError(
            f"{len(label)} labels, and a sample of number {int(rows.max())}: bind one label, or one for each sample"
        )
    return label[rows.to(label.device)]


class ScoreModel(nn.Module, ABC):
    """The score of the perturbed data distribution of an SDE: all that sampling and likelihood need.

    x is (batch, *data) in model units, t is () or (batch,). `forward` is one evaluation, whatever a subclass needs to
    evaluate; every view calls the module, so that a forward hook sees each evaluation.
    """

    sde: SDE
    space: DataSpace
    plans: Mapping[int, Plan] = MappingProxyType({})
    """How to spend a budget of evaluations, for the budgets that were calibrated."""

    def __init__(self, sde: SDE, space: DataSpace) -> None:
        super().__init__()
        self.sde, self.space = sde, space

    @abstractmethod
    def score(self, x: Data, t: Time) -> Data:
        """The gradient of log p_t(x)."""

    def denoise(self, x: Data, t: Time) -> Data:  # noqa: ARG002
        """E[x_0 | x_t], for linear SDEs."""
        raise self._nonlinear("denoise")

    def noise(self, x: Data, t: Time) -> Data:  # noqa: ARG002
        """E[z | x_t], for linear SDEs."""
        raise self._nonlinear("noise")

    def velocity(self, x: Data, t: Time) -> Data:
        """The right side of the probability-flow ODE, f - g² s/2 (Song et al. 2021, eq. 13)."""
        return self.sde.drift(x, t) - 0.5 * expand(self.sde.diffusion(t), x) ** 2 * self.score(x, t)

    def flow_variable(self) -> FlowVariable:
        """The probability-flow ODE in the variable that solvers like best."""
        return PlainTime(self.sde.t_min, self.sde.T, self.velocity)

    def given(self, **condition: Any) -> "ScoreModel":
        """This model with a condition bound to it (`label=3`): samplers only ever see (x, t)."""
        raise ValueError(f"condition {', '.join(condition)} given to {type(self).__name__}, which takes none")

    def select(self, rows: Int64[Tensor, "rows"]) -> "ScoreModel":  # noqa: ARG002
        """This model for some samples of its batch: of conditions that belong to each sample, those rows."""
        return self

    def _with(self: Model, **parts: object) -> Model:
        """This model with other parts, which counts as this one where evaluations are counted."""
        bound = copy.copy(self)
        bound._modules = dict(self._modules)
        for name, part in parts.items():
            setattr(bound, name, part)
        return bound

    def _nonlinear(self, view: str) -> TypeError:
        return TypeError(
            f"{view} needs a linear SDE, {type(self.sde).__name__} gives only a score: use score or velocity"
        )


class ScoreFunction(ScoreModel):
    """Any function score(x, t), with any SDE.

    >>> from scorefield.sde import VE
    >>> model = ScoreFunction(lambda x, t: -x, VE(), DataSpace((2,)))
    >>> model.score(torch.ones(1, 2), torch.tensor(0.5))
    tensor([[-1., -1.]])
    """

    def __init__(self, function: Callable[[Data, Time], Data], sde: SDE, space: DataSpace) -> None:
        super().__init__(sde, space)
        self.function = function

    def forward(self, x: Data, t: Time) -> Data:
        """The function's value."""
        return self.function(x, t)

    def score(self, x: Data, t: Time) -> Data:
        """The function's value."""
        score: Tensor = self(x, t)
        return score


class Denoiser(ScoreModel):
    """A score model of a linear SDE: it knows E[x_0 | x_t] and E[z | x_t], and all else follows from (1) to (3)."""

    sde: LinearSDE

    @abstractmethod
    def predict(self, x: Data, t: Time) -> tuple[Data, Data]:
        """(denoised, noise) from one evaluation."""

    def score(self, x: Data, t: Time) -> Data:
        """-noise/sigma."""
        return -self.noise(x, t) / expand(self.sde.sigma(t), x)

    def denoise(self, x: Data, t: Time) -> Data:
        """E[x_0 | x_t]."""
        return self.predict(x, t)[0]

    def noise(self, x: Data, t: Time) -> Data:
        """E[z | x_t]."""
        return self.predict(x, t)[1]

    def blend(self, x: Data, t: Time, data: Time, noise: Time) -> Data:
        """``data`` D + ``noise`` eps, from one evaluation."""
        denoised, eps = self.predict(x, t)
        return expand(data, x) * denoised + expand(noise, x) * eps

    def velocity(self, x: Data, t: Time) -> Data:
        """alpha' denoised + sigma' noise, eq. (3)."""
        return self.blend(x, t, self.sde.dalpha(t), self.sde.dsigma(t))

    def flow_variable(self) -> FlowVariable:
        """The flow in the angle form, finite wherever alpha and sigma are."""
        return Angle(self.sde, self.blend)


@dataclass(frozen=True)
class Parameterization(ABC):
    """What a network is asked for: F = p D + q eps (4)."""

    @abstractmethod
    def target(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:
        """(p, q) of F = p D + q eps."""

    def input_scale(self, sde: LinearSDE, t: Time) -> Time | None:  # noqa: ARG002
        """What multiplies x on its way into the network; None is 1."""
        return None

    def denoised(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:
        """(skip, out) of denoised = skip x + out F."""
        p, q = self.target(sde, t)
        m = q * sde.alpha(t) - p * sde.sigma(t)
        return q / m, -sde.sigma(t) / m

    def noise(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:
        """(skip, out) of noise = skip x + out F."""
        p, q = self.target(sde, t)
        m = q * sde.alpha(t) - p * sde.sigma(t)
        return -p / m, sde.alpha(t) / m

    def blend(self, sde: LinearSDE, t: Time, data: Time, noise: Time) -> tuple[Time, Time]:
        """(skip, out) of ``data`` D + ``noise`` eps = skip x + out F."""
        p, q = self.target(sde, t)
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        m = q * alpha - p * sigma
        return (data * q - noise * p) / m, (noise * alpha - data * sigma) / m

    def velocity(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:
        """(skip, out) of velocity = skip x + out F."""
        p, q = self.target(sde, t)
        alpha, sigma, dalpha, dsigma = sde.alpha(t), sde.sigma(t), sde.dalpha(t), sde.dsigma(t)
        m = q * alpha - p * sigma
        return (dalpha * q - dsigma * p) / m, (alpha * dsigma - dalpha * sigma) / m


class NoisePrediction(Parameterization):
    """F = eps (Ho et al. 2020)."""

    def target(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:  # noqa: ARG002
        """(0, 1)."""
        return torch.zeros_like(t), torch.ones_like(t)

    def noise(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:  # noqa: ARG002
        """(0, 1), also where alpha = 0."""
        return torch.zeros_like(t), torch.ones_like(t)


class ScorePrediction(Parameterization):
    """F = s."""

    def target(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:
        """(0, -1/sigma)."""
        return torch.zeros_like(t), -1 / sde.sigma(t)

    def noise(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:
        """(0, -sigma), also where alpha = 0."""
        return torch.zeros_like(t), -sde.sigma(t)


class ScaledScorePrediction(Parameterization):
    """F = sigma s = -eps: NCSN++, whose published network divides by sigma at its end (Song et al. 2021, app. H)."""

    def target(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:  # noqa: ARG002
        """(0, -1)."""
        return torch.zeros_like(t), -torch.ones_like(t)

    def noise(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:  # noqa: ARG002
        """(0, -1), also where alpha = 0."""
        return torch.zeros_like(t), -torch.ones_like(t)


class DataPrediction(Parameterization):
    """F = D. In float32 its noise view loses digits where sigma is below about 1e-3."""

    def target(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:  # noqa: ARG002
        """(1, 0)."""
        return torch.ones_like(t), torch.zeros_like(t)


class VPrediction(Parameterization):
    """F = (alpha eps - sigma D)/n, n² = alpha² + sigma² (Salimans & Ho 2022; n extends it beyond VP)."""

    def target(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:
        """(-sigma/n, alpha/n)."""
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        n = torch.hypot(alpha, sigma)
        return -sigma / n, alpha / n

    def input_scale(self, sde: LinearSDE, t: Time) -> Time:
        """1/n."""
        return 1 / torch.hypot(sde.alpha(t), sde.sigma(t))


class VelocityPrediction(Parameterization):
    """F = u (Lipman et al. 2022, flow matching)."""

    def target(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:
        """(alpha', sigma')."""
        return sde.dalpha(t), sde.dsigma(t)

    def velocity(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:  # noqa: ARG002
        """(0, 1)."""
        return torch.zeros_like(t), torch.ones_like(t)


@dataclass(frozen=True)
class EDMPrediction(Parameterization):
    """F of unit variance for data of standard deviation `data_std` (Karras et al. 2022, eq. 7, for any linear SDE).

    F = (sigma D/d - alpha d eps)/n, n² = alpha² d² + sigma².
    """

    data_std: float = 0.5

    def target(self, sde: LinearSDE, t: Time) -> tuple[Time, Time]:
        """(sigma/(d n), -alpha d/n)."""
        alpha, sigma = sde.alpha(t) * self.data_std, sde.sigma(t)
        n = torch.hypot(alpha, sigma)
        return sigma / (self.data_std * n), -alpha / n

    def input_scale(self, sde: LinearSDE, t: Time) -> Time:
        """1/n."""
        return 1 / torch.hypot(sde.alpha(t) * self.data_std, sde.sigma(t))


PARAMETERIZATIONS: dict[str, type[Parameterization]] = {
    "noise": NoisePrediction,
    "score": ScorePrediction,
    "scaled_score": ScaledScorePrediction,
    "data": DataPrediction,
    "v": VPrediction,
    "velocity": VelocityPrediction,
    "edm": EDMPrediction,
}
