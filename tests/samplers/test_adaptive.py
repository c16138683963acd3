"""The reverse SDE with steps of its own choice: the law whatever is refused, each sample alone, errors."""

import math

import pytest
import torch
from oracles import FIVE, Diagonal, correlated, mixture, name

from scorefield.brownian import BrownianPath
from scorefield.counting import count_evaluations
from scorefield.exact import ExactModel, GaussianMixture
from scorefield.noise import Noise
from scorefield.samplers import AdaptiveSDE
from scorefield.score import ScoreFunction
from scorefield.sde import VE, VP, Cosine, RectifiedFlow
from scorefield.space import DataSpace


def drawn(model, sampler, count, seed=0):
    noise = Noise(seed, range(count))
    x = model.sde.prior.sample(noise.normal(model.space.shape, torch.float64))
    return sampler.sample(model, x, noise)


def one_number(variance=0.25):
    return GaussianMixture(torch.full((1, 1), 0.3).double(), variances=torch.full((1, 1), variance).double())


@pytest.mark.parametrize("sde", [*FIVE, Cosine()], ids=name)
def test_samples_follow_the_data(sde):
    law = correlated(2)
    y = drawn(ExactModel(sde, law), AdaptiveSDE(0.1, absolute=0.02), 250)
    torch.testing.assert_close(torch.cov(y.T), law.covariance, rtol=0.25, atol=0.04)
    assert float((y.mean(0) - law.mean).abs().max()) < 0.12


def test_refused_steps_do_not_bias_the_law():
    """In one dimension nearly half of the steps are refused, those with large noise: new noise would widen the law.

    With noise redrawn after each refusal the standard deviation of this very run is 1.5 times as large.
    """
    y = drawn(ExactModel(VP(), one_number()), AdaptiveSDE(0.05, absolute=0.01), 600)
    assert float(y.std()) == pytest.approx(0.5, rel=0.07)
    assert float(y.mean()) == pytest.approx(0.3, abs=0.05)


def test_the_same_noise_refined(monkeypatch):
    """A path is one function of time, so a tighter tolerance goes to the same sample: strong convergence."""
    model = ExactModel(VP(), mixture(16))
    fine = drawn(model, AdaptiveSDE(1e-3, absolute=1e-4), 4)
    errors = [
        float((drawn(model, AdaptiveSDE(tol, absolute=0.1 * tol), 4) - fine).square().mean().sqrt())
        for tol in (0.2, 0.02)
    ]
    assert errors[1] < 0.4 * errors[0] < 0.08


@pytest.mark.parametrize("sde", [VE(), VP(), RectifiedFlow()], ids=name)
def test_a_sample_is_its_seed_at_every_batch_size(sde):
    model = ExactModel(sde, mixture(3))

    def at(indices):
        noise = Noise(0, indices)
        x = sde.prior.sample(noise.normal((3,), torch.float64))
        return AdaptiveSDE(0.05).sample(model, x, noise)

    apart = torch.cat([at([0]), at([1, 2, 3]), at([4])])
    torch.testing.assert_close(at(range(5)), apart, rtol=0, atol=1e-9)


def test_a_looser_tolerance_costs_less_and_who_has_arrived_costs_nothing():
    model = ExactModel(VE(), mixture(2, 8, 8))
    costs = []
    for tol in (0.2, 0.02):
        with count_evaluations(model) as evaluations:
            drawn(model, AdaptiveSDE(tol), 4)
        costs.append(evaluations.forward)
    assert costs[0] < 0.6 * costs[1]
    singly = 0
    for i in range(4):
        with count_evaluations(model) as evaluations:
            noise = Noise(0, [i])
            AdaptiveSDE(0.02).sample(model, model.sde.prior.sample(noise.normal((2, 8, 8), torch.float64)), noise)
        singly += evaluations.forward
    assert costs[1] == singly


def test_a_general_sde():
    sde, m, variance = Diagonal(0.5, 1.0), torch.tensor([0.5, -1.0], dtype=torch.float64), 0.25

    def score(x, t):
        mean, spread = sde.law(t, m, variance)
        return -(x - mean) / spread

    y = drawn(ScoreFunction(score, sde, DataSpace((2,))), AdaptiveSDE(0.1, absolute=0.02), 300)
    torch.testing.assert_close(y.mean(0), m, rtol=0, atol=0.1)
    torch.testing.assert_close(y.var(0), torch.full((2,), variance).double(), rtol=0.25, atol=0)


def test_errors_name_sample_and_time():
    def score(x, t):
        return torch.where((t < 0.4)[:, None] & (x > 0), math.nan, 0 * x)

    model = ScoreFunction(score, VP(), DataSpace((1,)))
    noise = Noise(0, range(2))
    with pytest.raises(ValueError, match=r"sample 1 of the batch cannot go on from t = 0\.(4|5)"):
        AdaptiveSDE().sample(model, torch.tensor([[-9.0], [9.0]]).double(), noise)
    with pytest.raises(ValueError, match=r"AdaptiveSDE with tolerance 0, .* expected a positive tolerance"):
        AdaptiveSDE(0)


def test_every_try_walks_the_path_of_its_sample(monkeypatch):
    """Refused tries look ahead on the same path and leave no trace."""
    model, seen = ExactModel(VP(), one_number()), {}
    original = BrownianPath.walk

    def walk(self, place, time):
        there = original(self, place, time)
        assert torch.allclose(seen.setdefault((self.row, time), there.value), there.value, atol=1e-5)
        return there

    monkeypatch.setattr(BrownianPath, "walk", walk)
    drawn(model, AdaptiveSDE(0.02, absolute=0.01), 3)
    assert len(seen) > 100
