"""Budgets: what a plan costs and says, that calibration finds what is better, also on other samples."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from oracles import ALL, double, mixture, name

import scorefield as sf
from scorefield.calibration import SOLVERS, _bent, calibrate, default_plan, plan_for, solver
from scorefield.counting import count_evaluations
from scorefield.exact import ExactModel
from scorefield.noise import Noise
from scorefield.plan import Plan, read_plans, write_plans
from scorefield.samplers import UniPC, run
from scorefield.sde import VE, VP, RectifiedFlow
from scorefield.times import logsnr


def starts(sde, count, seed):
    return sde.prior.sample(Noise(seed, range(count)).normal((1, 8, 8), torch.float64))


def distance(model, plan, x, exact):
    noise = Noise(0, range(len(x)))
    y = run(solver(plan), model, x, torch.tensor(plan.times, dtype=torch.float64), noise=noise)
    return float((y - exact).flatten(1).square().mean(1).sqrt().mean())


@pytest.mark.parametrize("sde", ALL, ids=name)
@pytest.mark.parametrize("budget", [2, 5, 10, 50])
def test_a_budget_is_spent_to_the_last_evaluation(sde, budget):
    model = ExactModel(sde, mixture(3))
    with count_evaluations(model) as evaluations:
        y = sf.sample(model, 2, budget=budget)
    assert evaluations.forward == 2 * budget
    assert bool(y.isfinite().all())


@pytest.mark.parametrize("sde", [VP(), VE(), RectifiedFlow()], ids=name)
def test_calibration_is_better_on_samples_that_it_has_not_seen(sde):
    model = ExactModel(sde, mixture(1, 8, 8))
    found = calibrate(model, starts(sde, 24, seed=1), [6], trials=40)[6]
    x = starts(sde, 400, seed=3)  # a few of which fall to another mode
    exact = run(UniPC(3), model, x, logsnr(sde, 300), noise=Noise(0, range(400)))
    ours, default = (distance(model, plan, x, exact) for plan in (found.plan, found.default))
    assert ours < 0.9 * default
    assert found.plan.error < found.default.error
    assert found.plan.evaluations == 6


def test_the_default_loses_less_with_more():
    model, x = ExactModel(VP(), mixture(1, 8, 8)), starts(VP(), 16, seed=3)
    exact = run(UniPC(3), model, x, logsnr(VP(), 400), noise=Noise(0, range(16)))
    errors = [distance(model, default_plan(VP(), budget), x, exact) for budget in (8, 15, 30, 60)]
    assert all(b < 0.7 * a for a, b in pairwise(errors)), errors


DEFAULTS = {
    5: ("unipc-2-velocity", "UniPC 2 velocity | quadratic end .12"),
    8: ("deis-3", "DEIS 3 | edm"),
    10: ("deis-3", "DEIS 3 | edm"),
    15: ("deis-3", "DEIS 3 | edm"),
    20: ("deis-4", "DEIS 4 | logsnr"),
    50: ("unipc-5", "UniPC 5 | logsnr"),
}


@pytest.mark.parametrize("budget", DEFAULTS)
def test_the_default_is_what_the_record_shows_best_on_average(budget):
    """Of what walked on all four problems, the least geometric mean of errors, up to 3%."""
    solved, label = DEFAULTS[budget]
    assert default_plan(VP(), budget).solver == solved
    folder = max(Path(__file__).parent.parent.glob("benchmarks/records/*_solvers"))
    records = [json.loads(path.read_text("utf-8")) for path in folder.glob("results_*.json")]
    assert len(records) == 4
    means = {
        name: math.prod(errors)
        for name in records[0]
        if name.startswith("ours | ") and "adaptive" not in name and "calibrated" not in name
        if all(errors := [record.get(name, {}).get(str(budget), [None])[0] for record in records])
    }
    assert len(means) > 2
    assert means[f"ours | {label}"] <= 1.03**4 * min(means.values())


def test_bends_keep_a_grid_a_grid():
    for sde in (VP(), RectifiedFlow()):
        times = default_plan(sde, 9).times
        assert _bent(sde, times, torch.zeros(7).double().numpy()) == pytest.approx(times, rel=1e-9)
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):
            bent = _bent(sde, times, 2 * torch.randn(7, generator=generator, dtype=torch.float64).numpy())
            assert bent[0] == times[0] == sde.T
            assert all(s < t for t, s in pairwise(bent))
            assert bent[-1] >= sde.t_sample * (1 - 1e-9)


def test_budgets_between_those_calibrated_divide_their_grid():
    plans = {5: Plan("deis-3", (1.0, 0.6, 0.3, 0.1, 0.01))}
    between = plan_for(VP(), plans, 7)
    assert (between.solver, between.evaluations) == ("deis-3", 7)
    assert between.times[::3] == pytest.approx(plans[5].times[::2])
    first, second = VP().logsnr(torch.tensor([1.0, 0.6]).double())
    assert float(VP().logsnr(double(between.times[1]))) == pytest.approx(float(first + 2 / 3 * (second - first)))
    assert plan_for(VP(), plans, 5) == plans[5]
    assert plan_for(VP(), plans, 4) == default_plan(VP(), 4)
    assert plan_for(VP(), plans, 8) == default_plan(VP(), 8)


def test_plans_are_text_and_back():
    plans = {5: Plan("unipc-2", (1.0, 0.5, 0.001), 0.25), 8: Plan("deis-3", (1.0, 0.0))}
    assert read_plans(write_plans(plans)) == plans
    for text in ("[]", '{"5": {}}', '{"5": {"solver": "deis-3", "times": [0.1, 0.2], "error": null}}', '{"a": 1}', "x"):
        with pytest.raises(ValueError):  # noqa: PT011
            read_plans(text)


def test_what_is_refused():
    model = ExactModel(VP(), mixture(2))
    for options, message in (
        ({"budget": 1}, "a budget of 1 evaluations, expected 2 or more"),
        ({"budget": 10, "steps": 5}, "budget=10 with a sampler, steps or a grid"),
        ({"budget": 10, "sampler": sf.DDIM()}, "budget=10 with a sampler, steps or a grid"),
        ({"sampler": sf.ProbabilityFlow(), "steps": 5}, "steps or a grid with ProbabilityFlow"),
        ({"steps": 3, "grid": torch.tensor([1.0, 0.5, 0.1]).double()}, "steps=3 with a grid of 3 times"),
    ):
        with pytest.raises(ValueError, match=message):
            sf.sample(model, 1, **options)
    with pytest.raises(ValueError, match=r"plan with solver 'magic', expected one of"):
        solver(Plan("magic", (1.0, 0.5)))
    assert all(sampler.order <= 5 for sampler in SOLVERS.values())


def test_a_grid_of_ones_own():
    model = ExactModel(VP(), mixture(2))
    grid = logsnr(VP(), 7)
    torch.testing.assert_close(
        sf.sample(model, 2, sampler=sf.DDIM(), grid=grid), sf.sample(model, 2, sampler=sf.DDIM(), steps=7)
    )
    assert math.isfinite(float(sf.sample(model, 1, grid=grid).sum()))
