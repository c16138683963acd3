"""Replacement conditioning on Gaussian data: known part exact, no noise left, bias as in closed form."""

import math

import pytest
import torch
from oracles import FIVE, correlated, double, mixture, name

from scorefield.exact import ExactModel, GaussianMixture
from scorefield.guidance import Grey, Mask, Replacement, Subspace
from scorefield.noise import Noise
from scorefield.samplers import Ancestral, Langevin, PredictorCorrector, ReverseDiffusion, run
from scorefield.sde import VE, VP
from scorefield.testing import propagate
from scorefield.times import logsnr, uniform

SAMPLERS = [Ancestral(), PredictorCorrector(ReverseDiffusion(), Langevin(0.1))]


def sample(sampler, model, n, steps=100):
    noise = Noise(0, range(n))
    x = model.sde.prior.sample(noise.normal(model.space.shape, torch.float64))
    return run(sampler, model, x, logsnr(model.sde, steps), noise=noise)


@pytest.mark.parametrize("sde", FIVE, ids=name)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=name)
def test_the_known_part_is_exact(sde, sampler):
    model = ExactModel(sde, mixture(3, 4, 4))
    known = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :, :2] = True
    y = sample(Replacement(sampler, Mask(mask), known), model, 5, 20)
    assert torch.equal(y[..., :2], known[..., :2])
    assert not torch.equal(y[..., 2:], known[..., 2:])
    y = sample(Replacement(sampler, Grey(), known), model, 5, 20)
    torch.testing.assert_close(y.mean(1), known.mean(1), rtol=0, atol=1e-12)
    rows = torch.linalg.qr(torch.randn(48, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0].T
    y = sample(Replacement(sampler, Subspace(rows), known), model, 5, 20)
    torch.testing.assert_close(y.flatten(1) @ rows.T, known.flatten(1) @ rows.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_no_noise_is_left_in_the_rest(sde):
    """Data at a point: whatever is known, the rest is that point, to far below the last noise level sigma(t_min)."""
    point = torch.tensor([[0.3, -0.6, 0.9, 0.1]], dtype=torch.float64)
    model = ExactModel(sde, GaussianMixture(point, variances=torch.full((1, 4), 1e-20, dtype=torch.float64)))
    mask = torch.tensor([True, True, False, False])
    y = sample(Replacement(Ancestral(), Mask(mask), point.expand(64, 4)), model, 64, 50)
    residual = (y - point)[:, 2:].abs().max()
    assert float(residual) < 1e-5
    assert float(residual) < 1e-2 * float(sde.sigma(double(sde.t_sample)))


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_the_bias_is_the_documented_one(sde):
    """Mean y (1 - sqrt(1 - r²))/r, not r y; variance (1 - r²) log((1 + r)/(1 - r))/(2 r), not 1 - r²."""
    rho = 0.9
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)
    model = ExactModel(sde, GaussianMixture.gaussian(torch.zeros(2, dtype=torch.float64), covariance))
    known = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    sampler = Replacement(Ancestral(), Mask(torch.tensor([True, False])), known)
    first = sde.T if float(sde.alpha(double(sde.T))) > 0 else 0.99995
    high, low = (float(sde.logsnr(double(t))) for t in (first, sde.t_sample))
    times = sde.time(torch.linspace(max(high, -12.0), min(low, 12.0), 500, dtype=torch.float64))
    mean, variance = propagate(sampler, model, times, model.marginal(times[0]))
    expected = (1 - math.sqrt(1 - rho**2)) / rho
    spread = (1 - rho**2) / (2 * rho) * math.log((1 + rho) / (1 - rho))
    alpha, sigma = float(sde.alpha(times[-1])), float(sde.sigma(times[-1]))
    assert float(mean[0]) == pytest.approx(alpha)  # the known part has the law of its time
    assert float(variance[0, 0]) == pytest.approx(sigma**2)
    assert float(mean[1]) / alpha == pytest.approx(expected, rel=0.02)
    assert (float(variance[1, 1]) - sigma**2) / alpha**2 == pytest.approx(spread, rel=0.03)
    assert expected < 0.75 * rho


def test_the_known_part_is_right_when_the_predictor_sees_it():
    """A corrector moves it; it is replaced before the predictor looks."""
    seen = []

    class Watching(Ancestral):
        def step(self, model, x, t, s, noise, past):
            seen.append(x[:, 0])
            return super().step(model, x, t, s, noise, past)

    model = ExactModel(VE(), correlated(2))
    sampler = PredictorCorrector(Watching(), Langevin(0.3, steps=3))
    known = torch.full((4000, 2), 0.3, dtype=torch.float64)
    sampler = Replacement(sampler, Mask(torch.tensor([True, False])), known)
    t = double(0.5)
    sampler.step(model, torch.zeros(4000, 2, dtype=torch.float64), t, double(0.45), Noise(0, range(4000)), [])
    sigma = float(VE().sigma(t))
    assert float(seen[0].mean()) == pytest.approx(0.3, abs=5 * sigma / 4000**0.5)
    assert float(seen[0].std()) == pytest.approx(sigma, rel=0.05)


def test_more_steps_do_not_remove_the_bias():
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    model = ExactModel(VP(), GaussianMixture.gaussian(torch.zeros(2, dtype=torch.float64), covariance))
    sampler = Replacement(
        Ancestral(), Mask(torch.tensor([True, False])), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    )
    means = []
    for steps in (150, 600):
        times = uniform(VP(), steps)
        means.append(float(propagate(sampler, model, times, model.marginal(times[0]))[0][1]))
    assert means[1] == pytest.approx(0.627, abs=0.02)
    assert abs(means[0] - means[1]) < 0.05


def test_a_sample_is_its_seed():
    model = ExactModel(VE(), correlated())
    known = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = Mask(torch.tensor([True, False, False]))

    def completed(rows):
        noise = Noise(3, rows)
        x = VE().prior.sample(noise.normal((3,), torch.float64))
        sampler = Replacement(SAMPLERS[1], mask, known[list(rows)])
        return run(sampler, model, x, logsnr(VE(), 30), noise=noise)

    apart = torch.cat([completed(range(4)), completed(range(4, 9))])
    torch.testing.assert_close(completed(range(9)), apart, rtol=0, atol=1e-9)


def test_rows_must_be_orthonormal():
    with pytest.raises(ValueError, match=r"not orthonormal; take the transposed Q"):
        Subspace(torch.ones(2, 3))
