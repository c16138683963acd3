"""Oracles for your own classes: `check_sde` and `check_sampler`, and the exact laws and flows that they stand on.

With Gaussian data (`ExactModel` of one Gaussian) every step of a sampler is affine in x, in what the model has said
before where the sampler looks back, and in its noise. With y for the first two,

    y_s = M y_t + c + sum_j N_j z_j,                                                        (1)

so that a step's effect on basis vectors gives M, c and N_j, and mean and covariance follow at once: m <- M m + c,
C <- M C M' + sum_j N_j N_j'. The error of a sampler is then known to rounding, without Monte Carlo, and its order is a
ratio of two errors.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.exact import ExactModel, GaussianMixture
from scorefield.noise import Noise
from scorefield.ode import solve
from scorefield.samplers import Past, Sampler, run
from scorefield.score import Denoiser, ScoreModel
from scorefield.sde import VE, VP, LinearSDE, RectifiedFlow
from scorefield.shapes import Data, Instant, expand
from scorefield.times import Grid, ratios


class BasisNoise(Noise):
    """Noise for `rows` samples whose draw number j is the identity on the dim rows of j among the last, else zero."""

    def __init__(self, draws: int, dim: int, rows: int) -> None:
        super().__init__(0, range(rows))
        self.dim, self.first, self.count = dim, rows - dim * draws, 0

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """The next draw."""
        draw, first = torch.zeros(len(self), self.dim, dtype=dtype), self.first + self.dim * self.count
        rows = draw[first : first + self.dim]
        rows += torch.eye(self.dim, dtype=dtype)[: len(rows)]
        self.count += 1
        return draw.reshape(-1, *shape)


def propagate(
    sampler: Sampler, model: ScoreModel, times: Grid, start: GaussianMixture
) -> tuple[Float[Tensor, "dim"], Float[Tensor, "dim dim"]]:
    """Mean and covariance, over flattened data, of x at the last of `times` where x at the first follows `start`.

    For models whose score is affine in x, in float64.

    >>> from scorefield.samplers import Ancestral
    >>> from scorefield.sde import VP
    >>> from scorefield.times import logsnr
    >>> law = GaussianMixture(torch.ones(1, 1).double(), variances=torch.full((1, 1), 0.25).double())
    >>> model, times = ExactModel(VP(), law), logsnr(VP(), 500)
    >>> mean, covariance = propagate(Ancestral(), model, times, model.marginal(times[0]))
    >>> round(float(mean), 2), round(float(covariance), 2)
    (1.0, 0.25)
    """
    dim, draws = start.dim, 0
    mean, covariance, seen = start.mean.flatten(), start.covariance, list[Instant]()
    for t, s in pairwise(times):
        known = len(mean)
        while True:
            basis = torch.zeros(1 + known + dim * draws, known, dtype=mean.dtype)
            basis[1 : known + 1] = torch.eye(known, dtype=mean.dtype)
            x, *said = (part.reshape(-1, *start.shape) for part in torch.split(basis, dim, 1))
            noise, past = BasisNoise(draws, dim, len(basis)), list(zip(seen, said, strict=True))
            x = sampler.step(model, x, t, s, noise, past)
            if noise.count == draws:
                break
            draws = noise.count
        seen = [time for time, _ in past]
        after = torch.cat([x.flatten(1), *(value.flatten(1) for _, value in past)], 1)
        offset = after[0]
        matrix, spread = (after[1 : known + 1] - offset).T, (after[known + 1 :] - offset).T
        mean = matrix @ mean + offset
        covariance = matrix @ covariance @ matrix.T + spread @ spread.T
    return mean[:dim], covariance[:dim, :dim]


def law_error(sampler: Sampler, model: ExactModel, times: Grid) -> float:
    """|mean error| + |covariance error|/|covariance| at the end of `times`, from the exact marginal at their start."""
    mean, covariance = propagate(sampler, model, times, model.marginal(times[0]))
    exact = model.marginal(times[-1])
    return float(
        (mean - exact.mean.flatten()).norm() + (covariance - exact.covariance).norm() / exact.covariance.norm()
    )


def flow_between(model: Denoiser, x: Data, t: Instant, s: Instant, tol: float = 1e-12) -> Data:
    """x at time t carried to time s by the probability flow, for any model of a linear SDE with alpha > 0 at both.

    In y = x/alpha and r = sigma/alpha the flow is dy = eps dr, which shares nothing with the samplers' own variables.

    >>> from scorefield.sde import VP
    >>> model = ExactModel(VP(), GaussianMixture(torch.zeros(1, 1), variances=torch.ones(1, 1)))
    >>> x = flow_between(model, torch.ones(1, 1), torch.tensor(0.9), torch.tensor(0.1), tol=1e-5)  # N(0, 1) at all t
    >>> round(float(x), 3)
    1.0
    """
    sde = model.sde

    def slope(r: Tensor, y: Data) -> tuple[Data, Tensor]:
        time = sde.time(-2 * torch.log(r))
        return model.noise(expand(sde.alpha(time), y) * y, time), y.new_empty(len(y), 0)

    start, end = (float(sde.sigma(u) / sde.alpha(u)) for u in (t, s))
    return sde.alpha(s) * solve(slope, x / sde.alpha(t), start, end, tol=tol)[0]


def flow_error(
    sampler: Sampler, model: Denoiser, x: Data, times: Grid, *, past: Past | None = None, exact: Data | None = None
) -> float:
    """The rms error at the end of `times` of a deterministic sampler that starts from `x` at times[0].

    With `past`, what the model has said at earlier times, a multistep sampler starts as if it had come from there.
    `exact` is where the flow goes, if that is known already.
    """
    noise, y, known = Noise(0, range(len(x))), x, list(past or ())
    for t, s in pairwise(times):
        y = sampler.step(model, y, t, s, noise, known)
    exact = flow_between(model, x, times[0], times[-1]) if exact is None else exact
    return float((y - exact).square().mean().sqrt())


def check_sde(sde: LinearSDE, *, rtol: float = 1e-6) -> None:
    """Raise an AssertionError, which says what differs and where, unless everything that `sde` states fits together.

    What a subclass gives in closed form (drift, diffusion, log-SNR and its inverse, transitions) is held against what
    follows from alpha and sigma, in float64 on a hundred times between `t_min` and `T`; the log-SNR falls, transitions
    compose, the prior's standard deviation is that of data of 0.5 at T, to 5%, and float32 agrees to 1e-4.

    >>> check_sde(VP())
    >>> class Wrong(VP):
    ...     def diffusion(self, t): return super().diffusion(t) / 2
    >>> try:
    ...     check_sde(Wrong())
    ... except AssertionError as error:
    ...     str(error).partition(" at ")[0]
    "Wrong: g² of diffusion() differs from 2 sigma (sigma' - f sigma)"
    """
    last = sde.T if sde.informative(torch.tensor(sde.T, dtype=torch.float64)) else 0.999 * sde.T
    t = torch.linspace(sde.t_min, last, 101, dtype=torch.float64)[1:-1]
    alpha, sigma, logsnr = sde.alpha(t), sde.sigma(t), LinearSDE.logsnr(sde, t)
    rate = LinearSDE.dalpha(sde, t) / alpha
    squared = 2 * sigma * (LinearSDE.dsigma(sde, t) - rate * sigma)
    drift = sde.drift(torch.ones(len(t), 1, dtype=torch.float64), t)[:, 0]
    s, u = t[:-2], t[2:]
    (a, v), (first, early), (second, late) = (
        sde.transition(s, u),
        sde.transition(s, t[1:-1]),
        sde.transition(t[1:-1], u),
    )
    scale = float(rate.abs().max()) + 1e-9
    for what, given, expected, near in (
        ("dalpha() differs from the derivative of alpha()", sde.dalpha(t), LinearSDE.dalpha(sde, t), rtol * scale),
        ("dsigma() differs from the derivative of sigma()", sde.dsigma(t), LinearSDE.dsigma(sde, t), 0.0),
        ("drift() differs from alpha'/alpha x", drift, rate, rtol * scale),
        ("g² of diffusion() differs from 2 sigma (sigma' - f sigma)", sde.diffusion(t) ** 2, squared, 0.0),
        ("logsnr() differs from log(alpha²/sigma²)", sde.logsnr(t), logsnr, rtol),
        ("time() is not the inverse of logsnr()", sde.time(logsnr), t, rtol * sde.T),
        ("a of transition() differs from alpha_t/alpha_s", a, sde.alpha(u) / sde.alpha(s), 0.0),
        ("v of transition() differs from sigma_t² - a² sigma_s²", v + (a * sde.sigma(s)) ** 2, sde.sigma(u) ** 2, 0.0),
        ("v of transition() does not compose", v, late + second**2 * early, 0.0),
        ("a of transition() does not compose", a, second * first, 0.0),
    ):
        wrong = ~((given - expected).abs() <= rtol * expected.abs() + near)
        if bool(wrong.any()):
            i = int(wrong.nonzero()[0])
            values = f"{float(given[i]):.6g} and {float(expected[i]):.6g}"
            raise AssertionError(f"{type(sde).__name__}: {what} at t = {float(t[i]):.6g}: {values}")
    if not bool((logsnr.diff() < 0).all()):
        raise AssertionError(f"{type(sde).__name__}: the log-SNR does not fall all the way from t_min to T")
    end = torch.tensor(sde.T, dtype=torch.float64)
    std = math.hypot(0.5 * float(sde.alpha(end)), float(sde.sigma(end)))
    if not abs(math.log(sde.prior.std / std)) < 0.05:
        raise AssertionError(
            f"{type(sde).__name__}: the prior has std {sde.prior.std:.4g}, and data of std 0.5 have {std:.4g} at T"
        )
    single = torch.logspace(math.log10(max(sde.t_min, 1e-6 * sde.T)), math.log10(last), 50)
    size = 1e-7 * torch.hypot(sde.alpha(single.double()), sde.sigma(single.double()))
    for name, function in (("alpha", sde.alpha), ("sigma", sde.sigma)):
        narrow, wide = function(single).double(), function(single.double())
        wrong = ~((narrow - wide).abs() <= 1e-4 * wide.abs() + (size if name == "alpha" else 0.0))
        if bool(wrong.any()):
            i = int(wrong.nonzero()[0])
            values = f"{float(narrow[i]):.6g} in float32 and {float(wide[i]):.6g} in float64"
            raise AssertionError(f"{type(sde).__name__}: {name}() at t = {float(single[i]):.6g} is {values}")


def check_sampler(sampler: Sampler, order: float, *, sdes: Sequence[LinearSDE] = (VE(), VP(), RectifiedFlow())) -> None:
    """Raise an AssertionError, which says what was measured, unless `sampler` is what it should be.

    For each SDE its order is measured, that of the law of Gaussian data between noise-to-signal ratios of 20, or that
    of T, and 0.1 (200 and 400 steps, to a fifth), from a real start: multistep samplers of order 3 may have less. A
    sample is the same alone and in a batch; and data may have any shape.

    >>> from scorefield.samplers import Heun
    >>> check_sampler(Heun(), order=2, sdes=[VP()])
    """
    who = type(sampler).__name__
    root = torch.tensor([[0.5, 0.0, 0.1], [-0.3, 0.4, 0.0], [0.2, 0.1, 0.3]], dtype=torch.float64)
    law = GaussianMixture.gaussian(torch.tensor([-0.5, 0.1, 0.7], dtype=torch.float64), root @ root.T)
    for sde in sdes:
        grids = [ratios(sde, 20, 0.1, steps) for steps in (200, 400)]
        errors = [law_error(sampler, ExactModel(sde, law), times) for times in grids]
        measured = math.log2(max(errors[0], 1e-15) / max(errors[1], 1e-15))
        if not abs(measured - order) < 0.2:
            raise AssertionError(
                f"{who} with {type(sde).__name__} has order {measured:.2f}, expected {order}: the law of Gaussian data "
                f"is missed by {errors[0]:.2g} in 200 steps and by {errors[1]:.2g} in 400"
            )
        model = ExactModel(sde, GaussianMixture(torch.zeros(1, 2, 3, 4), variances=torch.ones(1, 2, 3, 4)))

        def walk(indices: Sequence[int], model: ExactModel = model, times: Grid = grids[0][::40]) -> Data:
            noise = Noise(0, indices)
            return run(sampler, model, noise.normal((2, 3, 4)), times, noise=noise, denoise=False)

        together, alone = walk(range(3)), walk([2])
        if together.shape != (3, 2, 3, 4) or together.dtype != torch.float32:
            raise AssertionError(f"{who} makes {together.dtype} {tuple(together.shape)} of float32 (3, 2, 3, 4)")
        if not torch.allclose(together[2:], alone, rtol=1e-4, atol=1e-4):
            raise AssertionError(f"{who} with {type(sde).__name__}: a sample is not the same alone and in a batch")
