"""Adaptive Runge–Kutta: tableaus, order, error control, independence of batch mates."""

import math

import pytest
import torch

from scorefield.ode import BOGACKI_SHAMPINE, DORMAND_PRINCE, IntegrationError, rk_step, solve


def plain(f):
    return lambda u, y: (f(u, y), y[:, :0])


def riccati(u, y):
    """y' = -2 u y²: y = 1/(1 + u²) from y(0) = 1."""
    return -2 * u[:, None].to(y) * y**2


@pytest.mark.parametrize(("tableau", "order"), [(DORMAND_PRINCE, 5), (BOGACKI_SHAMPINE, 3)])
def test_order(tableau, order):
    """Fixed steps: the global error falls as h^order."""
    errors = []
    for n in (20, 40, 80):
        u, y = torch.zeros(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
        h = torch.full((1,), 1.5 / n, dtype=torch.float64)
        slopes = plain(riccati)(u, y)
        for _ in range(n):
            y, _, _, slopes = rk_step(plain(riccati), tableau, u, y, h, slopes)
            u = u + h
        errors.append(abs(float(y) - 1 / (1 + 1.5**2)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.5)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize(("tableau", "low"), [(DORMAND_PRINCE, 4), (BOGACKI_SHAMPINE, 2)])
def test_embedded_error_is_of_the_lower_order(tableau, low):
    sizes = []
    for h in (0.2, 0.1):
        u, y = torch.full((1,), 0.3, dtype=torch.float64), torch.full((1, 1), 0.9, dtype=torch.float64)
        step = torch.full((1,), h, dtype=torch.float64)
        sizes.append(float(rk_step(plain(riccati), tableau, u, y, step, plain(riccati)(u, y))[2][0].abs()))
    assert math.log2(sizes[0] / sizes[1]) == pytest.approx(low + 1, abs=0.5)


@pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-9])
def test_error_follows_tolerance_both_ways(tol):
    y0 = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    y, _ = solve(plain(lambda u, y: torch.cos(u)[:, None] * y), y0, 0.0, 3.0, tol=tol)
    exact = y0 * math.exp(math.sin(3.0))
    assert float((y - exact).abs().max()) < 50 * tol
    back, _ = solve(plain(lambda u, y: torch.cos(u)[:, None] * y), y, 3.0, 0.0, tol=tol)
    assert float((back - y0).abs().max()) < 100 * tol


def test_the_integral_rides_along():
    y, q = solve(lambda u, y: (y, y**2), torch.ones(1, 1, dtype=torch.float64), 0.0, 1.0, tol=1e-8)
    assert float(y) == pytest.approx(math.e, rel=1e-7)
    assert float(q) == pytest.approx((math.e**2 - 1) / 2, rel=1e-6)


def test_a_still_state_does_not_hide_the_integral():
    """At the mean of the data the state never moves; the integral must be right all the same."""
    _, q = solve(
        lambda u, y: (0 * y, torch.exp(-50 * (u - 0.5) ** 2)[:, None]), torch.zeros(1, 1, dtype=torch.float64), 0.0, 1.0
    )
    assert float(q) == pytest.approx(math.sqrt(math.pi / 50) * math.erf(0.5 * math.sqrt(50)), abs=1e-4)


def test_samples_step_alone():
    """A stiff batch mate changes nothing."""

    def f(u, y):
        return -y * torch.tensor([1.0, 1.0, 200.0], dtype=torch.float64)[: len(y), None]

    y0 = torch.ones(3, 2, dtype=torch.float64)
    assert torch.equal(solve(plain(f), y0[:2], 0.0, 1.0)[0], solve(plain(f), y0, 0.0, 1.0)[0][:2])


def test_failures_name_sample_and_place():
    def nan_later(u, y):
        return torch.where((u > 0.5)[:, None] & (y < 0), math.nan, y * 0 + 1)

    with pytest.raises(IntegrationError, match=r"sample 1 of the batch cannot go on from 0\.5"):
        solve(plain(nan_later), torch.tensor([[1.0], [-1.0]]), 0.0, 1.0)
    with pytest.raises(IntegrationError, match=r"sample 0 of the batch cannot go on from 0\.5"):
        solve(plain(lambda u, y: 1e18 * torch.sin(1e15 * u)[:, None] + 0 * y), torch.ones(1, 1).double(), 0.5, 1.5)
    with pytest.raises(IntegrationError, match="loosen the tolerance"):
        solve(plain(lambda u, y: torch.cos(100 * u)[:, None] * y), torch.ones(1, 1), 0.0, 9.0, max_steps=3)
    with pytest.raises(ValueError, match=r"tolerance 0.0, expected a positive number"):
        solve(plain(lambda u, y: y), torch.ones(1, 1), 0.0, 1.0, tol=0.0)


@pytest.mark.parametrize(("noise", "tol"), [(1e-3, 1e-4), (1e-4, 1e-5)])
def test_a_slope_noisier_than_the_tolerance(noise, tol):
    """What reduced precision does to a network: the solver finishes, in a number of steps that stays reasonable."""
    calls, generator = [], torch.Generator().manual_seed(0)

    def slope(u, y):
        calls.append(u)
        rough = 1 + noise * torch.randn(y.shape, generator=generator, dtype=torch.float64)
        return torch.cos(u)[:, None] * y * rough, y[:, :0]

    y, _ = solve(slope, torch.ones(1, 64, dtype=torch.float64), 0.0, 3.0, tol=tol)
    assert float((y - math.exp(math.sin(3.0))).abs().max()) < 10 * noise
    assert len(calls) < 2000


def test_a_trial_step_out_of_the_domain_is_taken_back():
    """y' = -sqrt(y): an overlong step ends where y < 0, and a shorter one does not."""
    y, _ = solve(plain(lambda u, y: -torch.sqrt(y)), torch.ones(1, 1, dtype=torch.float64), 0.0, 1.9, tol=1e-2)
    assert float(y) == pytest.approx((1 - 1.9 / 2) ** 2, abs=2e-3)
