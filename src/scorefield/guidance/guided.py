"""Score models that are guided by something: what all guidance has in common.

Guidance adds a vector d to the score, s <- s + d. Since the views are linear in one another, with x = alpha D +
sigma eps and s = -eps/sigma, each view gains its own multiple of d:

    score     d
    noise     -sigma d
    denoised  sigma²/alpha d
    a D + b eps   sigma (a sigma - b alpha)/alpha d,   for the velocity -g²/2 d                    (1)

The last two are for alpha > 0; where alpha = 0 x_t knows nothing of the data, and d = 0.

Guidance may be confined to an interval of the noise-to-signal ratio sigma/alpha: at large noise it takes variety away,
at little noise it has no effect (Kynkäänniemi et al. 2024). Outside, the model is as it was.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from scorefield.score import Denoiser
from scorefield.sde import LinearSDE
from scorefield.shapes import Data, Time

Views = Callable[[Denoiser], tuple[Data, ...]]
"""Some views of a model at some (x, t), from one evaluation."""


@dataclass(frozen=True)
class Interval:
    """Noise-to-signal ratios sigma/alpha from `low` to `high`.

    >>> from scorefield.sde import EDM
    >>> Interval(0.5, 2.0).inside(EDM(), torch.tensor([0.1, 1.0, 10.0]))
    tensor([False,  True, False])
    """

    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(
                f"guidance from noise {self.low:g} to {self.high:g}, expected two ratios sigma/alpha, 0 <= low < high"
            )

    def inside(self, sde: LinearSDE, t: Time) -> Bool[Tensor, "..."]:
        """Whether the ratio at t lies in the interval, ends included."""
        log_ratio = -0.5 * sde.logsnr(t)
        low = math.log(self.low) if self.low > 0 else -math.inf
        return (log_ratio >= low) & (log_ratio <= math.log(self.high))


ALWAYS = Interval()


class Guided(Denoiser):
    """A score model whose views are those of `model`, guided inside an interval.

    `forward` is one evaluation, of one of the models that take part: views of it.
    """

    def __init__(self, model: Denoiser, interval: Interval = ALWAYS) -> None:
        super().__init__(model.sde, model.space)
        self.model, self.interval, self.plans = model, interval, model.plans

    def forward(self, x: Data, t: Time, model: Denoiser, views: Views) -> tuple[Data, ...]:  # noqa: ARG002
        """The views of a model at (x, t)."""
        return views(model)

    @abstractmethod
    def guide(self, x: Data, t: Time, views: Views, gains: tuple[Time, ...]) -> tuple[Data, ...]:
        """Those views of this model; `gains` is what each gains for a unit of score, eq. (1)."""

    def score(self, x: Data, t: Time) -> Data:
        """The guided score."""
        return self.guide(x, t, lambda model: (model.score(x, t),), (torch.ones_like(t),))[0]

    def noise(self, x: Data, t: Time) -> Data:
        """The guided E[z | x_t]."""
        return self.guide(x, t, lambda model: (model.noise(x, t),), (-self.sde.sigma(t),))[0]

    def denoise(self, x: Data, t: Time) -> Data:
        """The guided E[x_0 | x_t]."""
        gain = self._gain(t, torch.ones_like(t), torch.zeros_like(t))
        return self.guide(x, t, lambda model: (model.denoise(x, t),), (gain,))[0]

    def predict(self, x: Data, t: Time) -> tuple[Data, Data]:
        """(denoised, noise) from one evaluation."""
        gains = self._gain(t, torch.ones_like(t), torch.zeros_like(t)), -self.sde.sigma(t)
        denoised, noise = self.guide(x, t, lambda model: model.predict(x, t), gains)
        return denoised, noise

    def blend(self, x: Data, t: Time, data: Time, noise: Time) -> Data:
        """``data`` D + ``noise`` eps, from one evaluation."""
        gain = self._gain(t, data, noise)
        return self.guide(x, t, lambda model: (model.blend(x, t, data, noise),), (gain,))[0]

    def velocity(self, x: Data, t: Time) -> Data:
        """The right side of the guided probability-flow ODE."""
        gain = self._gain(t, self.sde.dalpha(t), self.sde.dsigma(t))
        return self.guide(x, t, lambda model: (model.velocity(x, t),), (gain,))[0]

    def select(self, rows: Int64[Tensor, "rows"]) -> "Guided":
        """This model for some samples of its batch."""
        selected = self.model.select(rows)
        return self if selected is self.model else self._with(model=selected)

    def _gain(self, t: Time, data: Time, noise: Time) -> Time:
        """sigma (data sigma - noise alpha)/alpha, 0 where alpha = 0."""
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        return torch.where(alpha > 0, sigma * (data * sigma - noise * alpha) / torch.where(alpha > 0, alpha, 1.0), 0.0)
