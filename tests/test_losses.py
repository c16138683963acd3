"""The objective: one loss for every parameterization, its minimum and its weights in closed form."""

import math

import pytest
import torch
from oracles import FIVE, correlated, double, name
from torch import nn

from scorefield.exact import ExactModel
from scorefield.losses import denoising_loss, likelihood_weight, sample_times
from scorefield.network_model import ContinuousTime, NetworkModel
from scorefield.score import PARAMETERIZATIONS
from scorefield.sde import DDPM, SMLD, VE, VP, RectifiedFlow


class Oracle(nn.Module):
    """A network that answers exactly what its parameterization asks for."""

    def __init__(self, exact, form, error=0.0):
        super().__init__()
        self.exact, self.form, self.error = exact, form, error

    def forward(self, x, c, label=None):
        t = c / 999 * self.exact.sde.T
        scale = self.form.input_scale(self.exact.sde, t)
        x = x if scale is None else x / scale[:, None]
        denoised, noise = self.exact.predict(x, t)
        noise = noise + self.error
        denoised = denoised - self.error * (self.exact.sde.sigma(t) / self.exact.sde.alpha(t))[:, None]
        p, q = self.form.target(self.exact.sde, t)
        return p[:, None] * denoised + q[:, None] * noise


def batch(law, n=40):
    generator = torch.Generator().manual_seed(0)
    x0 = law.sample(n, generator)
    z = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return x0, z, u


@pytest.mark.parametrize("sde", FIVE, ids=name)
@pytest.mark.parametrize("key", PARAMETERIZATIONS)
def test_every_parameterization_has_the_loss_of_the_noise(sde, key):
    """|eps_hat - z|²/dim, whatever the network is asked for (a common constant error in eps added)."""
    exact = ExactModel(sde, correlated())
    x0, z, u = batch(exact.law)
    t = 0.02 * sde.T + 0.95 * sde.T * u
    form = PARAMETERIZATIONS[key]()
    model = NetworkModel(Oracle(exact, form, 0.3), sde, exact.space, form, ContinuousTime())
    x = sde.alpha(t)[:, None] * x0 + sde.sigma(t)[:, None] * z
    expected = (exact.predict(x, t)[1] + 0.3 - z).square().mean(1)
    torch.testing.assert_close(denoising_loss(model, x0, t, z), expected, rtol=1e-8, atol=1e-10)
    weighted = denoising_loss(model, x0, t, z, weighting="likelihood")
    g2 = sde.diffusion(t) ** 2
    torch.testing.assert_close(weighted, expected * g2 / sde.sigma(t) ** 2, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_the_weight_is_the_rate_of_the_log_snr(sde):
    t = (0.05 + 0.9 * torch.linspace(0, 1, 7, dtype=torch.float64)) * sde.T
    h = 1e-6 * sde.T
    rate = -(sde.logsnr(t + h) - sde.logsnr(t - h)) / (2 * h)
    torch.testing.assert_close(likelihood_weight(sde, t), rate, rtol=1e-6, atol=0)


def test_times_and_their_factors():
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    t, factor = sample_times(VP(), u, "uniform")
    assert float(t[0]) == pytest.approx(1e-5 + (1 - 1e-5) * 5e-4)
    assert factor.unique().tolist() == [1.0]
    t, factor = sample_times(VP(), u, "logsnr")
    steps = VP().logsnr(t).diff()
    torch.testing.assert_close(steps, steps[:1].expand(999), rtol=1e-6, atol=0)
    constant = likelihood_weight(VP(), t) * factor
    torch.testing.assert_close(constant, constant[:1].expand(1000), rtol=1e-9, atol=0)
    for f, integral in ((lambda t: t, 0.5), (lambda t: torch.cos(t), math.sin(1.0))):
        assert float((factor * f(t)).mean()) == pytest.approx(integral, rel=0.02)
    t, factor = sample_times(VE(), u, "logsnr")
    torch.testing.assert_close(factor, torch.ones_like(u), rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match='RectifiedFlow takes to -inf: use "uniform"'):
        sample_times(RectifiedFlow(), u, "logsnr")


@pytest.mark.parametrize("table", [DDPM(steps=50), SMLD(steps=10)], ids=repr)
def test_times_of_a_table_are_its_rows_equally_often(table):
    u = (torch.arange(1000) + 0.5) / 1000
    t, factor = sample_times(table, u, "table")
    rows, counts = table.row(t.double()).unique(return_counts=True)
    torch.testing.assert_close(rows, torch.arange(table.steps).double(), rtol=0, atol=1e-5)
    assert counts.unique().tolist() == [1000 / table.steps]
    assert factor.unique().tolist() == [1.0]
    with pytest.raises(ValueError, match="VP has no table"):
        sample_times(VP(), u, "table")


def test_the_exact_model_is_the_minimum():
    """The loss of the exact model is E Var(z | x_t)/dim; any constant error e adds e²."""
    exact, t = ExactModel(VP(), correlated()), torch.full((20_000,), 0.4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x0 = exact.law.sample(20_000, generator)
    z = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    form = PARAMETERIZATIONS["v"]()
    losses = [
        denoising_loss(NetworkModel(Oracle(exact, form, e), VP(), exact.space, form, ContinuousTime()), x0, t, z).mean()
        for e in (0.0, 0.2)
    ]
    alpha, sigma = VP().alpha(double(0.4)), VP().sigma(double(0.4))
    variance = alpha**2 * exact.law.variances / (alpha**2 * exact.law.variances + sigma**2)
    assert float(losses[0]) == pytest.approx(float(variance.mean()), rel=0.02)
    assert float(losses[1] - losses[0]) == pytest.approx(0.04, rel=0.1)
