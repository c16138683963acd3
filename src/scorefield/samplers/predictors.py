"""Predictors: one step of the reverse-time SDE, or of the probability-flow ODE, from t to s < t.

The reverse SDE is dx = (f - g² score) dt + g dw, run backwards (Anderson 1982; Song et al. 2021, eq. 6); without the
noise and with half the score it is the probability-flow ODE (eq. 13). With a, v of the forward kernel s -> t,

    Euler-Maruyama       x_s = x - (t - s)(f - g² score) + g sqrt(t - s) z
    reverse diffusion    x_s = (2 - a) x + v score + sqrt(v) z                     (eq. 46)
    ancestral            x_s | x_t, x_0 = D, exactly Gaussian:
                         mean (a sigma_s²/sigma_t²) x + (alpha_s v/sigma_t²) D, variance v sigma_s²/sigma_t²
                         (Ho et al. 2020, eq. 6 and 7, for any linear SDE)

The ancestral step needs no score and divides neither by alpha_t nor by a: it can start where alpha = 0 and land on
sigma = 0. Between it and its deterministic form lies DDIM (Song, Meng & Ermon 2021), with w the posterior's variance,

    DDIM                 x_s = alpha_s D + sqrt(sigma_s² - eta² w) eps + eta sqrt(w) z

All are of weak order 1. Where alpha_t = 0 the others have no reverse step, and take this one.
"""

from dataclasses import dataclass
from typing import Literal

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
        if isinstance(model, Denoiser) and not model.sde.informative(t):
            return DDIM(eta=0.0 if self.probability_flow else 1.0).step(model, x, t, s, noise, past)
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
        sde = denoiser(model, self).sde
        a, v = sde.transition(s, t)
        if not sde.informative(t):
            return DDIM(eta=0.0 if self.probability_flow else 1.0).step(model, x, t, s, noise, past)
        score = model.score(x, t)
        if self.probability_flow:
            return (2 - a) * x + 0.5 * v * score
        return (2 - a) * x + v * score + torch.sqrt(v) * draw(noise, x)


@dataclass(frozen=True)
class Ancestral(Sampler):
    """The exact posterior of x_s given x_t and the denoised x_0.

    Its variance is the "posterior" one, or the larger one of the "forward" kernel, which is Ho et al.'s (2020)
    sigma_t² = beta_t, and the one that the published DDPM sampler draws; a step to sigma_s = 0 draws nothing.
    """

    variance: Literal["posterior", "forward"] = "posterior"

    def __post_init__(self) -> None:
        if self.variance not in ("posterior", "forward"):
            raise ValueError(f"Ancestral with variance {self.variance!r}, expected 'posterior' or 'forward'")

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:  # noqa: ARG002
        """x at time t to x at time s < t."""
        sde = denoiser(model, self).sde
        denoised, ratio = model.denoise(x, t), sde.sigma(s) / sde.sigma(t)
        a, v = sde.transition(s, t)
        share = v / sde.sigma(t) ** 2
        mean = a * ratio**2 * x + sde.alpha(s) * share * denoised
        spread = torch.sqrt(v) * (ratio if self.variance == "posterior" else torch.sign(ratio))
        return mean + spread * draw(noise, x)


@dataclass(frozen=True)
class DDIM(Sampler):
    """Denoising diffusion implicit models for any linear SDE (Song, Meng & Ermon 2021, eq. 12 and 16).

    `eta` multiplies the standard deviation of the noise: 0 is a step of the flow, 1 is the ancestral step.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDIM with eta {self.eta}, expected 0 (deterministic) to 1 (ancestral)")

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:  # noqa: ARG002
        """x at time t to x at time s < t."""
        model = denoiser(model, self)
        sde = model.sde
        denoised, eps = model.predict(x, t)
        fresh = -(self.eta**2) * torch.expm1(sde.logsnr(t) - sde.logsnr(s))
        y = sde.alpha(s) * denoised + sde.sigma(s) * torch.sqrt(1 - fresh) * eps
        return y + sde.sigma(s) * torch.sqrt(fresh) * draw(noise, x) if self.eta else y
