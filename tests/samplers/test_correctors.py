"""Correctors: stationary law, where they help and where they hurt, batch mates."""

import math

import pytest
import torch
from oracles import FIVE, correlated, double, middle, mixture, name

from scorefield.exact import ExactModel, GaussianMixture
from scorefield.noise import Noise
from scorefield.samplers import (
    Ancestral,
    CorrectorOnly,
    EulerMaruyama,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
    Sampler,
    run,
)
from scorefield.score import ScoreFunction
from scorefield.sde import SMLD, VE, VP
from scorefield.space import DataSpace
from scorefield.testing import law_error, propagate
from scorefield.times import uniform


class Stay(Sampler):
    """A corrector as a sampler that goes nowhere."""

    def __init__(self, corrector):
        self.corrector = corrector

    def step(self, model, x, t, s, noise, past):
        return self.corrector.correct(model, x, t, noise)


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_stationary_variance(sde):
    """On N(0, V) with the step 2 snr² V Langevin's variance is V/(1 - snr²); here V = sigma², data at a point."""
    t, snr = double(0.5 * sde.T), 0.3
    law = GaussianMixture(
        torch.zeros(1, 2, dtype=torch.float64), variances=torch.full((1, 2), 1e-20, dtype=torch.float64)
    )
    model = ExactModel(sde, law)
    _, covariance = propagate(Stay(Langevin(snr)), model, t.expand(150), model.marginal(t))
    expected = sde.sigma(t) ** 2 / (1 - snr**2) * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(covariance, expected, rtol=1e-6, atol=1e-9)


def test_norm_rule_is_right_in_high_dimension_only():
    """The step |z|/|score| of a sample depends on x: 3 % too wide in 3072 dimensions, ruinous in 1 (on N(0, 1))."""
    variances = {}
    for dim, rule in ((1, "norm"), (1, "sigma"), (3072, "norm")):
        model = (
            ScoreFunction(lambda x, t: -x, VE(), DataSpace((dim,)))
            if rule == "norm"
            else ExactModel(
                VE(sigma_min=0.01), GaussianMixture(torch.zeros(1, dim), variances=torch.full((1, dim), 1e-9))
            )
        )
        t = double(0.5)
        scale = 1.0 if rule == "norm" else float(VE().sigma(t))
        noise = Noise(0, range(400 if dim == 1 else 8))
        x = scale * noise.normal((dim,))
        for _ in range(150):
            x = Langevin(0.16, rule=rule).correct(model, x, t, noise)
        variances[dim, rule] = float((x / scale).square().mean())
    assert variances[1, "norm"] > 10
    assert variances[1, "sigma"] == pytest.approx(1 / (1 - 0.16**2), abs=0.2)
    assert variances[3072, "norm"] == pytest.approx(1.03, abs=0.02)


def test_the_rules_of_the_step():
    """delta = 2 (snr |z|/|score|)², with each sample's norms or with their means over the batch."""
    model, t = ExactModel(VE(), mixture(2, 8)), double(0.5)
    x = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    score, z = model.score(x, t), Noise(4, range(3)).normal((2, 8), torch.float64)
    above, below = z.flatten(1).norm(dim=1), score.flatten(1).norm(dim=1)
    for rule, length in (("norm", above / below), ("batch_mean", (above.mean() / below.mean()).expand(3))):
        delta = 2 * (0.2 * length.reshape(3, 1, 1)) ** 2
        y = Langevin(0.2, rule=rule).correct(model, x, t, Noise(4, range(3)))
        torch.testing.assert_close(y, x + delta * score + (2 * delta).sqrt() * z)
    alone = Langevin(0.2, rule="batch_mean").correct(model, x[:1], t, Noise(4, [0]))
    assert not torch.allclose(alone, y[:1])


@pytest.mark.parametrize("sde", FIVE, ids=name)
@pytest.mark.parametrize("predictor", [EulerMaruyama(), ReverseDiffusion(), Ancestral()], ids=name)
def test_any_predictor_with_the_corrector(sde, predictor):
    model = ExactModel(sde, correlated())
    assert law_error(PredictorCorrector(predictor, Langevin(0.1)), model, middle(sde, 100)) < 0.08


class Perturbed(ExactModel):
    """A score that is 0.9 times the true one, as an imperfect network's may be."""

    def forward(self, x, t):
        noise = 0.9 * super().forward(x, t)[1]
        return (x - self.sde.sigma(t) * noise) / self.sde.alpha(t), noise


def equal_nfe(model, steps, snr):
    """Errors of reverse diffusion alone and with the corrector, at 2 `steps` evaluations."""
    truth = ExactModel(model.sde, model.law)
    errors = []
    for sampler, count in (
        (ReverseDiffusion(), 2 * steps),
        (PredictorCorrector(ReverseDiffusion(), Langevin(snr)), steps),
    ):
        times = middle(model.sde, count)
        mean, covariance = propagate(sampler, model, times, truth.marginal(times[0]))
        exact = truth.marginal(times[-1])
        errors.append(
            float((mean - exact.mean).norm() + (covariance - exact.covariance).norm() / exact.covariance.norm())
        )
    return errors


@pytest.mark.parametrize("sde", [VE(), VP()], ids=name)
def test_where_a_corrector_helps_and_where_it_hurts(sde):
    """Equal evaluations. A wrong score and many steps: the corrector repairs what the predictor gathers. The exact
    score and few steps: with the published snr it costs the predictor half its steps and gives little back."""
    alone, corrected = equal_nfe(Perturbed(sde, correlated()), steps=100, snr=0.3)
    assert corrected < 0.65 * alone
    alone, corrected = equal_nfe(ExactModel(sde, correlated()), steps=12, snr=0.16)
    assert corrected > 1.5 * alone


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match=r"snr 1.5 and 1 steps"):
        Langevin(1.5)
    with pytest.raises(ValueError, match="0 steps"):
        Langevin(steps=0)


@pytest.mark.parametrize("rule", ["sigma", "norm"])
def test_a_sample_is_its_seed(rule):
    model = ExactModel(VP(), correlated().to(torch.float32))
    sampler = PredictorCorrector(ReverseDiffusion(), Langevin(0.16, steps=2, rule=rule))

    def samples(indices):
        noise = Noise(5, indices)
        return run(sampler, model, noise.normal((3,)), middle(VP(), 20), noise=noise)

    together = samples(range(12))
    apart = torch.cat([samples(range(5)), samples(range(5, 6)), samples(range(6, 12))])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)


def test_annealed_langevin_corrects_at_every_row_of_the_table() -> None:
    """On N(m, v) each step is affine: mean and variance of x, by hand, over the rows from the largest to the least."""
    table, snr, turns, m, v = SMLD(steps=5, sigma_min=0.1, sigma_max=3.0), 0.2, 3, 0.7, 0.05
    dim = 200_000
    law = GaussianMixture(torch.full((1, dim), m), variances=torch.full((1, dim), v))
    model, grid = ExactModel(table, law), uniform(table, 4)
    mean, variance = 0.0, 9.0
    for sigma in torch.logspace(math.log10(3.0), -1, 5, dtype=torch.float64).tolist():
        width, delta = v + sigma**2, 2 * (snr * sigma) ** 2
        for _ in range(turns):
            keep = 1 - delta / width
            mean, variance = m + keep * (mean - m), keep**2 * variance + 2 * delta
    noise = Noise(0, range(1))
    start = table.prior.sample(noise.normal((dim,)))
    x = run(CorrectorOnly(Langevin(snr, turns)), model, start, grid, noise=noise, denoise=False)
    assert float(x.mean()) == pytest.approx(mean, abs=4 * (variance / dim) ** 0.5)
    assert float(x.var()) == pytest.approx(variance, rel=4 * (2 / dim) ** 0.5)


def test_annealed_langevin_evaluates_at_each_level_and_once_to_denoise() -> None:
    seen = []

    class Watched(ExactModel):
        def score(self, x, t):
            seen.append(round(float(t), 6))
            return super().score(x, t)

    table = SMLD(steps=3)
    model = Watched(table, GaussianMixture(torch.zeros(1, 1), variances=torch.ones(1, 1)))
    noise = Noise(0, range(2))
    adjusted = CorrectorOnly(Langevin(steps=2)).adjusted(lambda model, x, t, noise: 0 * x)
    x = run(adjusted, model, noise.normal((1,)), uniform(table, 2), noise=noise)
    assert seen == [1.0, 1.0, 0.666667, 0.666667, 0.333333, 0.333333]
    assert x.tolist() == [[0.0], [0.0]]
