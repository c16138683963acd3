"""Replacement conditioning on Gaussian data: known part exact, no noise left, bias as in closed form."""

import math

import pytest
import torch
from oracles import FIVE, correlated, double, mixture, name

from scorefield.exact import ExactModel, GaussianMixture
from scorefield.guidance import Average, Grey, Mask, Matrix, Measurement, Replacement, Resampled
from scorefield.noise import Noise
from scorefield.samplers import Ancestral, Langevin, PredictorCorrector, ReverseDiffusion, run
from scorefield.sde import VE, VP
from scorefield.testing import propagate
from scorefield.times import logsnr, ratios, uniform

SAMPLERS = [Ancestral(), PredictorCorrector(ReverseDiffusion(), Langevin(0.1))]


def replacing(sampler, operator, y, std=0.0):
    return Replacement(sampler, Measurement(operator, y, std))


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
    y = sample(replacing(sampler, Mask(mask), known), model, 5, 20)
    assert torch.equal(y[..., :2], known[..., :2])
    assert not torch.equal(y[..., 2:], known[..., 2:])
    y = sample(replacing(sampler, Grey(), known.mean(1, keepdim=True)), model, 5, 20)
    torch.testing.assert_close(y.mean(1), known.mean(1), rtol=0, atol=1e-12)
    rows = torch.linalg.qr(torch.randn(48, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0].T
    matrix = Matrix(rows * torch.tensor([1.0, 2, 3, 4, 5, 6], dtype=torch.float64)[:, None], (3, 4, 4))
    for operator in (Average(2), matrix):
        y = sample(replacing(sampler, operator, operator.apply(known)), model, 5, 20)
        torch.testing.assert_close(operator.apply(y), operator.apply(known), rtol=0, atol=1e-11)


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_no_noise_is_left_in_the_rest(sde):
    """Data at a point: whatever is known, the rest is that point, to far below the last noise level sigma(t_min)."""
    point = torch.tensor([[0.3, -0.6, 0.9, 0.1]], dtype=torch.float64)
    model = ExactModel(sde, GaussianMixture(point, variances=torch.full((1, 4), 1e-20, dtype=torch.float64)))
    mask = torch.tensor([True, True, False, False])
    y = sample(replacing(Ancestral(), Mask(mask), point.expand(64, 4)), model, 64, 50)
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
    sampler = replacing(Ancestral(), Mask(torch.tensor([True, False])), known)
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
    sampler = replacing(sampler, Mask(torch.tensor([True, False])), known)
    t = double(0.5)
    sampler.step(model, torch.zeros(4000, 2, dtype=torch.float64), t, double(0.45), Noise(0, range(4000)), [])
    sigma = float(VE().sigma(t))
    assert float(seen[0].mean()) == pytest.approx(0.3, abs=5 * sigma / 4000**0.5)
    assert float(seen[0].std()) == pytest.approx(sigma, rel=0.05)


def test_more_steps_do_not_remove_the_bias():
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    model = ExactModel(VP(), GaussianMixture.gaussian(torch.zeros(2, dtype=torch.float64), covariance))
    known = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    sampler = replacing(Ancestral(), Mask(torch.tensor([True, False])), known)
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
        sampler = replacing(SAMPLERS[1], mask, known[list(rows)])
        return run(sampler, model, x, logsnr(VE(), 30), noise=noise)

    apart = torch.cat([completed(range(4)), completed(range(4, 9))])
    torch.testing.assert_close(completed(range(9)), apart, rtol=0, atol=1e-9)


@pytest.mark.parametrize("sde", [VE(), VP()], ids=name)
def test_turns_repair_the_bias(sde):
    """RePaint at 150 levels: mean and variance tend to r y and 1 - r² as the turns grow."""
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    model = ExactModel(sde, GaussianMixture.gaussian(torch.zeros(2, dtype=torch.float64), covariance))
    known = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    sampler = replacing(Ancestral(), Mask(torch.tensor([True, False])), known)
    times = ratios(sde, 30, 0.02, 150)
    found = []
    for turns in (1, 3, 10):
        mean, variance = propagate(Resampled(sampler, turns), model, times, model.marginal(times[0]))
        alpha, sigma = float(sde.alpha(times[-1])), float(sde.sigma(times[-1]))
        found.append((float(mean[1]) / alpha / 0.9, (float(variance[1, 1]) - sigma**2) / alpha**2 / 0.19))
    for j in range(2):
        errors = [abs(pair[j] - 1) for pair in found]
        assert errors[0] > 0.25
        assert errors[2] < errors[1] < errors[0]
        assert errors[2] < 0.06


def test_noisy_measurements_are_replaced_as_long_as_they_say_more_than_x():
    """Known up to s: perturbed to the rest of the noise, and left alone below it."""
    model, y = ExactModel(VE(), correlated(2)), torch.full((4000, 2), 0.3, dtype=torch.float64)
    sampler = replacing(Ancestral(), Mask(torch.tensor([True, False])), y, 0.1)
    noise = Noise(0, range(4000))
    above, below = (double(t) for t in (0.5, 0.2))
    assert float(VE().sigma(below)) < 0.1 < float(VE().sigma(above))
    x = torch.zeros(4000, 2, dtype=torch.float64)
    found = sampler.start(model, x, above, noise)
    assert float(found[:, 0].std()) == pytest.approx(math.sqrt(float(VE().sigma(above)) ** 2 - 0.01), rel=0.05)
    assert torch.equal(sampler.start(model, x, below, noise), x)


def test_what_is_refused():
    measurement = Measurement(Average(2) @ Average(2), torch.zeros(1, 1, 1, 1))
    with pytest.raises(TypeError, match="Replacement needs singular values"):
        Replacement(Ancestral(), measurement)
    with pytest.raises(ValueError, match="Resampled in 0 turns, expected 1 or more"):
        Resampled(Ancestral(), 0)
