"""Adaptive solvers: tableaus, orders, error control, independence of batch mates, who leaves the batch."""

import math
from dataclasses import replace

import pytest
import torch

from scorefield.ode import ADAMS, BOGACKI_SHAMPINE, DORMAND_PRINCE, Adams, IntegrationError, solve
from scorefield.ode.adams import _integrals
from scorefield.ode.base import Problem, Walk

METHODS = pytest.mark.parametrize("method", [ADAMS, DORMAND_PRINCE], ids=["Adams", "DormandPrince"])


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
        slope = riccati(u, y)
        for _ in range(n):
            y, _, slope = tableau.advance(riccati, u, y, h, slope)
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
        sizes.append(float(tableau.advance(riccati, u, y, step, riccati(u, y))[1].abs()))
    assert math.log2(sizes[0] / sizes[1]) == pytest.approx(low + 1, abs=0.5)


@pytest.mark.parametrize("count", range(1, 8))
def test_polynomials_through_uneven_nodes_are_integrated_exactly(count):
    """Of the nodes in use any polynomial with as many coefficients; the others do not take part, and may coincide."""
    nodes = torch.tensor([[1.0, 0.0, -0.3, -1.7, -1.9, -4.0, -9.0, 0.0]], dtype=torch.float64)
    weights = _integrals(nodes, (torch.arange(8) < count)[None, None])[0, 0]
    for power in range(count):
        assert float((weights * nodes[0] ** power).sum()) == pytest.approx(1 / (power + 1), rel=1e-10)
    assert not weights[count:].any()


@pytest.mark.parametrize("order", range(1, 6))
def test_adams_gains_an_order_from_each_past_slope(order):
    """Equal steps from exact slopes: with k of them and the new one the global error falls as h^(k + 1)."""
    problem = Problem(plain(riccati), torch.Size([1]), 0.0, 2.0, 1.0, 1.0)
    errors = []
    for n in (80, 160):
        h = torch.tensor([2 / n], dtype=torch.float64)
        places = h * torch.arange(order - 1, -1, -1)[None]
        y = 1 / (1 + places**2)
        slopes = (-2 * places * y**2)[..., None]
        count = torch.tensor([order])
        walk = Walk(places[:, 0], h, count, y[:, :1], torch.tensor([0]), (), (slopes, places, count))
        for _ in range(n - order + 1):
            walk = replace(Adams(order).step(problem, walk)[1], h=h, order=count)
        assert float(walk.u) == pytest.approx(2.0)
        errors.append(abs(float(walk.state) - 1 / 5))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.35)


@METHODS
@pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-9])
def test_error_follows_tolerance_both_ways(method, tol):
    y0 = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    slope = plain(lambda u, y: torch.cos(u)[:, None] * y)
    y, _ = solve(slope, y0, 0.0, 3.0, tol=tol, method=method)
    exact = y0 * math.exp(math.sin(3.0))
    assert float((y - exact).abs().max()) < 10 * tol
    back, _ = solve(slope, y, 3.0, 0.0, tol=tol, method=method)
    assert float((back - y0).abs().max()) < 20 * tol


def test_adams_evaluates_once_a_step_and_dormand_prince_six_times():
    """At equal tolerance Adams's method comes to the end of a smooth way with less than half the evaluations."""
    counts = []
    for method in (ADAMS, DORMAND_PRINCE):
        calls = []

        def slope(u, y, calls=calls):
            calls.append(len(u))
            return torch.cos(u)[:, None] * y, y[:, :0]

        solve(slope, torch.ones(1, 1).double(), 0.0, 3.0, method=method, tol=1e-6)
        counts.append(sum(calls))
    assert counts[0] < 0.5 * counts[1]
    assert (counts[1] - 1) % 6 == 0


@METHODS
def test_who_has_arrived_is_evaluated_no_more(method):
    """An easy sample beside a hard one costs what it costs alone, and what belongs to each sample goes along."""
    rates = torch.tensor([1.0, 30.0], dtype=torch.float64)
    seen = []

    def slope(u, y, rate):
        seen.append(rate.tolist())
        return torch.cos(rate * u)[:, None] * rate[:, None], y[:, :0]

    def evaluations(rates):
        seen.clear()
        y, _ = solve(slope, torch.zeros(len(rates), 1).double(), 0.0, 2.0, method=method, tol=1e-4, along=[rates])
        torch.testing.assert_close(y[:, 0], torch.sin(2 * rates), rtol=0, atol=1e-3)
        return [r for rates in seen for r in rates]

    easy, hard = (len(evaluations(rates[i : i + 1])) for i in (0, 1))
    together = evaluations(rates)
    assert (together.count(1.0), together.count(30.0)) == (easy, hard)
    assert easy < hard / 2


def test_one_transfer_to_the_host_for_each_step(monkeypatch):
    """The flag of who arrived and who is stuck; a batch that is whole until its end needs no other."""
    transfers, steps = [], []
    for name in ("tolist", "item", "__bool__", "__float__", "__int__", "nonzero"):
        original = getattr(torch.Tensor, name)

        def counted(self, *args, name=name, original=original):
            transfers.append(name)
            return original(self, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)

    def slope(u, y):
        steps.append(u)
        return -y, y[:, :0]

    solve(slope, torch.ones(4, 3).double(), 0.0, 1.0, tol=1e-6)
    assert transfers == ["tolist"] * (len(steps) - 1) + ["nonzero"]


@METHODS
def test_the_integral_rides_along(method):
    y, q = solve(lambda u, y: (y, y**2), torch.ones(1, 1, dtype=torch.float64), 0.0, 1.0, tol=1e-8, method=method)
    assert float(y) == pytest.approx(math.e, rel=1e-7)
    assert float(q) == pytest.approx((math.e**2 - 1) / 2, rel=1e-6)


@METHODS
def test_a_still_state_does_not_hide_the_integral(method):
    """At the mean of the data the state never moves; the integral must be right all the same."""
    _, q = solve(
        lambda u, y: (0 * y, torch.exp(-50 * (u - 0.5) ** 2)[:, None]),
        torch.zeros(1, 1, dtype=torch.float64),
        0.0,
        1.0,
        method=method,
    )
    assert float(q) == pytest.approx(math.sqrt(math.pi / 50) * math.erf(0.5 * math.sqrt(50)), abs=1e-4)


@METHODS
def test_samples_step_alone(method):
    """A stiff batch mate changes nothing."""
    rates = torch.tensor([1.0, 1.0, 200.0], dtype=torch.float64)

    def slope(u, y, rate):
        return -y * rate[:, None], y[:, :0]

    def end(rates):
        y = torch.ones(len(rates), 2, dtype=torch.float64)
        return solve(slope, y, 0.0, 1.0, method=method, along=[rates])[0]

    torch.testing.assert_close(end(rates)[:2], end(rates[:2]), rtol=1e-12, atol=1e-14)


def test_failures_name_sample_and_place():
    def nan_later(u, y):
        return torch.where((u > 0.5)[:, None] & (y < 0), math.nan, y * 0 + 1)

    for method in (ADAMS, DORMAND_PRINCE):
        with pytest.raises(IntegrationError, match=r"sample 1 of the batch cannot go on from (0\.5|0\.4999)"):
            solve(plain(nan_later), torch.tensor([[1.0], [-1.0]]), 0.0, 1.0, method=method)
    with pytest.raises(IntegrationError, match=r"sample 0 of the batch cannot go on from 0,"):
        solve(plain(lambda u, y: y * math.nan), torch.ones(1, 1), 0.0, 1.0)
    with pytest.raises(IntegrationError, match=r"sample 0 of the batch cannot go on from 0\.5"):
        solve(plain(lambda u, y: 1e18 * torch.sin(1e15 * u)[:, None] + 0 * y), torch.ones(1, 1).double(), 0.5, 1.5)
    with pytest.raises(IntegrationError, match="loosen the tolerance"):
        solve(plain(lambda u, y: torch.cos(100 * u)[:, None] * y), torch.ones(1, 1), 0.0, 9.0, max_steps=3)
    with pytest.raises(ValueError, match=r"tolerance 0.0, expected a positive number"):
        solve(plain(lambda u, y: y), torch.ones(1, 1), 0.0, 1.0, tol=0.0)
    with pytest.raises(ValueError, match="Adams of order 7, expected 1 to 6"):
        Adams(7)


@METHODS
@pytest.mark.parametrize(("noise", "tol"), [(1e-3, 1e-4), (1e-4, 1e-5)])
def test_a_slope_noisier_than_the_tolerance(method, noise, tol):
    """What reduced precision does to a network: the solver finishes, in a number of steps that stays reasonable."""
    calls, generator = [], torch.Generator().manual_seed(0)

    def slope(u, y):
        calls.append(u)
        rough = 1 + noise * torch.randn(y.shape, generator=generator, dtype=torch.float64)
        return torch.cos(u)[:, None] * y * rough, y[:, :0]

    y, _ = solve(slope, torch.ones(1, 64, dtype=torch.float64), 0.0, 3.0, tol=tol, method=method)
    assert float((y - math.exp(math.sin(3.0))).abs().max()) < 10 * noise
    assert len(calls) < 2000


@METHODS
def test_a_trial_step_out_of_the_domain_is_taken_back(method):
    """y' = -sqrt(y): an overlong step ends where y < 0, and a shorter one does not."""
    y0 = torch.ones(1, 1, dtype=torch.float64)
    y, _ = solve(plain(lambda u, y: -torch.sqrt(y)), y0, 0.0, 1.9, tol=1e-2, method=method)
    assert float(y) == pytest.approx((1 - 1.9 / 2) ** 2, abs=2e-3)
