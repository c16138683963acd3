r"""Exponential integrators: the linear part of the flow is solved exactly, what the model says is a polynomial.

Half the log-SNR, lambda = log(alpha/sigma), is the time in which the flow of every linear SDE looks the same. With D
the denoised data and eps the noise, from t to s < t (Lu et al. 2022, DPM-Solver and DPM-Solver++),

    x_s = sigma_s/sigma_t x_t + alpha_s int e^(lambda - lambda_s) D dlambda                          (1)
    x_s = alpha_s/alpha_t x_t - sigma_s int e^(lambda_s - lambda) eps dlambda                        (2)

over lambda_t to lambda_s = lambda_t + h; and with noise of strength tau (Xue et al. 2023, SA-Solver; tau = 1 is the
reverse SDE, Lu et al. 2022, SDE-DPM-Solver++),

    x_s = sigma_s/sigma_t e^(-tau² h) x_t + alpha_s int k e^(k (lambda - lambda_s)) D dlambda
          + sigma_s sqrt(1 - e^(-2 tau² h)) z,      k = 1 + tau².                                    (3)

In u = sigma/n, n = alpha + sigma, the flow of every linear SDE is rectified flow: x/n = (1 - u) D + u eps moves with
the velocity eps - D (Liu et al. 2022),

    x_s = n_s/n_t x_t + n_s int (eps - D) du,      u from u_t to u_s.                                (4)

D (or eps, or eps - D) is replaced by the polynomial in lambda (or u) through its values at t and at earlier times, D =
sum_j l_j D_j with Lagrange's l_j, so that a step is a sum over these values with the coefficients int k e^(k (lambda -
lambda_s)) l_j dlambda; (2) is k = -1, and in (4) the kernel is 1. One rule of quadrature gives all of them, for any
order, any grid and any SDE: DPM-Solver++ (2M, 3M and their SDE versions), DEIS in log(sigma/alpha) (Zhang & Chen 2022)
and UniPC (Zhao et al. 2023), whose corrector is the same sum with the value at the step's end among the D_j. The factor
B(h) of UniPC cancels where these sums are computed exactly.

With one value, the coefficient of (1) to (3) is 1 - e^(-k h): finite where alpha_t = 0 or sigma_s = 0, where h is
infinite; such a step is of first order, and looks back at nothing. u is finite in both places: (4) starts at alpha = 0
and goes on to sigma = 0, where x is the data, with all that the model has said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from scorefield.noise import Noise
from scorefield.samplers.base import Past, Sampler, denoiser, draw
from scorefield.samplers.predictors import DDIM
from scorefield.score import Denoiser, ScoreModel
from scorefield.sde import LinearSDE
from scorefield.shapes import Data, Instant

Prediction = Literal["data", "noise", "velocity"]
"""What is taken for a polynomial: D, eps or eps - D."""

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(32)


def coefficients(start: float, end: float, nodes: Sequence[float], rate: float) -> list[float]:
    """int rate e^(rate (lambda - end)) l_j(lambda) dlambda from `start` to `end`, for each of the `nodes`.

    A rate of 0 stands for the kernel 1. The last node is the nearest; nodes at infinity get 0, and where the interval
    is infinite so do all but the last.

    >>> [round(c, 4) for c in coefficients(0.0, 1.0, [-1.0, 0.0], 1.0)]  # 2M of DPM-Solver++
    [-0.3679, 1.0]
    """
    h = end - start
    near = [j for j, node in enumerate(nodes) if math.isfinite(node)] if math.isfinite(h) else [len(nodes) - 1]
    if near == [len(nodes) - 1]:
        return [0.0] * near[0] + [-math.expm1(-rate * h) if rate else h]
    at = start + 0.5 * h * (_POINTS + 1)
    kernel = 0.5 * h * _WEIGHTS * (rate * np.exp(rate * (at - end)) if rate else 1.0)
    found = [0.0] * len(nodes)
    for j in near:
        basis = np.prod([(at - nodes[i]) / (nodes[j] - nodes[i]) for i in near if i != j], axis=0)
        found[j] = float(kernel @ basis)
    return found


@dataclass(frozen=True)
class _Integrator:
    """Steps of (1) and (3), of (2), or of (4), by what is a polynomial."""

    sde: LinearSDE
    of: Prediction = "data"
    tau: float = 0.0

    def evaluate(self, model: Denoiser, x: Data, t: Instant) -> Data:
        """What the model says."""
        if self.of == "data":
            return model.denoise(x, t)
        if self.of == "noise":
            return model.noise(x, t)
        one = torch.ones_like(t)
        return model.blend(x, t, -one, one)

    def clock(self, t: Instant) -> float:
        """Lambda of t, -inf where nothing is left of the data; or u."""
        if self.of == "velocity":
            return float(self.sde.sigma(t) / self._n(t))
        return 0.5 * float(self.sde.logsnr(t)) if self.sde.informative(t) else -math.inf

    def sum(self, t: Instant, s: Instant, past: Past) -> list[float]:
        """What multiplies each value of the past in the step from t to s."""
        rate = {"data": 1 + self.tau**2, "noise": -1.0, "velocity": 0.0}[self.of]
        scale = {"data": self.sde.alpha, "noise": self.sde.sigma, "velocity": self._n}[self.of]
        nodes = [self.clock(time) for time, _ in past]
        return [float(scale(s)) * c for c in coefficients(self.clock(t), self.clock(s), nodes, rate)]

    def step(self, x: Data, t: Instant, s: Instant, past: Past) -> Data:
        """x at time t to the mean of x at time s, by what the model has said."""
        fade = math.exp(-(self.tau**2) * (self.clock(s) - self.clock(t))) if self.tau else 1.0
        size = {"data": self.sde.sigma, "noise": self.sde.alpha, "velocity": self._n}[self.of]
        return _sum(fade * float(size(s) / size(t)) * x, self.sum(t, s, past), past)

    def finish(self, x: Data, t: Instant, past: Past) -> Data:
        """x at time t to the data, by (4)."""
        weights = coefficients(self.clock(t), 0.0, [self.clock(time) for time, _ in past], 0.0)
        return _sum(x / float(self._n(t)), weights, past)

    def _n(self, t: Instant) -> Instant:
        return self.sde.alpha(t) + self.sde.sigma(t)

    def spread(self, t: Instant, s: Instant) -> float:
        """The standard deviation of the noise of a step."""
        h = self.clock(s) - self.clock(t)
        return float(self.sde.sigma(s)) * math.sqrt(-math.expm1(-2 * self.tau**2 * h)) if self.tau else 0.0

    def correction(self, t: Instant, said: Data, past: Past) -> Data | float:
        """What the step that led to x at time t would have added, had it known what the model says there."""
        before = past[-1][0]
        if not math.isfinite(self.clock(before)):
            return 0.0
        *better, last = self.sum(before, t, [*past, (t, said)])
        change: Data = last * said
        for new, old, (_, value) in zip(better, self.sum(before, t, past), past, strict=True):
            change = change + (new - old) * value
        return change


@dataclass(frozen=True)
class DPMSolver(Sampler):
    """DPM-Solver++ with the values of `order` times, 6 at most, one evaluation a step: 2M, 3M, with tau = 1 2M SDE.

    A walk begins with a step of first order and adds an order with every step: order 3 is that of walks that begin
    with exact values, and falls to 2 otherwise. With noise (`tau` > 0) the weak order is 2 at most.
    """

    order: int = 2
    tau: float = 0.0

    def __post_init__(self) -> None:
        _check_order(self, self.order)
        _check_tau(self, self.tau)

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t."""
        model = denoiser(model, self)
        integrator = _Integrator(model.sde, tau=self.tau)
        _remember(past, t, integrator.evaluate(model, x, t), self.order)
        y = integrator.step(x, t, s, past)
        return y + integrator.spread(t, s) * draw(noise, x) if self.tau else y


@dataclass(frozen=True)
class DPMSolverSinglestep(Sampler):
    """DPM-Solver++ (2S): order 2 with two evaluations a step, at t and in the middle of the step's lambda.

    With `tau` > 0 the noise of both halves is one path's. Where alpha_t = 0 or sigma_s = 0 there is no middle, and the
    step is of first order.
    """

    tau: float = 0.0

    def __post_init__(self) -> None:
        _check_tau(self, self.tau)

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:  # noqa: ARG002
        """x at time t to x at time s < t."""
        model = denoiser(model, self)
        sde, integrator = model.sde, _Integrator(model.sde, tau=self.tau)
        if not math.isfinite(integrator.clock(s) - integrator.clock(t)):
            return DPMSolver(1, self.tau).step(model, x, t, s, noise, [])
        first = [(t, model.denoise(x, t))]
        middle = sde.time(0.5 * (sde.logsnr(t) + sde.logsnr(s)))
        half = integrator.step(x, t, middle, first)
        if not self.tau:
            return integrator.step(x, t, s, [(middle, model.denoise(half, middle))])
        early, late = (integrator.spread(*span) * draw(noise, x) for span in ((t, middle), (middle, s)))
        y = integrator.step(x, t, s, [(middle, model.denoise(half + early, middle))])
        return y + integrator.step(early, middle, s, []) + late


@dataclass(frozen=True)
class UniPC(Sampler):
    """UniPC: polynomials of `order` values, and a correction of each step by the next one's evaluation, at no cost.

    The correction raises the order by one, also that of a walk's first step. UniPC(3) has order 4 in walks that begin
    with exact values, and 3 otherwise. The polynomial is that `of` the denoised "data" (the predictor is then
    DPM-Solver++), of the "noise" or of the "velocity" (4), whose last step takes x to the data with what has been said
    before: in few evaluations it is the best.
    """

    order: int = 2
    of: Prediction = "data"

    def __post_init__(self) -> None:
        _check_order(self, self.order)
        if self.of not in get_args(Prediction):
            raise ValueError(f"UniPC of {self.of!r}, expected one of {', '.join(get_args(Prediction))}")

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t."""
        model = denoiser(model, self)
        integrator = _Integrator(model.sde, self.of)
        if self.of == "noise" and not math.isfinite(integrator.clock(s) - integrator.clock(t)):
            return DDIM().step(model, x, t, s, noise, past)
        return integrator.step(self._corrected(integrator, model, x, t, past), t, s, past)

    def finish(self, model: ScoreModel, x: Data, t: Instant, past: Past) -> Data:
        """The denoised data; of the velocity, a last step."""
        model = denoiser(model, self)
        if self.of != "velocity":
            return model.denoise(x, t)
        integrator = _Integrator(model.sde, self.of)
        return integrator.finish(self._corrected(integrator, model, x, t, past), t, past)

    def _corrected(self, integrator: _Integrator, model: Denoiser, x: Data, t: Instant, past: Past) -> Data:
        """x by what the model says of it, which joins the past."""
        said = integrator.evaluate(model, x, t)
        if past:
            x = x + integrator.correction(t, said, past)
        _remember(past, t, said, self.order)
        return x


@dataclass(frozen=True)
class DEIS(Sampler):
    """DEIS with the values of the noise at `order` times, polynomials in log(sigma/alpha); one evaluation a step."""

    order: int = 3

    def __post_init__(self) -> None:
        _check_order(self, self.order)

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t; DDIM's step, which is the first-order one, where alpha_t = 0."""
        model = denoiser(model, self)
        integrator = _Integrator(model.sde, "noise")
        if not math.isfinite(integrator.clock(s) - integrator.clock(t)):
            return DDIM().step(model, x, t, s, noise, past)
        _remember(past, t, integrator.evaluate(model, x, t), self.order)
        return integrator.step(x, t, s, past)


@dataclass(frozen=True)
class AdamsBashforth(Sampler):
    """Adams–Bashforth's method in rectified flow's time (4), to sigma = 0; one evaluation a step.

    Like UniPC of the velocity without its correction, which costs accuracy where steps are very few.
    """

    order: int = 3

    def __post_init__(self) -> None:
        _check_order(self, self.order)

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:  # noqa: ARG002
        """x at time t to x at time s < t."""
        return self._integrator(model, x, t, past).step(x, t, s, past)

    def finish(self, model: ScoreModel, x: Data, t: Instant, past: Past) -> Data:
        """A last step, to the data."""
        return self._integrator(model, x, t, past).finish(x, t, past)

    def _integrator(self, model: ScoreModel, x: Data, t: Instant, past: Past) -> _Integrator:
        """That of the velocity, which has joined the past."""
        model = denoiser(model, self)
        integrator = _Integrator(model.sde, "velocity")
        _remember(past, t, integrator.evaluate(model, x, t), self.order)
        return integrator


def _sum(x: Data, weights: Sequence[float], past: Past) -> Data:
    for weight, (_, said) in zip(weights, past, strict=True):
        x = x + weight * said
    return x


def _remember(past: Past, t: Instant, said: Data, most: int) -> None:
    past.append((t, said))
    del past[:-most]


def _check_order(sampler: Sampler, order: int) -> None:
    if not 1 <= order <= 6:
        raise ValueError(f"{type(sampler).__name__} of order {order}, expected 1 to 6")


def _check_tau(sampler: Sampler, tau: float) -> None:
    if not 0 <= tau < math.inf:
        raise ValueError(
            f"{type(sampler).__name__} with tau {tau}, expected 0 (the flow), 1 (the reverse SDE) or another"
        )
