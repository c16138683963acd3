"""The probability flow: closed-form codes, likelihoods to 1e-4 nats, calibrated errors."""

import math

import pytest
import torch
from oracles import ALL, FIVE, Diagonal, correlated, double, mixture, name
from torch import nn

from scorefield.counting import count_evaluations
from scorefield.exact import ExactModel, GaussianMixture
from scorefield.flow import ProbabilityFlow, decode, encode, log_likelihood
from scorefield.network_model import ContinuousTime, NetworkModel
from scorefield.noise import Noise
from scorefield.ode import ADAMS, DORMAND_PRINCE
from scorefield.score import NoisePrediction, ScoreFunction
from scorefield.sde import DDPM, SMLD, VE, VP
from scorefield.space import DataSpace


def data(law, count=6):
    return law.sample(count, torch.Generator().manual_seed(5))


def ends(sde):
    return double(sde.t_min), double(sde.T)


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_code_of_gaussian_data(sde):
    """On N(m, V) the flow is affine: x_T = alpha_T m + W_T^(1/2) W_t^(-1/2) (x - alpha_t m), W = alpha² V + sigma²."""
    law = correlated()
    model, x = ExactModel(sde, law), data(law)
    start, end = (model.marginal(t) for t in ends(sde))
    rotated = (x - start.mean) @ law.basis[0] * (end.variances / start.variances).sqrt()
    exact = end.mean + rotated @ law.basis[0].T
    code = encode(model, x, tol=1e-8)
    torch.testing.assert_close(code, exact, rtol=1e-5, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("sde", [s for s in ALL if not isinstance(s, DDPM | SMLD)], ids=name)
@pytest.mark.parametrize("shape", [(3,), (1, 4, 4)], ids=str)
def test_likelihood(sde, shape):
    """With the law's own marginal at T as the prior, the density at t_min is exact."""
    law = mixture(*shape)
    model, x = ExactModel(sde, law), data(law)
    t, end = ends(sde)
    result = log_likelihood(model, x, prior=model.marginal(end), tol=1e-7)
    torch.testing.assert_close(result.log_prob, model.marginal(t).log_prob(x), rtol=0, atol=1e-4)
    torch.testing.assert_close(sum(result.parts.values()), result.log_prob, rtol=1e-12, atol=1e-12)
    assert result.standard_error.tolist() == [0.0] * 6


@pytest.mark.parametrize("sde", [DDPM(steps=100), SMLD(steps=100)], ids=name)
def test_likelihood_of_the_chains(sde):
    """The flow runs through the tables too, whose slopes jump at each row."""
    law = mixture(3)
    model, x = ExactModel(sde, law), data(law)
    t, end = ends(sde)
    result = log_likelihood(model, x, prior=model.marginal(end), tol=1e-7)
    torch.testing.assert_close(result.log_prob, model.marginal(t).log_prob(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_gaps_of_the_published_prior(sde):
    """What the prior costs, per dimension: ½[(W + alpha² m²)/s² - 1 - log(W/s²)] (Song et al. 2021, app. B)."""
    law = GaussianMixture(torch.full((1, 1), 0.5).double(), variances=torch.full((1, 1), 0.04).double())
    model, x = ExactModel(sde, law), data(law, 2000)
    end = model.marginal(double(sde.T))
    s2 = sde.prior.std**2
    gap = 0.5 * ((end.variances + end.means**2) / s2 - 1 - torch.log(end.variances / s2))
    difference = end.log_prob(end.sample(200_000, torch.Generator().manual_seed(0))[:, :]) - sde.prior.log_prob(
        end.sample(200_000, torch.Generator().manual_seed(0))
    )
    assert float(difference.mean()) == pytest.approx(float(gap), abs=5 * float(difference.std()) / 200_000**0.5 + 1e-12)
    own = log_likelihood(model, x[:4], prior=end).log_prob
    published = log_likelihood(model, x[:4]).log_prob
    assert float((own - published).abs().max()) < 30 * float(gap) ** 0.5 + 1e-6


@pytest.mark.parametrize("sde", [VP(), VE()], ids=name)
def test_probes_are_unbiased_and_their_errors_calibrated(sde):
    law = correlated(6)
    model, x = ExactModel(sde, law), data(law, 200)
    exact = log_likelihood(model, x)
    probes = Noise(0, range(200)).rademacher((16, 6), torch.float64)
    estimate = log_likelihood(model, x, probes)
    z = (estimate.log_prob - exact.log_prob) / estimate.standard_error
    assert float(z.abs().max()) < 5.5  # Student's t with 15 degrees of freedom, 200 draws
    assert abs(float(z.mean())) < 4 / 200**0.5
    assert 0.85 < float(z.std()) < 1.35  # sqrt(15/13) = 1.07
    torch.testing.assert_close(estimate.latent, exact.latent, rtol=1e-3, atol=1e-3 * sde.prior.std)


def test_one_probe_has_no_error_bar():
    model = ExactModel(VP(), correlated())
    probes = Noise(0, range(2)).rademacher((1, 3), torch.float64)
    assert log_likelihood(model, data(model.law, 2), probes).standard_error.isnan().all()


@pytest.mark.parametrize("sde", FIVE, ids=name)
@pytest.mark.parametrize("shape", [(5,), (2, 16), (1, 8, 8), (1, 4, 4, 4)], ids=str)
def test_decode_inverts_encode(sde, shape):
    law = mixture(*shape).to(torch.float32)
    model = ExactModel(sde, law)
    x = data(law, 3)
    y = decode(model, encode(model, x, tol=1e-5), tol=1e-5)
    assert y.shape == x.shape
    assert y.dtype == torch.float32
    assert float((y - x).abs().max()) < 1e-3


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_flow_samples_follow_the_data(sde):
    law = correlated(2)
    model = ExactModel(sde, law)
    x = sde.prior.sample(Noise(0, range(2000)).normal((2,), torch.float64))
    y = ProbabilityFlow(1e-5).sample(model, x, Noise(0, range(2000)))
    torch.testing.assert_close(torch.cov(y.T), law.covariance, rtol=0.15, atol=0.02)
    assert float((y.mean(0) - law.mean).abs().max()) < 0.06


def test_likelihood_under_a_general_sde():
    """The flow in plain time: N(m, V) data under an SDE with a diagonal diffusion."""
    sde, m, variance = Diagonal(0.5, 1.0), torch.tensor([0.5, -1.0], dtype=torch.float64), 0.25

    def score(x, t):
        mean, spread = sde.law(t, m, variance)
        return -(x - mean) / spread

    model = ScoreFunction(score, sde, DataSpace((2,)))
    start, end = (GaussianMixture(mean, variances=v) for mean, v in (sde.law(t, m, variance) for t in ends(sde)))
    x = torch.tensor([[0.0, 0.0], [1.0, -0.5]], dtype=torch.float64)
    likelihood = log_likelihood(model, x, prior=end, tol=1e-8)
    torch.testing.assert_close(likelihood.log_prob, start.log_prob(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(decode(model, encode(model, x, tol=1e-8), tol=1e-8), x, rtol=0, atol=1e-5)


def test_a_sample_does_not_feel_its_batch_mates():
    law = mixture(3)
    model, x = ExactModel(VP(), law), data(law, 64)
    together = encode(model, x)
    apart = torch.cat([encode(model, part) for part in (x[:1], x[1:8], x[8:])])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-9)


def test_evaluations_are_counted_where_they_happen():
    calls = []

    def score(x, t):
        calls.append(len(x))
        return -x

    model = ScoreFunction(score, VP(), DataSpace((2,)))
    x = torch.ones(3, 2, dtype=torch.float64)
    with count_evaluations(model) as evaluations:
        log_likelihood(model, x, Noise(0, range(3)).rademacher((2, 2), torch.float64), tol=1e-3)
    assert evaluations.forward == sum(calls)
    assert evaluations.backward == 2 * evaluations.forward
    model.score(x, double(0.5))
    assert evaluations.forward == sum(calls) - 3


def test_the_mean_of_the_data_is_not_a_blind_spot():
    """There the state stands still; the divergence must be integrated with care all the same."""
    law = correlated()
    model = ExactModel(VE(), law)
    x = law.mean[None]
    result = log_likelihood(model, x, prior=model.marginal(double(1.0)), tol=1e-6)
    exact = model.marginal(double(1e-5)).log_prob(x)
    assert float(result.log_prob) == pytest.approx(float(exact), abs=1e-4)
    assert math.isfinite(float(exact))


def test_likelihood_under_inference_mode():
    law = mixture(2)
    model, x = ExactModel(VP(), law), data(law, 2)
    expected = log_likelihood(model, x, tol=1e-3).log_prob
    with torch.inference_mode():
        assert torch.equal(log_likelihood(model, x.clone(), tol=1e-3).log_prob, expected)


@pytest.mark.parametrize("method", [ADAMS, DORMAND_PRINCE], ids=["Adams", "DormandPrince"])
def test_labels_of_a_batch_leave_with_their_samples(method):
    """Each sample has the label that it came with, though others have arrived before it."""

    class Means(nn.Module):
        def forward(self, x, c, label):
            return torch.sin(2 * label[:, None].to(x) * x)

    model = NetworkModel(Means(), VP(), DataSpace((2,), classes=4), NoisePrediction(), ContinuousTime())
    x, labels = torch.linspace(-1, 1, 8).double().reshape(4, 2), torch.tensor([0, 3, 1, 2])
    together = encode(model.given(label=labels), x, tol=1e-4, method=method)
    apart = [encode(model.given(label=int(n)), x[i : i + 1], tol=1e-4, method=method) for i, n in enumerate(labels)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-9, atol=1e-9)
    probes = Noise(0, range(4)).rademacher((2, 2), torch.float64)
    together = log_likelihood(model.given(label=labels), x, probes, tol=1e-3, method=method).log_prob
    apart = [
        log_likelihood(model.given(label=int(n)), x[i : i + 1], probes[i : i + 1], tol=1e-3, method=method).log_prob
        for i, n in enumerate(labels)
    ]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-9, atol=1e-9)
