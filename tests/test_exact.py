"""The oracles themselves, against torch.distributions and moments."""

import pytest
import torch
from oracles import FIVE, correlated, double, mixture, name
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from scorefield.exact import ExactModel, GaussianMixture


def full_mixture():
    generator = torch.Generator().manual_seed(4)
    roots = 0.5 * torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    covariances = roots @ roots.mT + 0.1 * torch.eye(3, dtype=torch.float64)
    means = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    weights = torch.tensor([0.2, 0.8], dtype=torch.float64)
    reference = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances))
    return GaussianMixture(means, covariances=covariances, weights=weights), reference


def test_densities():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    law, reference = full_mixture()
    torch.testing.assert_close(law.log_prob(x), reference.log_prob(x), rtol=1e-10, atol=1e-10)
    law = mixture(3)
    parts = Independent(Normal(law.means, law.variances.sqrt()), 1)
    reference = MixtureSameFamily(Categorical(law.log_weights.exp()), parts)
    torch.testing.assert_close(law.log_prob(x), reference.log_prob(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("law", [correlated(), mixture(3), full_mixture()[0]], ids=["gaussian", "diagonal", "full"])
def test_moments_and_draws(law):
    x = law.sample(100_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.mean(0), law.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(torch.cov(x.T), law.covariance, rtol=0, atol=0.03)
    entropy = -law.log_prob(x).mean()
    other = -law.log_prob(law.sample(100_000, torch.Generator().manual_seed(1))).mean()
    assert float(entropy) == pytest.approx(float(other), abs=0.03)


@pytest.mark.parametrize("law", [correlated(), mixture(3), full_mixture()[0]], ids=["gaussian", "diagonal", "full"])
def test_posteriors_of_measurements(law):
    """Weighted draws of the law have the posterior's moments; its density is p(x) p(y | x) up to a constant."""
    matrix = torch.tensor([[1.0, 0.5, -0.3], [0.0, 1.0, 1.0]], dtype=torch.float64)
    y, std = torch.tensor([0.4, 0.1], dtype=torch.float64), 0.5
    posterior = law.posterior(matrix, y, std)
    x = law.sample(200_000, torch.Generator().manual_seed(0))
    likelihood = -0.5 * ((y - x @ matrix.T) / std).square().sum(1)
    weights = torch.softmax(likelihood, 0)
    mean = weights @ x
    torch.testing.assert_close(posterior.mean, mean, rtol=0, atol=0.01)
    spread = (x - mean).T @ (weights[:, None] * (x - mean))
    torch.testing.assert_close(posterior.covariance, spread, rtol=0, atol=0.01)
    constant = law.log_prob(x) + likelihood - posterior.log_prob(x)
    torch.testing.assert_close(constant, constant[:1].expand_as(constant), rtol=0, atol=1e-8)


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_marginals_are_laws_of_noisy_data(sde):
    """alpha x + sigma z of draws has the mean and covariance of the marginal."""
    law, _ = full_mixture()
    t = double(0.3 * sde.T)
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    marginal = ExactModel(sde, law).marginal(t)
    torch.testing.assert_close(marginal.mean, alpha * law.mean, rtol=1e-10, atol=1e-12)
    noise = sigma**2 * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(marginal.covariance, alpha**2 * law.covariance + noise, rtol=1e-9, atol=1e-12)


def test_denoised_is_the_posterior_mean():
    """By quadrature over x_0 in one dimension."""
    law = mixture(1)
    sde = FIVE[1]
    t, x = double(0.35), torch.tensor([[0.4]], dtype=torch.float64)
    grid = torch.linspace(-6, 6, 200_001, dtype=torch.float64)[:, None]
    log_weight = law.log_prob(grid) - 0.5 * ((x - sde.alpha(t) * grid) / sde.sigma(t)).square()[:, 0]
    weight = torch.softmax(log_weight, 0)
    denoised, noise = ExactModel(sde, law).predict(x, t)
    assert float(denoised) == pytest.approx(float(weight @ grid[:, 0]), abs=1e-9)
    assert float(noise) == pytest.approx(float((x - sde.alpha(t) * denoised) / sde.sigma(t)), abs=1e-9)


def test_bad_laws_are_refused():
    with pytest.raises(ValueError, match="either variances or covariances"):
        GaussianMixture(torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"smallest variance -1, expected positive"):
        GaussianMixture(torch.zeros(1, 2), variances=torch.tensor([[1.0, -1.0]]))
