"""Exponential integrators: measured orders of the flow and of laws, published coefficients, infinite steps."""

import functools
import math

import pytest
import torch
from oracles import FIVE, correlated, double, middle, mixture, name

from scorefield.counting import count_evaluations
from scorefield.exact import ExactModel
from scorefield.flow import decode
from scorefield.noise import Noise
from scorefield.samplers import (
    DDIM,
    DEIS,
    AdamsBashforth,
    Ancestral,
    DPMSolver,
    DPMSolverSinglestep,
    Heun,
    Langevin,
    PredictorCorrector,
    Restart,
    UniPC,
    run,
)
from scorefield.samplers.exponential import coefficients
from scorefield.sde import EDM, SMLD, VE, VP, Cosine, RectifiedFlow
from scorefield.testing import flow_between, flow_error, law_error, propagate
from scorefield.times import edm, logsnr, ratios

FLOW = [
    (DDIM(), 1),
    (DPMSolver(1), 1),
    (DPMSolver(2), 2),
    (DPMSolver(3), 3),
    (DPMSolverSinglestep(), 2),
    (UniPC(1), 2),
    (UniPC(2), 3),
    (UniPC(3), 4),
    (UniPC(2, "noise"), 3),
    (UniPC(2, "velocity"), 3),
    (UniPC(3, "velocity"), 4),
    (DEIS(1), 1),
    (DEIS(2), 2),
    (DEIS(3), 3),
    (AdamsBashforth(2), 2),
    (AdamsBashforth(3), 3),
    (Heun(), 2),
]
NOISY = [
    (DPMSolver(1, tau=1.0), 1),
    (DPMSolver(2, tau=0.5), 2),
    (DPMSolver(2, tau=1.0), 2),
    (DPMSolver(3, tau=1.0), 2),
    (DPMSolverSinglestep(tau=0.5), 2),
    (DPMSolverSinglestep(tau=1.0), 2),
]
SOLVERS = [sampler for sampler, _ in (*FLOW, *NOISY)]


def order(errors):
    return math.log2(errors[0] / errors[1])


@functools.cache
def exact_walk(sde, highest, lowest, steps, known):
    """A model of a mixture, a grid of noise-to-signal ratios, and the flow at its first `known` times and its end."""
    model = ExactModel(sde, mixture(3))
    times = ratios(sde, highest, lowest, steps)
    start = model.marginal(times[0]).sample(8, torch.Generator().manual_seed(0))
    return model, times, [start, *(flow_between(model, start, times[0], t) for t in (*times[1:known], times[-1]))]


def said(sampler, model, x, t):
    """What a sampler keeps of the model's answers."""
    kept = {DEIS: "noise", AdamsBashforth: "velocity"}.get(type(sampler), getattr(sampler, "of", "data"))
    denoised, noise = model.predict(x, t)
    return {"data": denoised, "noise": noise, "velocity": noise - denoised}[kept]


def error_from_exact_values(sampler, sde, steps, known):
    model, times, (*along, last, end) = exact_walk(sde, 20, 0.1, steps, known + 1)
    past = [(t, said(sampler, model, x, t)) for t, x in zip(times[:known], along, strict=True)]
    past = past[-getattr(sampler, "order", 1) :]
    return flow_error(sampler, model, last, times[known:], past=past, exact=end)


@pytest.mark.parametrize("sde", FIVE, ids=name)
@pytest.mark.parametrize(("sampler", "expected"), FLOW, ids=str)
def test_order_from_exact_values(sampler, expected, sde):
    """A walk that has passed two times already, with exact x and exact values there."""
    assert order([error_from_exact_values(sampler, sde, steps, 2) for steps in (80, 160)]) == pytest.approx(
        expected, abs=0.25
    )


@pytest.mark.parametrize("sde", [VE(), VP()], ids=name)
@pytest.mark.parametrize(
    ("sampler", "expected"), [(DPMSolver(4), 4), (DEIS(4), 4), (AdamsBashforth(4), 4), (UniPC(4), 5)], ids=str
)
def test_high_orders_from_exact_values(sampler, expected, sde):
    """Beyond three values the sums go on as they began."""
    assert order([error_from_exact_values(sampler, sde, steps, 3) for steps in (160, 320)]) == pytest.approx(
        expected, abs=0.35
    )


@pytest.mark.parametrize("sde", [VE(), VP(), RectifiedFlow()], ids=name)
@pytest.mark.parametrize(("sampler", "expected"), FLOW, ids=str)
def test_order_from_a_real_start(sampler, expected, sde):
    """Begun at r = 3, where the flow is curved: the first step, of order 1 or corrected 2, holds order 3 back to 2 and
    order 4 to 3."""
    errors = []
    for steps in (160, 320):
        model, times, (start, end) = exact_walk(sde, 3, 0.15, steps, 1)
        errors.append(flow_error(sampler, model, start, times, exact=end))
    cold = {DPMSolver(3): 2, DEIS(3): 2, AdamsBashforth(3): 2, UniPC(3): 3, UniPC(3, "velocity"): 3}
    assert order(errors) == pytest.approx(cold.get(sampler, expected), abs=0.25), errors


@pytest.mark.parametrize("sde", [VE(1e-5, 10), VP(t_min=1e-8), EDM(1e-5, 10), RectifiedFlow()], ids=name)
@pytest.mark.parametrize(
    ("sampler", "expected"), [(AdamsBashforth(2), 2), (UniPC(1, "velocity"), 2), (UniPC(2, "velocity"), 3)], ids=str
)
def test_order_to_the_data(sampler, expected, sde):
    """The last step, from u = h to u = 0, looks back as the others do; rectified flow begins where alpha = 0."""
    model, T, end = ExactModel(sde, mixture(3)), double(sde.T), double(sde.t_min)
    start = sde.prior.sample(torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    exact = model.denoise(decode(model, start, tol=1e-10), end)
    errors = []
    for steps in (80, 160):
        u = torch.linspace(1, 1 / steps, steps, dtype=torch.float64) * sde.sigma(T) / (sde.alpha(T) + sde.sigma(T))
        times = torch.cat([T[None], sde.time(2 * torch.log((1 - u[1:]) / u[1:]))])
        found = run(sampler, model, start, times, noise=Noise(0, range(8)))
        errors.append(float((found - exact).square().mean().sqrt()))
    assert order(errors) == pytest.approx(expected, abs=0.25), errors


@pytest.mark.parametrize("sde", FIVE, ids=name)
@pytest.mark.parametrize(("sampler", "expected"), NOISY, ids=str)
def test_weak_order(sampler, expected, sde):
    model = ExactModel(sde, correlated())
    errors = [law_error(sampler, model, middle(sde, steps)) for steps in (50, 100)]
    assert order(errors) == pytest.approx(expected, abs=0.2), errors


def test_one_value_is_ddim_and_ancestral():
    """DPM-Solver++(1) is DDIM, its SDE version is ancestral sampling; so are DDIM(0) and DDIM(1)."""
    for sde in (*FIVE, Cosine(), SMLD()):
        model, t, s = ExactModel(sde, mixture(3)), double(0.7 * sde.T), double(0.4 * sde.T)
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for one, others in (
            (DDIM(), (DPMSolver(1), DEIS(1), AdamsBashforth(1))),
            (Ancestral(), (DDIM(eta=1.0), DPMSolver(1, tau=1.0))),
        ):
            expected = one.step(model, x, t, s, Noise(0, range(4)), [])
            for other in others:
                y = other.step(model, x, t, s, Noise(0, range(4)), [])
                torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-12)


def test_published_coefficients():
    """2M and 3M of Lu et al. (2022), written with the phi functions of exponential integrators."""
    h, back = 0.7, 0.9
    phi1 = -math.expm1(-h) / h
    phi2 = (1 - phi1) / h
    phi3 = (0.5 - phi2) / h
    r0, r1 = back / h, 0.5 / h
    assert coefficients(0.0, h, [-back, 0.0], 1.0) == pytest.approx([-h * phi2 / r0, h * (phi1 + phi2 / r0)], rel=1e-12)
    found = coefficients(0.0, h, [-back - 0.5, -back, 0.0], 1.0)
    for j in range(3):
        d2, d1, d0 = (float(i == j) for i in range(3))
        first, second = (d0 - d1) / r0, (d1 - d2) / r1
        curve = (first - second) / (r0 + r1)
        expected = h * (phi1 * d0 + phi2 * (first + r0 * curve) + 2 * phi3 * curve)
        assert found[j] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rate", [-1.0, 0.0, 1.0, 1.25, 2.0])
@pytest.mark.parametrize("h", [1e-4, 0.3, 3.0, 8.0])
def test_coefficients_integrate_polynomials(rate, h):
    """For values of a polynomial of the nodes' degree the sum is the integral, which integration by parts gives."""
    nodes = [-2.1 * h, -h, 0.0]
    found = coefficients(0.0, h, nodes, rate)
    v = torch.linspace(0, h, 200_001, dtype=torch.float64)
    for power in range(3):
        expected = torch.trapezoid((rate * torch.exp(rate * (v - h)) if rate else 1) * (v / h) ** power, v)
        assert sum(c * (n / h) ** power for c, n in zip(found, nodes, strict=True)) == pytest.approx(
            float(expected), rel=1e-7
        )


@pytest.mark.parametrize("sde", [RectifiedFlow(), Cosine(), SMLD()], ids=name)
@pytest.mark.parametrize("sampler", SOLVERS, ids=str)
def test_infinite_steps(sampler, sde):
    """From where nothing of the data is left, and to where no noise is left (SMLD at t = 0): finite, and right."""
    law = correlated()
    model, end = ExactModel(sde, law), 0.0 if isinstance(sde, SMLD) else 0.02
    times = logsnr(sde, 300, 0.02) if end else torch.cat([logsnr(sde, 300), torch.zeros(1, dtype=torch.float64)])
    error = law_error(sampler, model, times)
    assert error < 0.1


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_churn_keeps_the_order(sde):
    """With S_churn/N at every step the walk still ends in the law of the data, at order 2 (weakly)."""
    model = ExactModel(sde, correlated())
    errors = [law_error(Heun(churn=3 / steps), model, middle(sde, steps)) for steps in (50, 100, 200)]
    assert order(errors[1:]) == pytest.approx(2, abs=0.3), errors


def test_restarts_forget_what_went_wrong():
    """Restarts keep the law of the data, and repair that of a walk which has begun with a wrong one."""
    for sde in FIVE:
        model = ExactModel(sde, correlated())
        right = [law_error(Restart(Heun(), 0.2, steps=n), model, middle(sde, n)) for n in (40, 80)]
        assert right[1] < 0.01
        assert order(right) > 1.7
        times = middle(sde, 80)
        wrong = model.marginal(times[0])
        shifted = type(wrong).gaussian(wrong.mean + 5 * sde.sigma(times[0]), wrong.covariance)
        plain, again = (
            float((propagate(sampler, model, times, shifted)[0] - model.marginal(times[-1]).mean).norm())
            for sampler in (Heun(), Restart(Heun(), 0.2, 5.0, repeats=3, steps=40))
        )
        assert again < 0.01 * plain


@pytest.mark.parametrize("wrap", [lambda restart: restart, PredictorCorrector], ids=["alone", "corrected"])
@pytest.mark.parametrize(
    ("restart", "sde", "highest", "lowest", "message"),
    [
        (Restart(DDIM(), 0.05), VP(), 20, 0.1, "low 0.05 in a walk that ended at sigma/alpha = 0.1 .*raise it"),
        (Restart(DDIM(), 0.5), VP(), 0.4, 0.1, "low 0.5 in a walk that begins at sigma/alpha = 0.4.*lower it"),
        (Restart(DDIM(), 1.0, 2.0), EDM(), 1, 0.1, "low 1 in a walk that begins at sigma/alpha = 1,.*lower it"),
        (Restart(DDIM(), 0.005), VE(), 20, 0.1, "low 0.005 and VE, whose sigma/alpha is at least 0.01.*raise it"),
        (Restart(DDIM(), 0.5, 51), VE(), 20, 0.1, "high 51 with VE, whose sigma/alpha is 50 at T.*lower high"),
    ],
)
def test_restarts_that_would_not_happen_are_refused(wrap, restart, sde, highest, lowest, message):
    model, noise = ExactModel(sde, mixture(3)), Noise(0, range(2))
    with pytest.raises(ValueError, match=message):
        run(wrap(restart), model, noise.normal((3,), torch.float64), ratios(sde, highest, lowest, 5), noise=noise)


@pytest.mark.parametrize("sde", [*FIVE, Cosine(), SMLD()], ids=name)
def test_restarts_reach_as_far_as_the_walk(sde):
    """`low` where the walk ends, `high` where the SDE does: neither is a matter of rounding."""
    model, noise = ExactModel(sde, mixture(3)), Noise(0, range(2))
    high = min(1e3, math.exp(-0.5 * float(sde.logsnr(double(sde.T)))))
    with count_evaluations(model) as evaluations:
        run(Restart(DDIM(), 0.1, high, steps=3), model, noise.normal((3,)), ratios(sde, 20, 0.1, 5), noise=noise)
    assert evaluations.forward == 2 * (5 + 3 + 1)


@pytest.mark.parametrize(
    ("sampler", "each", "extra"),
    [
        (DDIM(), 1, 0),
        (DPMSolver(3), 1, 0),
        (DPMSolverSinglestep(), 2, 0),
        (UniPC(3), 1, 0),
        (UniPC(2, "velocity"), 1, 0),
        (DEIS(), 1, 0),
        (AdamsBashforth(), 1, 0),
        (Heun(churn=0.1), 2, 0),
        (Restart(DDIM(), repeats=2, steps=3), 1, 6),
    ],
    ids=str,
)
def test_evaluations_of_a_walk(sampler, each, extra):
    model, noise = ExactModel(VP(), mixture(3)), Noise(0, range(2))
    with count_evaluations(model) as evaluations:
        run(sampler, model, noise.normal((3,)), logsnr(VP(), 10), noise=noise)
    assert evaluations.forward == 2 * (10 * each + extra + 1)


@pytest.mark.parametrize("sampler", SOLVERS, ids=str)
def test_a_sample_is_its_seed(sampler):
    model, times = ExactModel(VE(), mixture(2, 4, 4).to(torch.float32)), edm(VE(), 8)

    def walk(indices):
        noise = Noise(3, indices)
        return run(sampler, model, 50 * noise.normal((2, 4, 4)), times, noise=noise)

    torch.testing.assert_close(walk(range(5))[3:4], walk([3]), rtol=1e-5, atol=1e-5)


def test_multistep_samplers_take_correctors_and_look_back_only_within_a_walk():
    model, sampler = ExactModel(VP(), mixture(3)), PredictorCorrector(UniPC(2), Langevin(0.1))
    first, second = (
        run(sampler, model, torch.ones(2, 3, dtype=torch.float64), logsnr(VP(), 20), noise=Noise(0, range(2)))
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_what_is_refused(unchecked):
    with pytest.raises(ValueError, match="of 'score', expected one of data, noise, velocity"):
        UniPC(2, "score")
    for make in (lambda: DPMSolver(7), lambda: UniPC(0), lambda: DEIS(7), lambda: AdamsBashforth(0)):
        with pytest.raises(ValueError, match="expected 1 to 6"):
            make()
    for make in (
        lambda: DDIM(eta=2.0),
        lambda: DPMSolver(tau=-1.0),
        lambda: Heun(churn=1.0),
        lambda: Restart(DDIM(), 2, 1),
    ):
        with pytest.raises(ValueError, match="expected"):
            make()
    with pytest.raises(ValueError, match="expected 'posterior' or 'forward'"):
        Ancestral("largest")


def test_a_step_of_few_evaluations_is_worth_it():
    """At ten evaluations on a mixture: second order beats first by far, and the correction beats none."""
    model, times, (start, end) = exact_walk(EDM(), 20, 0.1, 10, 1)
    ddim, two, corrected = (flow_error(s, model, start, times, exact=end) for s in (DDIM(), DPMSolver(2), UniPC(2)))
    assert two < ddim / 3
    assert corrected < two
