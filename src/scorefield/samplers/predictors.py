"""Predictors: one step of the reverse-time SDE, or of the probability-flow ODE, from t to s < t.

The reverse SDE is dx = (f - g² score) dt + g dw, run backwards (Anderson 1982; Song et al. 2021, eq. 6); without the
noise and with half the score it is the probability-flow ODE (eq. 13). With a, v of the forward kernel s -> t,

    Euler-Maruyama       x_s = x - (t - s)(f - g² score) + g sqrt(t - s) z
    reverse diffusion    x_s = (2 - a) x + v score + sqrt(v) z                     (eq. 46)
    ancestral            x_s | x_t, x_0 = D, exactly Gaussian:
                         mean (a sigma_s²/sigma_t²) x + (alpha_s v/sigma_t²) D, variance v sigma_s²/sigma_t²
                         (Ho et al. 2020, eq. 6 and 7, for any linear SDE)

The ancestral step needs no score and divides neither by alpha_t nor by a: it can start where alpha = 0 and land on
sigma = 0. Its deterministic form is DDIM (Song, Meng & Ermon 2021), x_s = (sigma_s/sigma_t) x + (alpha_s - alpha_t
sigma_s/sigma_t) D. All are of weak order 1. Where alpha_t = 0 the others have no reverse step, and take the ancestral
one.
"""

from dataclasses import dataclass

import torch

from scorefield.noise import Noise
from scorefield.samplers.base import Past, Sampler, denoiser, draw
from scorefield.score import Denoiser, ScoreModel
from scorefield.shapes import Data, Instant, expand


@dataclass(frozen=True)
class EulerMaruyama(Sampler):
    """Euler–Maruyama, or Euler on the probability flow; the one predictor for SDEs that are not linear."""

    probability_flow: bool = False

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t."""
        if isinstance(model, Denoiser) and not model.sde.alpha(t) > 0:
            return Ancestral(self.probability_flow).step(model, x, t, s, noise, past)
        if self.probability_flow:
            return x - (t - s) * model.velocity(x, t)
        g = expand(model.sde.diffusion(t), x)
        drift = model.sde.drift(x, t) - g**2 * model.score(x, t)
        return x - (t - s) * drift + g * torch.sqrt(t - s) * draw(noise, x)


@dataclass(frozen=True)
class ReverseDiffusion(Sampler):
    """The reverse of the forward kernel's own discretization (Song et al. 2021, eq. 46), or half of it on the flow."""

    probability_flow: bool = False

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t."""
        a, v = denoiser(model, self).sde.transition(s, t)
        if not a > 0:
            return Ancestral(self.probability_flow).step(model, x, t, s, noise, past)
        score = model.score(x, t)
        if self.probability_flow:
            return (2 - a) * x + 0.5 * v * score
        return (2 - a) * x + v * score + torch.sqrt(v) * draw(noise, x)


@dataclass(frozen=True)
class Ancestral(Sampler):
    """The exact posterior of x_s given x_t and the denoised x_0; DDIM on the flow."""

    probability_flow: bool = False

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:  # noqa: ARG002
        """x at time t to x at time s < t."""
        sde = denoiser(model, self).sde
        denoised, ratio = model.denoise(x, t), sde.sigma(s) / sde.sigma(t)
        if self.probability_flow:
            return ratio * x + (sde.alpha(s) - sde.alpha(t) * ratio) * denoised
        a, v = sde.transition(s, t)
        share = v / sde.sigma(t) ** 2
        mean = a * ratio**2 * x + sde.alpha(s) * share * denoised
        return mean + torch.sqrt(v) * ratio * draw(noise, x)


@dataclass(frozen=True)
class Heun(Sampler):
    """Second order in the noise-to-signal ratio r = sigma/alpha, for the flow: two evaluations a step.

    With y = x/alpha the flow is dy = eps dr; the step is the trapezoid (Karras et al. 2022, algorithm 1, for any linear
    SDE). Where alpha_t = 0 the step is DDIM's, of first order.
    """

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t."""
        model = denoiser(model, self)
        sde = model.sde
        if not sde.alpha(t) > 0:
            return Ancestral(probability_flow=True).step(model, x, t, s, noise, past)
        denoised, first = model.predict(x, t)
        euler = sde.alpha(s) * denoised + sde.sigma(s) * first
        span = sde.sigma(t) / sde.alpha(t) - sde.sigma(s) / sde.alpha(s)
        return euler + 0.5 * sde.alpha(s) * span * (first - model.noise(euler, s))
