"""The best way to spend a budget of network evaluations on one model: solver, grid, and where to end.

All candidates start from the same x_T and are to find E[x_0 | x_t] at t = `t_sample`, with x_t where the probability
flow carries x_T; a fine solution says what that is. The error is the mean over samples of the rms distance from it (an
rms over samples as well would see only the few that fall to another mode, however good all others are). Solvers have
one evaluation a step, and the last evaluation denoises, so a budget of n is a walk of n - 1 steps. A walk that ends at
more noise has more steps for the rest, and leaves more to the denoiser: which end is best is measured too.

The best of the named grids are then bent. With log-SNRs l_0 < ... < l_n of a grid, the new ones divide the way from l_0
to a new end in the ratios

    (l_i - l_(i-1)) exp(w(i/n)),    w piecewise linear with a few knots                               (1)

and knots and end follow a pattern search (Hooke & Jeeves 1961).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scorefield.noise import Noise
from scorefield.plan import Plan
from scorefield.samplers import DEIS, AdamsBashforth, DPMSolver, Sampler, UniPC, run
from scorefield.score import Denoiser
from scorefield.sde import LinearSDE
from scorefield.shapes import Data
from scorefield.times import Grid, at_ratio, edm, logsnr, quadratic, uniform

SOLVERS: dict[str, Sampler] = {
    "dpmpp-2m": DPMSolver(2),
    **{f"unipc-{order}": UniPC(order) for order in (2, 3, 4, 5)},
    **{f"unipc-{order}-noise": UniPC(order, "noise") for order in (3, 4)},
    **{f"unipc-{order}-velocity": UniPC(order, "velocity") for order in (2, 3)},
    **{f"deis-{order}": DEIS(order) for order in (3, 4)},
    **{f"ab-{order}": AdamsBashforth(order) for order in (3, 4)},
}
_SPACINGS: tuple[Callable[[LinearSDE, int, float | None], Grid], ...] = (
    logsnr,
    edm,
    lambda sde, steps, end: edm(sde, steps, end, rho=3.0),
    quadratic,
    uniform,
)
_ENDS = (None, 0.025, 0.06, 0.12)
_KNOTS, _KEPT, _FIRST, _LAST = 6, 2, 0.5, 0.06
_REACH = 1.5
"""How far beyond the budget that it was found for a plan is still better than the default."""


def default_plan(sde: LinearSDE, budget: int) -> Plan:
    """What is best on average over mixtures and bundled models (`benchmarks/solvers.py`), for models not calibrated.

    >>> from scorefield.sde import VP
    >>> default_plan(VP(), 10).solver
    'deis-3'
    """
    if budget < 2:
        raise ValueError(f"a budget of {budget} evaluations, expected 2 or more: a step and the denoising")
    steps = budget - 1
    if budget < 8:
        return Plan("unipc-2-velocity", _floats(quadratic(sde, steps, _end(sde, 0.12))))
    if budget < 18:
        return Plan("deis-3", _floats(edm(sde, steps)))
    return Plan("deis-4" if budget < 40 else "unipc-5", _floats(logsnr(sde, steps)))


def plan_for(sde: LinearSDE, plans: Mapping[int, Plan], budget: int) -> Plan:
    """The plan of the largest calibrated budget within this one, its grid divided more finely where there is more."""
    within = [known for known in plans if known <= budget]
    if not within or budget > _REACH * max(within):
        return default_plan(sde, budget)
    plan = plans[max(within)]
    return replace(plan, times=_refined(sde, plan.times, budget - 1))


def solver(plan: Plan) -> Sampler:
    """The sampler of a plan. Raises ValueError for a name that this version does not know."""
    if plan.solver not in SOLVERS:
        raise ValueError(f"plan with solver {plan.solver!r}, expected one of {', '.join(SOLVERS)}: calibrate again")
    return SOLVERS[plan.solver]


@dataclass(frozen=True)
class Calibration:
    """The plan that was found for a budget, beside the error of the default plan."""

    plan: Plan
    default: Plan


def calibrate(
    model: Denoiser,
    x: Data,
    budgets: Sequence[int],
    *,
    fine: int = 256,
    trials: int = 60,
    batch_size: int = 64,
    callback: Callable[[int, int], None] | None = None,
) -> dict[int, Calibration]:
    """Find a plan for each budget, from draws `x` of the prior.

    Errors are those against UniPC of order 3 in `fine` steps; each of the best few candidates is bent in up to `trials`
    runs. `callback` is told the number of budgets done, and how many there are.
    """
    exact = _walked(model, UniPC(3), x, logsnr(model.sde, fine), batch_size)
    quarter = -(-len(x) // 4)
    trial, few = (_Trial(model, x[:n], exact[:n], batch_size) for n in (len(x), quarter))
    found = {}
    for done, budget in enumerate(sorted(set(budgets))):
        default = trial.measured(default_plan(model.sde, budget))
        ranked = sorted(map(few.measured, _candidates(model.sde, budget - 1)), key=_error)
        best = sorted((trial.measured(plan) for plan in [*ranked[: 2 * _KEPT], default]), key=_error)[:_KEPT]
        found[budget] = Calibration(min((trial.bent(plan, trials) for plan in best), key=_error), default)
        if callback is not None:
            callback(done + 1, len(set(budgets)))
    return found


@dataclass(frozen=True)
class _Trial:
    """Starts, and where the exact flow ends."""

    model: Denoiser
    x: Tensor
    exact: Tensor
    batch_size: int

    def measured(self, plan: Plan) -> Plan:
        """The plan with its error."""
        times = torch.tensor(plan.times, dtype=torch.float64)
        y = _walked(self.model, solver(plan), self.x, times, self.batch_size)
        distances = (y.double() - self.exact.double()).flatten(1).square().mean(1).sqrt()
        error = float(distances.mean())
        return replace(plan, error=error if math.isfinite(error) else math.inf)

    def bent(self, plan: Plan, trials: int) -> Plan:
        """The best plan of a pattern search over eq. (1)."""
        steps = len(plan.times) - 1
        knots = np.zeros(min(_KNOTS, steps) + 1)  # the last moves the end
        best, size = plan, _FIRST
        while trials > 0 and size > _LAST:
            before = best
            for i in range(len(knots)):
                for direction in (size, -size):
                    bent = knots.copy()
                    bent[i] += direction
                    candidate = self.measured(replace(plan, times=_bent(self.model.sde, plan.times, bent)))
                    trials -= 1
                    if _error(candidate) < _error(best):
                        best, knots = candidate, bent
                        break
            if best is before:
                size /= 2
        return best


def _walked(model: Denoiser, sampler: Sampler, x: Data, times: Grid, batch_size: int) -> Data:
    parts = torch.split(x, batch_size)
    return torch.cat([run(sampler, model, part, times, noise=Noise(0, range(len(part)))) for part in parts])


def _candidates(sde: LinearSDE, steps: int) -> list[Plan]:
    grids = {_floats(spacing(sde, steps, _end(sde, end))) for spacing in _SPACINGS for end in _ENDS}
    return [Plan(name, times) for name in SOLVERS for times in sorted(grids)]


def _end(sde: LinearSDE, ratio: float | None) -> float | None:
    """The time of a noise-to-signal ratio, where sampling would go further; None where it would not."""
    if ratio is None:
        return None
    end = float(at_ratio(sde, ratio))
    return end if sde.t_sample < end < sde.T else None


def _bent(sde: LinearSDE, times: Sequence[float], knots: np.ndarray) -> tuple[float, ...]:
    """The times of eq. (1); what lies before the first finite log-SNR stays."""
    head, levels = _levels(sde, times)
    *bends, shift = knots
    gaps = np.diff(levels)
    if len(bends) > 1:
        gaps = gaps * np.exp(np.interp(np.linspace(0, 1, len(gaps)), np.linspace(0, 1, len(bends)), bends))
    last = min(levels[-1] + 2 * shift, float(sde.logsnr(torch.tensor(sde.t_sample, dtype=torch.float64))))
    if last <= levels[0]:
        return tuple(times)
    new = levels[0] + (last - levels[0]) * np.concatenate([[0.0], np.cumsum(gaps) / gaps.sum()])
    return _times(sde, head, times, new)


def _refined(sde: LinearSDE, times: tuple[float, ...], steps: int) -> tuple[float, ...]:
    """The same grid with another number of steps, by linear interpolation of its log-SNRs."""
    if steps == len(times) - 1:
        return times
    head, levels = _levels(sde, times)
    at = np.linspace(0, len(levels) - 1, steps + 1 - len(head))
    return _times(sde, head, times, np.interp(at, np.arange(len(levels)), levels))


def _levels(sde: LinearSDE, times: Sequence[float]) -> tuple[tuple[float, ...], np.ndarray]:
    """The times where nothing is left of the data, and the log-SNRs of the others."""
    grid = torch.tensor(times, dtype=torch.float64)
    start = 0 if sde.informative(grid[0]) else 1
    return tuple(times[:start]), sde.logsnr(grid[start:]).numpy()


def _times(sde: LinearSDE, head: tuple[float, ...], times: Sequence[float], levels: np.ndarray) -> tuple[float, ...]:
    found = sde.time(torch.from_numpy(levels))
    found[0] = times[len(head)]
    return (*head, *_floats(found))


def _floats(times: Grid) -> tuple[float, ...]:
    return tuple(times.tolist())


def _error(plan: Plan) -> float:
    return math.inf if plan.error is None else plan.error
