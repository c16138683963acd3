"""Twisted sequential Monte Carlo: exact posteriors, as particles grow (Wu et al. 2023).

Particles walk by ancestral steps p(x_s | x_t), whose mean is moved towards the measurement by the gradient of a twist
p~(y | x_t), an approximation of the likelihood; what the twist gets wrong is put right by weights

    w = p(x_s | x_t) p~(y | x_s)/(q(x_s | x_t) p~(y | x_t)),    q = N(mean + (v/a) grad log p~(y | x_t), variance)   (1)

and resampling. The twist is PiGDM's, N(y; A D, s² + r² A A') with r = sigma/alpha, and tends to p(y | x_0).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.guidance.measurement import Measurement
from scorefield.noise import Noise
from scorefield.samplers.base import Adaptive, Progress, denoiser
from scorefield.score import Denoiser, ScoreModel
from scorefield.shapes import Data, Instant, single
from scorefield.times import Grid


@dataclass(frozen=True, eq=False)
class TwistedSMC(Adaptive):
    """One draw of the posterior for each sample, from `particles` of its own that walk `times`.

    Particles are resampled where their effective number falls below half. `callback` is told of each step,
    with the first particle of each.
    """

    measurement: Measurement
    times: Grid
    particles: int = 16
    callback: Callable[[Progress], None] | None = None

    def __post_init__(self) -> None:
        self.measurement.spectral(self)
        if self.particles < 1:
            raise ValueError(f"TwistedSMC with {self.particles} particles, expected 1 or more")

    def sample(self, model: ScoreModel, x: Data, noise: Noise) -> Data:
        """x_T of one particle, whose fellows are drawn here, to data in model units."""
        particles, log_weights = self.run(denoiser(model, self), x, noise)
        chosen = _systematic(log_weights, noise.uniform((1,)).to(log_weights), 1)[:, 0]
        return self.measurement.enforced(particles[torch.arange(len(x), device=x.device), chosen])

    @torch.no_grad()
    def run(
        self, model: Denoiser, x: Data, noise: Noise
    ) -> tuple[Float[Tensor, "batch particles *data"], Float[Tensor, "batch particles"]]:
        """Denoised particles, and the logarithms of their weights, which sum to one."""
        batch, count, shape = len(x), self.particles, x.shape[1:]

        def draw() -> Tensor:
            return noise.normal((count, *shape), x.dtype)

        mine = self.measurement.select(torch.arange(batch, device=x.device).repeat_interleave(count))
        model = denoiser(model.select(torch.arange(batch, device=x.device).repeat_interleave(count)), self)
        y = model.sde.prior.sample(draw())
        y[:, 0] = x
        before = single(torch.zeros(batch, count, dtype=x.dtype, device=x.device))
        weights = before
        for i, (t, s) in enumerate(pairwise(self.times)):
            denoised, eps, gradient, twist = self._twisted(model, mine, y, t)
            weights = weights + twist - before
            rows = self._survivors(weights, noise)
            if rows is not None:
                y, denoised, eps, gradient = (_take(part, rows) for part in (y, denoised, eps, gradient))
                twist, chosen = twist.gather(1, rows), _effective(weights) < 0.5 * count
                weights = torch.where(chosen[:, None], 0, weights.gather(1, rows))
            y, correction = _moved(model, denoised, eps, gradient, t, s, draw())
            weights, before = weights + correction, twist
            if self.callback is not None:
                self.callback(Progress(i + 1, len(self.times) - 1, y[:, 0], s))
        denoised, _, _, twist = self._twisted(model, mine, y, self.times[-1])
        return denoised, torch.log_softmax(weights + twist - before, 1)

    def _survivors(self, weights: Tensor, noise: Noise) -> Tensor | None:
        """Which particles go on: all of them where enough are effective, None where that holds for every sample."""
        poor = _effective(weights) < 0.5 * self.particles
        u = noise.uniform((1,)).to(weights)
        if not bool(poor.any()):
            return None
        index = torch.arange(self.particles, device=weights.device)
        return torch.where(poor[:, None], _systematic(weights, u, self.particles), index)

    def _twisted(
        self, model: Denoiser, measurement: Measurement, y: Tensor, t: Instant
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(denoised, noise, gradient of the twist, its logarithm) of particles at time t."""
        batch, count = y.shape[:2]
        operator, sde = measurement.spectral(self), model.sde
        ratio = sde.sigma(t) / sde.alpha(t)
        with torch.inference_mode(False), torch.enable_grad():
            leaf = y.detach().flatten(0, 1).clone().requires_grad_()
            denoised, eps = model.predict(leaf, t.clone())
            c = operator.spectrum(single(denoised))  # what is told apart are small differences of large numbers
            d = operator.values(c)
            gap = operator.coefficients(single(measurement.y)) - d * c
            variance = (measurement.std**2 + (ratio * d) ** 2).clamp(min=1e-12)
            twist = -0.5 * torch.where(operator.seen(c), gap**2 / variance, 0).flatten(1).sum(1)
            gradient = torch.autograd.grad(twist.sum(), leaf)[0] if bool(sde.informative(t)) else torch.zeros_like(leaf)
        parts = [part.detach().reshape(y.shape) for part in (denoised, eps, gradient)]
        return parts[0], parts[1], parts[2], twist.detach().reshape(batch, count)


def _moved(
    model: Denoiser, denoised: Tensor, eps: Tensor, gradient: Tensor, t: Instant, s: Instant, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Particles at time s, and log p(x_s | x_t) - log q(x_s | x_t)."""
    sde = model.sde
    a, v = sde.transition(s, t)
    mean = sde.alpha(s) * denoised + (a * sde.sigma(s) ** 2 / sde.sigma(t)) * eps
    std = torch.sqrt(v) * sde.sigma(s) / sde.sigma(t)
    shift = v / a * gradient if bool(sde.informative(t)) else torch.zeros_like(gradient)
    correction = -single(shift / std * z + 0.5 * (shift / std) ** 2).flatten(2).sum(2)
    return mean + shift + std * z, correction


def _effective(log_weights: Tensor) -> Tensor:
    """How many equal weights would vary as little."""
    return 1 / torch.softmax(log_weights, 1).square().sum(1)


def _systematic(log_weights: Tensor, u: Tensor, count: int) -> Tensor:
    """Indices (batch, count), each in proportion to its weight, from one uniform number (batch, 1)."""
    edges = torch.softmax(log_weights, 1).cumsum(1)
    places = (torch.arange(count, device=u.device) + u) / count
    return torch.searchsorted(edges, places.to(edges).contiguous()).clamp(max=edges.shape[1] - 1)


def _take(x: Tensor, rows: Tensor) -> Tensor:
    index = torch.arange(len(x), device=x.device)[:, None]
    return x[index, rows]
