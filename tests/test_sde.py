"""Marginals, drift, diffusion and transitions against closed form and against one another."""

import math

import pytest
import torch
from oracles import ALL, FIVE, OrnsteinUhlenbeck, double, name

from scorefield.sde import DDPM, EDM, SMLD, VE, VP, Cosine, LinearSDE, NormalPrior, RectifiedFlow, SubVP


def times(sde: LinearSDE, count: int = 41) -> torch.Tensor:
    last = sde.T if bool(sde.alpha(double(sde.T)) > 0) else 0.999 * sde.T
    ends = torch.tensor([sde.t_min, last], dtype=torch.float64)
    spread = torch.exp(torch.linspace(*ends.log().tolist(), count, dtype=torch.float64))
    even = torch.linspace(*ends.tolist(), count, dtype=torch.float64)
    inner = torch.cat([spread, even]).unique()
    return inner[(inner > sde.t_min) & (inner < last)]


CLOSED = {
    VE: (
        lambda t: torch.ones_like(t),
        lambda t: 0.01 * 5000**t,
        lambda t: 0 * t,
        lambda t: 2 * math.log(5000) * 1e-4 * 5000 ** (2 * t),
    ),
    VP: (
        lambda t: torch.exp(-0.5 * (0.1 * t + 9.95 * t**2)),
        lambda t: torch.sqrt(-torch.expm1(-(0.1 * t + 9.95 * t**2))),
        lambda t: -0.5 * (0.1 + 19.9 * t),
        lambda t: 0.1 + 19.9 * t,
    ),
    SubVP: (
        lambda t: torch.exp(-0.5 * (0.1 * t + 9.95 * t**2)),
        lambda t: -torch.expm1(-(0.1 * t + 9.95 * t**2)),
        lambda t: -0.5 * (0.1 + 19.9 * t),
        lambda t: (0.1 + 19.9 * t) * -torch.expm1(-2 * (0.1 * t + 9.95 * t**2)),
    ),
    EDM: (lambda t: torch.ones_like(t), lambda t: t, lambda t: 0 * t, lambda t: 2 * t),
    RectifiedFlow: (lambda t: 1 - t, lambda t: t, lambda t: -1 / (1 - t), lambda t: 2 * t / (1 - t)),
    Cosine: (
        lambda t: torch.cos(math.pi * t / 2),
        lambda t: torch.sin(math.pi * t / 2),
        lambda t: -math.pi / 2 * torch.tan(math.pi * t / 2),
        lambda t: math.pi * torch.tan(math.pi * t / 2),
    ),
    OrnsteinUhlenbeck: (
        lambda t: torch.exp(-t),
        lambda t: torch.sqrt(-torch.expm1(-2 * t)),
        lambda t: -torch.ones_like(t),
        lambda t: 2 * torch.ones_like(t),
    ),
}


@pytest.mark.parametrize("sde", [s for s in ALL if type(s) in CLOSED], ids=name)
def test_closed_forms(sde):
    t = times(sde)
    alpha, sigma, rate, g2 = (f(t) for f in CLOSED[type(sde)])
    torch.testing.assert_close(sde.alpha(t), alpha, rtol=1e-10, atol=0)
    torch.testing.assert_close(sde.sigma(t), sigma, rtol=1e-10, atol=0)
    torch.testing.assert_close(sde.drift(torch.ones(len(t), 1, dtype=torch.float64), t)[:, 0], rate, rtol=1e-10, atol=0)
    torch.testing.assert_close(sde.diffusion(t) ** 2, g2, rtol=1e-10, atol=0)


@pytest.mark.parametrize("sde", ALL, ids=name)
def test_given_forms_equal_the_derived_ones(sde):
    t = times(sde)
    if isinstance(sde, DDPM | SMLD):  # derivatives jump at the rows
        t = (torch.floor(t * sde.steps) + 0.5) / sde.steps
    torch.testing.assert_close(sde.dalpha(t), LinearSDE.dalpha(sde, t), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(sde.dsigma(t), LinearSDE.dsigma(sde, t), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(sde.drift_rate(t), sde.dalpha(t) / sde.alpha(t), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(sde.logsnr(t), LinearSDE.logsnr(sde, t), rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(sde.time(sde.logsnr(t)), t, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(LinearSDE.time(sde, sde.logsnr(t)), t, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("sde", ALL, ids=name)
def test_diffusion_is_the_rate_of_the_variance(sde):
    """d sigma²/dt = 2 f sigma² + g², by central differences of sigma²."""
    t = times(sde, 9)
    if isinstance(sde, DDPM | SMLD):
        t = (torch.floor(t * sde.steps) + 0.5) / sde.steps
    h = 1e-4 * t.clamp(max=1) if not isinstance(sde, DDPM | SMLD) else torch.full_like(t, 1e-7)
    rate = (sde.sigma(t + h) ** 2 - sde.sigma(t - h) ** 2) / (2 * h)
    torch.testing.assert_close(
        rate, 2 * sde.drift_rate(t) * sde.sigma(t) ** 2 + sde.diffusion(t) ** 2, rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("sde", ALL, ids=name)
def test_transitions_compose_and_meet_the_marginals(sde):
    t = times(sde)
    s, m, t = t[:-2], t[1:-1], t[2:]
    a, v = sde.transition(s, t)
    torch.testing.assert_close(a, sde.alpha(t) / sde.alpha(s), rtol=1e-10, atol=0)
    torch.testing.assert_close(sde.sigma(t) ** 2, a**2 * sde.sigma(s) ** 2 + v, rtol=1e-10, atol=0)
    a1, v1 = sde.transition(s, m)
    a2, v2 = sde.transition(m, t)
    torch.testing.assert_close(a, a2 * a1, rtol=1e-10, atol=0)
    torch.testing.assert_close(v, v2 + a2**2 * v1, rtol=1e-10, atol=0)
    torch.testing.assert_close(v, LinearSDE.transition(sde, s, t)[1], rtol=1e-7, atol=0)


@pytest.mark.parametrize("sde", ALL, ids=name)
def test_short_transitions_in_float32(sde):
    """No cancellation: v over a step of 1e-3 agrees with float64 to 1e-5."""
    s = times(sde, 9)
    s = s[s > 2e-3]
    t = s * 1.001 if sde.T > 1 else s + 1e-3 * (1 - s)
    s, t = s.float().double(), t.float().double()
    exact = LinearSDE.transition(sde, s, t)[1]
    bound = 2e-5 if type(sde) in (VE, VP, SubVP, EDM, RectifiedFlow, Cosine) else 1e-2
    torch.testing.assert_close(sde.transition(s.float(), t.float())[1].double(), exact, rtol=bound, atol=0)


@pytest.mark.parametrize("sde", [RectifiedFlow(), Cosine()], ids=name)
def test_the_end_without_data(sde):
    """alpha = 0 at T: the transition has a = 0 and v = sigma², and the log-SNR is -inf."""
    a, v = sde.transition(double(0.7), double(1.0))
    assert (float(a), float(v)) == (0.0, 1.0)
    assert float(sde.logsnr(double(1.0))) == -math.inf
    assert float(sde.time(double(-math.inf))) == 1.0


def test_transition_from_clean_data():
    """sigma_s = 0 is finite: the chain's last step lands on the data."""
    sde = SMLD()
    assert float(sde.transition(double(0.0), double(0.001))[1]) == pytest.approx(1e-4, rel=1e-12)


def test_tables():
    """Row i of the published tables is the SDE at (i + 1)/N, and the kernel between rows is the chain's."""
    n = 1000
    rows = torch.arange(1, n + 1, dtype=torch.float64) / n
    beta = torch.linspace(0.1 / n, 20 / n, n, dtype=torch.float64)
    torch.testing.assert_close(DDPM().alpha(rows) ** 2, torch.cumprod(1 - beta, 0), rtol=1e-10, atol=0)
    a, v = DDPM().transition(rows - 1 / n, rows)
    torch.testing.assert_close(a**2, 1 - beta, rtol=1e-10, atol=0)
    torch.testing.assert_close(v, beta, rtol=1e-10, atol=0)
    sigma = 0.01 * 5000 ** (torch.arange(n, dtype=torch.float64) / (n - 1))
    torch.testing.assert_close(SMLD().sigma(rows), sigma, rtol=1e-10, atol=0)
    previous = torch.cat([torch.zeros(1, dtype=torch.float64), sigma[:-1]])
    v = SMLD().transition(rows - 1 / n, rows)[1]
    torch.testing.assert_close(v, sigma**2 - previous**2, rtol=1e-9, atol=1e-15)


def test_tables_are_close_to_their_limits():
    t = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    assert float((DDPM().alpha(t) - VP().alpha(t)).abs().max()) < 1.1e-3


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_prior_variance(sde):
    expected = {VE: 50.0, VP: 1.0, SubVP: 1.0, EDM: 80.0, RectifiedFlow: 1.0}[type(sde)]
    assert sde.prior.std == pytest.approx(expected)


def test_prior_is_a_normal_law():
    prior = NormalPrior(3.0)
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.distributions.Normal(double(0.0), double(3.0)).log_prob(x).sum((1, 2))
    torch.testing.assert_close(prior.log_prob(x), expected)
    torch.testing.assert_close(prior.standardize(prior.sample(x)), x)


def test_bad_tables_are_refused():
    with pytest.raises(ValueError, match=r"beta_max 20.0 and 20 steps"):
        DDPM(steps=20)
    with pytest.raises(ValueError, match="at least 2"):
        SMLD(steps=1)
    for make in (
        lambda: VE(50.0, 0.01),
        lambda: VP(beta_max=-0.1),
        lambda: EDM(sigma_min=0.0),
        lambda: SMLD(10, 50.0, 0.01),
        lambda: VP(t_min=1.0),
        lambda: VP(t_sample=2.0),
        lambda: RectifiedFlow(t_min=3.0),
    ):
        with pytest.raises(ValueError, match=r"expected 0 <=? "):
            make()
