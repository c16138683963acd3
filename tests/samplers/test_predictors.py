"""Predictors: measured weak order on the exact law, closed-form moments, shapes."""

import math

import pytest
import torch
from oracles import FIVE, Diagonal, correlated, double, middle, mixture, name

from scorefield.counting import count_evaluations
from scorefield.exact import ExactModel, GaussianMixture
from scorefield.noise import Noise
from scorefield.samplers import DDIM, Ancestral, EulerMaruyama, Heun, ReverseDiffusion, StochasticHeun, run
from scorefield.score import ScoreFunction
from scorefield.sde import DDPM, EDM, SMLD, VE, VP, Cosine, RectifiedFlow
from scorefield.space import DataSpace
from scorefield.testing import law_error, propagate
from scorefield.times import edm, logsnr, quadratic, ratios, uniform

PREDICTORS = [
    (EulerMaruyama(), 1),
    (EulerMaruyama(probability_flow=True), 1),
    (ReverseDiffusion(), 1),
    (ReverseDiffusion(probability_flow=True), 1),
    (Ancestral(), 1),
    (Ancestral(variance="forward"), 1),
    (DDIM(), 1),
    (DDIM(eta=0.5), 1),
    (DDIM(eta=1.0), 1),
    (Heun(), 2),
    (StochasticHeun(), 2),
]


@pytest.mark.parametrize("sde", FIVE, ids=name)
@pytest.mark.parametrize(("predictor", "order"), PREDICTORS, ids=str)
def test_order(predictor, order, sde):
    model = ExactModel(sde, correlated())
    errors = []
    for steps in (100, 200):
        errors.append(law_error(predictor, model, middle(sde, steps)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.4), errors
    assert errors[1] < 0.1


def moments(sampler, model, x, t, s):
    """Mean and standard deviation of a step from `x`."""
    start = GaussianMixture(x, variances=torch.full_like(x, 1e-300))
    mean, covariance = propagate(sampler, model, torch.stack([t, s]), start)
    return mean, covariance.diagonal()


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_ancestral_step_is_the_posterior(sde):
    """For data at a point, x_s | x_t is Gaussian with the precision 1/sigma_s² + a²/v (Ho et al. 2020, eq. 7)."""
    t, s = double(0.6 * sde.T), double(0.4 * sde.T)
    x0 = torch.tensor([0.7, -0.3], dtype=torch.float64)
    model = ExactModel(sde, GaussianMixture(x0[None], variances=torch.full((1, 2), 1e-24, dtype=torch.float64)))
    x = torch.tensor([[1.5, -2.0]], dtype=torch.float64)
    a, v = sde.transition(s, t)
    precision = 1 / sde.sigma(s) ** 2 + a**2 / v
    mean, variance = moments(Ancestral(), model, x, t, s)
    expected = (sde.alpha(s) * x0 / sde.sigma(s) ** 2 + a * x[0] / v) / precision
    torch.testing.assert_close(mean, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(variance, (1 / precision).expand(2), rtol=1e-9, atol=0)


def test_published_updates_of_the_chains():
    """DDPM: (x + beta score)/sqrt(1 - beta); SMLD: x + (sigma_i² - sigma_{i-1}²) score (Song et al. 2021, app. F)."""
    for sde in (DDPM(), SMLD()):
        model, t, s = ExactModel(sde, correlated()), double(0.5), double(0.499)
        x = torch.tensor([[0.3, -0.2, 0.9]], dtype=torch.float64)
        a, v = sde.transition(s, t)
        step = v * model.score(x, t)[0]
        mean, variance = moments(Ancestral(), model, x, t, s)
        torch.testing.assert_close(mean, (x[0] + step) / a, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(variance, (v * sde.sigma(s) ** 2 / sde.sigma(t) ** 2).expand(3), rtol=1e-11, atol=0)
        mean, variance = moments(Ancestral("forward"), model, x, t, s)
        torch.testing.assert_close(mean, (x[0] + step) / a, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(variance, v.expand(3), rtol=1e-11, atol=0)
        mean, variance = moments(ReverseDiffusion(), model, x, t, s)
        torch.testing.assert_close(mean, (2 - a) * x[0] + step, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(variance, v.expand(3), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("flow", "share"), [(False, 1.0), (True, 0.5)])
def test_euler_maruyama_update(flow, share):
    """x - dt (f - g² score), and half the score without noise on the flow (Song et al. 2021, eq. 6 and 13)."""
    for sde in FIVE:
        model, t, s = ExactModel(sde, correlated()), double(0.5 * sde.T), double(0.45 * sde.T)
        x = torch.tensor([[0.3, -0.2, 0.9]], dtype=torch.float64)
        g2, dt = sde.diffusion(t) ** 2, t - s
        mean, variance = moments(EulerMaruyama(flow), model, x, t, s)
        expected = x - dt * (sde.drift(x, t) - share * g2 * model.score(x, t))
        torch.testing.assert_close(mean, expected[0], rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(variance, (0 * g2 if flow else g2 * dt).expand(3), rtol=1e-9, atol=1e-30)


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_whole_runs_reach_the_data(sde):
    """From the prior to the denoised data: the moments of the data, up to what denoising takes (V²/(V + r²))."""
    law = correlated(2)
    model, noise = ExactModel(sde, law), Noise(0, range(4000))
    x = sde.prior.sample(noise.normal((2,), torch.float64))
    y = run(Ancestral(), model, x, logsnr(sde, 200), noise=noise)
    deviation = law.covariance.diagonal().sqrt()
    assert bool(((y.mean(0) - law.mean).abs() < 5 * deviation / 4000**0.5 + 0.01).all())
    torch.testing.assert_close(torch.cov(y.T), law.covariance, rtol=0.12, atol=0.02)


@pytest.mark.parametrize("sde", [RectifiedFlow(), Cosine()], ids=name)
@pytest.mark.parametrize(("predictor", "order"), PREDICTORS, ids=str)
def test_starts_where_nothing_of_the_data_is_left(predictor, order, sde):
    """From alpha = 0 to the data, on the library's own grids: every predictor converges to the law of the data."""
    model = ExactModel(sde, correlated())
    grid = uniform if isinstance(predictor, EulerMaruyama | StochasticHeun) else logsnr
    errors = [law_error(predictor, model, grid(sde, steps, 0.02)) for steps in (200, 600)]
    assert errors[1] < 0.6 * errors[0] or errors[1] < 0.01
    assert errors[1] < 0.15


@pytest.mark.parametrize(("predictor", "order"), PREDICTORS, ids=str)
def test_evaluations_of_a_step(predictor, order):
    """As many as the order."""
    model = ExactModel(VP(), correlated())
    with count_evaluations(model) as evaluations:
        predictor.step(model, torch.zeros(1, 3, dtype=torch.float64), double(0.5), double(0.4), Noise(0, [0]), [])
    assert evaluations.forward == order


@pytest.mark.parametrize("shape", [(5,), (2, 16), (3, 8, 8), (1, 4, 4, 4)], ids=str)
@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_any_shape(sde, shape):
    model = ExactModel(sde, mixture(*shape).to(torch.float32))
    for predictor, _ in PREDICTORS:
        noise = Noise(0, range(2))
        times = middle(sde, 5)
        y = run(predictor, model, sde.sigma(times[0]).float() * noise.normal(shape), times, noise=noise)
        assert y.shape == (2, *shape)
        assert y.dtype == torch.float32
        assert torch.isfinite(y).all()


def test_a_general_sde_with_diagonal_diffusion():
    """Data N(m, 0.3²): the law at t is Gaussian coordinate by coordinate; Euler–Maruyama brings it back, order 1."""
    sde, m, variance = Diagonal(0.5, 1.0, 2.0), torch.tensor([1.0, -0.5, 0.2], dtype=torch.float64), 0.09

    def score(x, t):
        mean, spread = sde.law(t, m, variance)
        return -(x - mean) / spread

    model = ScoreFunction(score, sde, DataSpace((3,)))
    for flow in (False, True):
        errors = []
        for steps in (200, 400):
            times = uniform(sde, steps, end=0.05)
            (start, spread), (exact, exact_spread) = (sde.law(t, m, variance) for t in times[[0, -1]])
            mean, covariance = propagate(EulerMaruyama(flow), model, times, GaussianMixture(start, variances=spread))
            errors.append(float((mean - exact[0]).norm() + (covariance - torch.diag(exact_spread[0])).norm()))
        assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.15)


def test_predictors_say_when_they_need_a_linear_sde():
    model = ScoreFunction(lambda x, t: -x, Diagonal(0.5, 1.0, 2.0), DataSpace((3,)))
    x = torch.zeros(1, 3, dtype=torch.float64)
    for predictor in (ReverseDiffusion(), Ancestral(), Heun()):
        with pytest.raises(TypeError, match=f"{name(predictor)} needs a model that denoises.*use EulerMaruyama"):
            predictor.step(model, x, double(1.0), double(0.9), Noise(0, [0]), [])


@pytest.mark.parametrize("sde", [VE(), VP(), RectifiedFlow()], ids=name)
def test_grids(sde):
    for grid in (uniform, quadratic, logsnr, edm):
        times = grid(sde, 10)
        assert len(times) == 11
        assert float(times[0]) == sde.T
        assert float(times[-1]) == sde.t_sample
        assert bool((times[1:] < times[:-1]).all())
        with pytest.raises(ValueError, match="0 steps, expected at least 1"):
            grid(sde, 0)
    steps = sde.logsnr(logsnr(sde, 10)).diff()[1:]
    torch.testing.assert_close(steps, steps[:1].expand(9), rtol=1e-6, atol=0)
    ratios = torch.exp(-0.5 * sde.logsnr(edm(sde, 10)))[1:] ** (1 / 7)
    torch.testing.assert_close(ratios.diff(), ratios.diff()[:1].expand(9), rtol=1e-6, atol=0)
    roots = quadratic(sde, 10).sqrt().diff()
    torch.testing.assert_close(roots, roots[:1].expand(10), rtol=1e-6, atol=0)


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_a_grid_between_ratios(sde):
    times = ratios(sde, 20, 0.1, 7)
    measured = torch.log(sde.sigma(times) / sde.alpha(times))
    expected = torch.linspace(math.log(20), math.log(0.1), 8, dtype=torch.float64)
    torch.testing.assert_close(measured, expected, rtol=1e-9, atol=1e-9)
    assert float(ratios(sde, 1e5, 0.1, 7)[0]) == pytest.approx(sde.T, rel=1e-4)
    for highest, lowest in ((0.1, 20), (0.1, 0.1), (20, -1)):
        with pytest.raises(ValueError, match=rf"= {highest} to {lowest}.*{name(sde)}.*expected a descent"):
            ratios(sde, highest, lowest, 7)
    with pytest.raises(ValueError, match="0 steps"):
        ratios(sde, 20, 0.1, 0)


def test_the_grid_of_karras_et_al():
    """Their eq. 5 for sigma from 80 to 0.002 in 18 levels, without the last 0."""
    i = torch.arange(18, dtype=torch.float64)
    expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(edm(EDM(), 17), expected, rtol=1e-10, atol=0)
