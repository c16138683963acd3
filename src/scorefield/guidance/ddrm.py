"""Denoising diffusion restoration: DDIM in the spectrum of the operator (Kawar et al. 2022).

Of x/alpha, whose noise at time s is r = sigma_s/alpha_s, a coordinate that was measured up to e = s/d becomes

    y/d + sqrt(r² - e²) z                               where r >= e,                            (1)
    D + sqrt(1 - eta²) r (y/d - D)/e + eta r z          where r < e,                             (2)

and one that was not D + r (sqrt(1 - eta²) eps + eta z). With many steps the law does not become the posterior: where
nothing was measured it is colder, and (2) pulls by r where r² would be right.
"""

import math
from dataclasses import dataclass

import torch

from scorefield.guidance.measurement import Measurement
from scorefield.guidance.replacement import replaced
from scorefield.noise import Noise
from scorefield.samplers.base import Past, Sampler, denoiser, draw
from scorefield.score import ScoreModel
from scorefield.shapes import Data, Instant


@dataclass(frozen=True, eq=False)
class DDRM(Sampler):
    """DDIM in the spectrum of a measurement; `eta` is the share of new noise."""

    measurement: Measurement
    eta: float = 0.85

    def __post_init__(self) -> None:
        self.measurement.spectral(self)
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDRM with eta {self.eta}, expected 0 to 1")

    def start(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:
        """A draw of the prior with the measured part at time t."""
        return replaced(self.measurement, denoiser(model, self).sde, x, t, draw(noise, x))

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:  # noqa: ARG002
        """x at time t to x at time s < t."""
        model = denoiser(model, self)
        operator, kept = self.measurement.spectral(self), math.sqrt(1 - self.eta**2)
        denoised, eps, z = (operator.spectrum(part) for part in (*model.predict(x, t), draw(noise, x)))
        ratio, error = model.sde.sigma(s) / model.sde.alpha(s), self.measurement.errors(denoised)
        known = operator.scaled(self.measurement.y)
        loose = known + torch.sqrt((ratio**2 - error**2).clamp(min=0)) * z
        tight = denoised + ratio * (kept * (known - denoised) / error + self.eta * z)
        unseen = denoised + ratio * (kept * eps + self.eta * z)
        measured = torch.where(error <= ratio, loose, tight)
        return operator.data(model.sde.alpha(s) * torch.where(operator.seen(denoised), measured, unseen)).to(x)

    def finish(self, model: ScoreModel, x: Data, t: Instant, past: Past) -> Data:  # noqa: ARG002
        """The denoised data, with the measured part exact where it has no noise."""
        return self.measurement.enforced(denoiser(model, self).denoise(x, t))
