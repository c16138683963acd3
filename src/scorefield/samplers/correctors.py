"""Correctors stay at a time and let Langevin dynamics pull x towards the law there.

Langevin: x <- x + delta score + sqrt(2 delta) z. The paper's step is delta = 2 (snr |z|/|score|)² (Song et al. 2021,
algorithms 4 and 5), with norms that are means over the batch, so that samples depend on their batch mates. Taken for
each sample alone, that step depends on x and has a wrong stationary law in low dimension. In high dimension |z|/|score|
tends to sigma_t; so the step here is

    delta = 2 (snr sigma_t)²                                                          (1)

which depends on nothing but time. Where x_t has variance W, the stationary variance is W/(1 - snr² sigma_t²/W): at most
1/(1 - snr²) of the right one, by design.

Correctors alone are a sampler, too: annealed Langevin dynamics (Song & Ermon 2019, algorithm 1) runs them at one noise
level after the other, x staying as it is in between, with steps (1). The epsilon of Song & Ermon 2020 is
2 (snr sigma_min)².
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import torch

from scorefield.noise import Noise
from scorefield.samplers.base import Adjust, Past, Sampler, denoiser, draw
from scorefield.samplers.predictors import ReverseDiffusion
from scorefield.score import ScoreModel
from scorefield.shapes import Data, Instant, expand


class Corrector(ABC):
    """Improves a batch without leaving its time."""

    @abstractmethod
    def correct(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:
        """x at time t to better x at time t."""

    def adjusted(self, adjust: Adjust) -> "Corrector":
        """This corrector with `adjust` applied to what it makes."""
        return _Adjusted(self, adjust)


@dataclass(frozen=True)
class _Adjusted(Corrector):
    corrector: Corrector
    adjust: Adjust

    def correct(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:
        return self.adjust(model, self.corrector.correct(model, x, t, noise), t, noise)


@dataclass(frozen=True)
class Langevin(Corrector):
    """`steps` Langevin steps with signal-to-noise ratio `snr`.

    `rule="sigma"` is eq. (1), for linear SDEs; `rule="norm"` is the paper's with each sample's own |z|/|score|, for
    data of a few hundred dimensions or more; `rule="batch_mean"` is the paper's with the means of |z| and of |score|
    over the batch, as published, so that samples depend on their batch mates.
    """

    snr: float = 0.16
    steps: int = 1
    rule: Literal["sigma", "norm", "batch_mean"] = "sigma"

    def __post_init__(self) -> None:
        if not 0 < self.snr < 1 or self.steps < 1:
            raise ValueError(
                f"Langevin with snr {self.snr} and {self.steps} steps, expected 0 < snr < 1 and steps >= 1"
            )
        if self.rule not in ("sigma", "norm", "batch_mean"):
            raise ValueError(f"Langevin with rule {self.rule!r}, expected 'sigma', 'norm' or 'batch_mean'")

    def correct(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:
        """x at time t to better x at time t."""
        for _ in range(self.steps):
            score, z = model.score(x, t), draw(noise, x)
            if self.rule == "sigma":
                length = denoiser(model, self).sde.sigma(t)
            else:
                norms = z.flatten(1).norm(dim=1), score.flatten(1).norm(dim=1)
                above, below = norms if self.rule == "norm" else (norm.mean() for norm in norms)
                length = expand(above / below, x)
            delta = 2 * (self.snr * length) ** 2
            x = x + delta * score + torch.sqrt(2 * delta) * z
        return x


@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    """At each time the corrector, then the predictor (Song et al. 2021, algorithm 1)."""

    predictor: Sampler = field(default_factory=ReverseDiffusion)
    corrector: Corrector = field(default_factory=Langevin)

    def start(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:
        """The predictor's own."""
        return self.predictor.start(model, x, t, noise)

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t."""
        return self.predictor.step(model, self.corrector.correct(model, x, t, noise), t, s, noise, past)

    def finish(self, model: ScoreModel, x: Data, t: Instant, past: Past) -> Data:
        """The predictor's own."""
        return self.predictor.finish(model, x, t, past)

    def adjusted(self, adjust: Adjust) -> Sampler:
        """Adjusted after the corrector and after the predictor."""
        return PredictorCorrector(self.predictor.adjusted(adjust), self.corrector.adjusted(adjust))


@dataclass(frozen=True)
class CorrectorOnly(Sampler):
    """The corrector at each time, the first and the last included, and no predictor: annealed Langevin dynamics.

    x_t is taken for x_s as it is, which many turns at each time repair for any SDE. Where alpha = 1, for which it was
    published, only the noise has changed.
    """

    corrector: Corrector = field(default_factory=Langevin)

    def start(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:
        """The corrector at the first time."""
        return self.corrector.correct(model, x, t, noise)

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:  # noqa: ARG002
        """The corrector at time s, on x of time t > s."""
        return self.corrector.correct(model, x, s, noise)

    def adjusted(self, adjust: Adjust) -> Sampler:
        """Adjusted after each of the corrector's turns."""
        return CorrectorOnly(self.corrector.adjusted(adjust))
