"""Replacement conditioning: inpainting, colourization, any measurement whose singular values are known.

In the spectrum of the operator, y says what the coordinates with d > 0 are, up to noise of deviation e = s/d. After
every update, of the predictor and of the corrector, they are replaced by what is known, perturbed to that step's time
(Song et al. 2021, app. I, for orthonormal rows; noise as in Kawar et al. 2022),

    c <- alpha_s y/d + sqrt(sigma_s² - alpha_s² e²) z    where    sigma_s >= alpha_s e,                (1)

and, where there is no noise, by the data themselves at the end: the known part is then exact, and the rest comes from
the last denoising, free of noise.

The method is biased: the rest never sees what it does to the known part. For two Gaussian coordinates of unit variance
and correlation r, with y known and many steps, the other one has mean y (1 - sqrt(1 - r²))/r instead of r y and
variance (1 - r²)/(2 r) log((1 + r)/(1 - r)) instead of 1 - r², with any SDE. `Resampled` repairs it: it goes back to t
by the forward kernel and down again, and with the number of turns the known and the unknown part come to agree
(RePaint, Lugmayr et al. 2022).
"""

from dataclasses import dataclass

import torch

from scorefield.guidance.measurement import Measurement
from scorefield.noise import Noise
from scorefield.samplers.base import Adjust, Past, Sampler, denoiser, draw
from scorefield.score import ScoreModel
from scorefield.sde import LinearSDE
from scorefield.shapes import Data, Instant


@dataclass(frozen=True, eq=False)
class Replacement(Sampler):
    """Any sampler, with the measured part of every intermediate result replaced (1)."""

    sampler: Sampler
    measurement: Measurement

    def __post_init__(self) -> None:
        self.measurement.spectral(self)

    def start(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:
        """A draw of the prior with the known part at time t."""
        return self._replace(model, self.sampler.start(model, x, t, noise), t, noise)

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t, with the known part at time s."""
        return self.sampler.adjusted(self._replace).step(model, x, t, s, noise, past)

    def finish(self, model: ScoreModel, x: Data, t: Instant, past: Past) -> Data:
        """The data, with the known part exact where it was measured without noise."""
        return self.measurement.enforced(self.sampler.finish(model, x, t, past))

    def _replace(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:
        return replaced(self.measurement, denoiser(model, self).sde, x, t, draw(noise, x))


def replaced(measurement: Measurement, sde: LinearSDE, x: Data, t: Instant, z: Data) -> Data:
    """x at time t with the measured part replaced (1)."""
    operator = measurement.spectral(replaced)
    alpha, sigma, c = sde.alpha(t), sde.sigma(t), operator.spectrum(x)
    variance = sigma**2 - (alpha * measurement.errors(c)) ** 2
    known = alpha * operator.scaled(measurement.y) + torch.sqrt(variance.clamp(min=0)) * operator.spectrum(z)
    return operator.data(torch.where(operator.seen(c) & (variance >= 0), known, c)).to(x)


@dataclass(frozen=True)
class Resampled(Sampler):
    """Any sampler whose every step is taken `turns` times, with a step of the forward kernel back between them.

    Each turn costs what a step costs.
    """

    sampler: Sampler
    turns: int = 10

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ValueError(f"Resampled in {self.turns} turns, expected 1 or more")

    def start(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:
        """The sampler's own."""
        return self.sampler.start(model, x, t, noise)

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t, the last of so many times."""
        a, v = denoiser(model, self).sde.transition(s, t)
        for turn in range(self.turns):
            if turn:
                past.clear()
                x = a * x + torch.sqrt(v) * draw(noise, x)
            x = self.sampler.step(model, x, t, s, noise, past)
        return x

    def finish(self, model: ScoreModel, x: Data, t: Instant, past: Past) -> Data:
        """The sampler's own."""
        return self.sampler.finish(model, x, t, past)

    def adjusted(self, adjust: Adjust) -> Sampler:
        """Turns of the adjusted sampler."""
        return Resampled(self.sampler.adjusted(adjust), self.turns)
