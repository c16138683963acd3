"""Heun's method in the noise-to-signal ratio, with churn, and restarts (Karras et al. 2022; Xu et al. 2023).

With r = sigma/alpha and y = x/alpha the flow of every linear SDE is dy = eps dr: what Karras et al. (2022) write for
alpha = 1 holds for all. Noise that a sampler adds on its way repairs errors that it has made (their section 4).
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch

from scorefield.noise import Noise
from scorefield.samplers.base import Adjust, Past, Sampler, denoiser, draw
from scorefield.samplers.predictors import DDIM
from scorefield.score import ScoreModel
from scorefield.sde import LinearSDE
from scorefield.shapes import Data, Instant
from scorefield.times import at_ratio, between


@dataclass(frozen=True)
class Heun(Sampler):
    """The trapezoid in r, of second order with two evaluations a step (Karras et al. 2022, algorithms 1 and 2).

    With `churn` = gamma > 0, a step that starts at an r from `lowest` to `highest` first goes back, by fresh noise of
    standard deviation `noise_scale`, to (1 + gamma) r, but not beyond T. Karras et al.'s S_churn is gamma times the
    number of steps, and gamma is at most sqrt(2) - 1. Where alpha_t = 0 the step is DDIM's, of first order.
    """

    churn: float = 0.0
    lowest: float = 0.0
    highest: float = math.inf
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.churn <= math.sqrt(2) - 1 + 1e-9:
            raise ValueError(f"Heun with churn {self.churn}, expected 0 to sqrt(2) - 1 = 0.414")
        if not (0 <= self.lowest < self.highest and self.noise_scale > 0):
            raise ValueError(
                f"Heun with churn from {self.lowest} to {self.highest}, noise scaled by {self.noise_scale}; expected "
                "0 <= lowest < highest and a positive scale"
            )

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t."""
        model = denoiser(model, self)
        sde = model.sde
        if not sde.informative(t):
            return DDIM().step(model, x, t, s, noise, past)
        if self.churn and self.lowest <= _ratio(sde, t) <= self.highest:
            later = at_ratio(sde, (1 + self.churn) * _ratio(sde, t))
            a, v = sde.transition(t, later)
            x, t = a * x + self.noise_scale * torch.sqrt(v) * draw(noise, x), later
        denoised, first = model.predict(x, t)
        euler = sde.alpha(s) * denoised + sde.sigma(s) * first
        return euler + 0.5 * sde.alpha(s) * (_ratio(sde, t) - _ratio(sde, s)) * (first - model.noise(euler, s))


@dataclass(frozen=True)
class Restart(Sampler):
    """Any sampler that, having passed below r = `low`, goes back to r = `high` by the forward kernel, `repeats` times.

    Each way down again takes `steps` steps, equal in log-SNR (Xu et al. 2023, algorithm 1). `high` is at most the r of
    T, and `low` lies within the walk: a step raises ValueError where `high` is beyond T, `run` where `low` is passed
    before the walk begins, and at its end, where it denoises, if the walk ends above `low`; a step by itself cannot
    know.
    """

    sampler: Sampler
    low: float = 0.1
    high: float = 1.0
    repeats: int = 1
    steps: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high or self.repeats < 1 or self.steps < 1:
            raise ValueError(
                f"Restart from {self.low} to {self.high}, {self.repeats} times in {self.steps} steps; expected "
                "0 < low < high and at least 1 of both"
            )

    def start(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:
        """The sampler's own. Raises ValueError where r has been below `low` from the start."""
        first, least = (float(_ratio(denoiser(model, self).sde, time)) for time in (t, torch.zeros_like(t)))
        if self._low(first):
            raise ValueError(
                f"Restart with low {self.low:g} in a walk that begins at sigma/alpha = {first:g}, already there; "
                "expected low within the walk: lower it"
            )
        if not self._low(least):
            raise ValueError(
                f"Restart with low {self.low:g} and {type(model.sde).__name__}, whose sigma/alpha is at least "
                f"{least:g}; expected low within the walk: raise it"
            )
        return self.sampler.start(model, x, t, noise)

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t, and as often as asked for back and down again."""
        sde = denoiser(model, self).sde
        top, most = at_ratio(sde, self.high), float(_ratio(sde, torch.full_like(t, sde.T)))
        if self.high > most * (1 + 1e-6):
            raise ValueError(
                f"Restart to high {self.high:g} with {type(sde).__name__}, whose sigma/alpha is {most:g} at T; "
                "expected no more: lower high"
            )
        x = self.sampler.step(model, x, t, s, noise, past)
        if self._low(float(_ratio(sde, t))) or not self._low(float(_ratio(sde, s))):
            return x
        a, v = sde.transition(s, top)
        for _ in range(self.repeats):
            past.clear()
            x = a * x + torch.sqrt(v) * draw(noise, x)
            for here, there in pairwise(between(sde, top, s, self.steps)):
                x = self.sampler.step(model, x, here, there, noise, past)
        return x

    def finish(self, model: ScoreModel, x: Data, t: Instant, past: Past) -> Data:
        """The sampler's own. Raises ValueError where the walk has not come down to `low`."""
        last = float(_ratio(denoiser(model, self).sde, t))
        if not self._low(last):
            raise ValueError(
                f"Restart with low {self.low:g} in a walk that ended at sigma/alpha = {last:g} and never restarted; "
                "expected low within the walk: raise it, or end the walk later"
            )
        return self.sampler.finish(model, x, t, past)

    def _low(self, ratio: float) -> bool:
        """Whether `ratio` is at most `low`, or would be without rounding: a walk may end there."""
        return ratio <= self.low * (1 + 1e-6)

    def adjusted(self, adjust: Adjust) -> Sampler:
        """Restarts of the adjusted sampler."""
        return Restart(self.sampler.adjusted(adjust), self.low, self.high, self.repeats, self.steps)


def _ratio(sde: LinearSDE, t: Instant) -> Instant:
    return sde.sigma(t) / sde.alpha(t)
