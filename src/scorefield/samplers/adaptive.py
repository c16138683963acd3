"""Heun's method for the reverse SDE, on a grid and with steps of its own choice.

With F = f - g² score, dt = t - s and the same increment w ~ N(0, dt) in both stages (Jolicoeur-Martineau et al. 2021,
algorithm 1, for noise that does not depend on x),

    x' = x - dt F(x, t) + g_t w,    x" = x - dt F(x', s) + g_s w,    x_s = (x' + x")/2                  (1)

x' is Euler–Maruyama's, of weak order 1; x_s has weak order 2. Their difference is the error of a step:

    e = rms((x' - x_s)/max(absolute, tol max(|x'|, |x_before|)))                                       (2)

with x_before the x' of the step before. A step is taken where e <= 1, and the next is h min(0.9 e^-0.9, 5).

The Brownian path is fixed before the first step (:mod:`scorefield.brownian`): a refused step must not choose its noise.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.brownian import END, BrownianPath, rounded
from scorefield.noise import Noise
from scorefield.samplers.base import Adaptive, Past, Sampler, draw
from scorefield.samplers.predictors import DDIM
from scorefield.score import Denoiser, ScoreModel
from scorefield.shapes import Data, Instant, Time, expand

_LARGEST = 5.0


@dataclass(frozen=True)
class StochasticHeun(Sampler):
    """Heun's method for the reverse SDE (1): weak order 2 with two evaluations a step, for any SDE.

    Where alpha_t = 0 the step is ancestral, of first order.
    """

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t."""
        if isinstance(model, Denoiser) and not model.sde.informative(t):
            return DDIM(eta=1.0).step(model, x, t, s, noise, past)
        return _step(model, x, t, s, torch.sqrt(t - s) * draw(noise, x))[1]


@dataclass(frozen=True)
class AdaptiveSDE(Adaptive):
    """The reverse SDE with steps of each sample's own, by the errors of eq. (2) (Jolicoeur-Martineau et al. 2021).

    `tol` is the relative error of a step, and `absolute` the error in model units that never matters: by default one
    level of 8-bit images on [-1, 1]. The first step is `first`, as a share of the whole way. Raises ValueError that
    names the sample and time from where no step succeeds.
    """

    tol: float = 0.02
    absolute: float = 2 / 255
    first: float = 0.01

    def __post_init__(self) -> None:
        if not (self.tol > 0 and self.absolute >= 0 and 0 < self.first <= 1):
            raise ValueError(
                f"AdaptiveSDE with tolerance {self.tol}, absolute {self.absolute}, first step {self.first}; expected a "
                "positive tolerance, an absolute error of 0 or more, and a share of the way"
            )

    @torch.no_grad()
    def sample(self, model: ScoreModel, x: Data, noise: Noise) -> Data:
        """x_T to data in model units."""
        begin, end = (torch.tensor(t, dtype=torch.float64) for t in (model.sde.T, model.sde.t_sample))
        if isinstance(model, Denoiser) and not model.sde.informative(begin):
            begin, T = 0.999 * begin, begin
            x = DDIM(eta=1.0).step(model, x, T, begin, noise, [])
        x = self._walk(model, x, float(begin), float(end), noise)
        return model.denoise(x, end) if isinstance(model, Denoiser) else x

    def _walk(self, model: ScoreModel, x: Data, begin: float, end: float, noise: Noise) -> Data:
        way = begin - end
        paths = [BrownianPath(noise, row, x.shape[1:]) for row in range(len(x))]
        places, steps = [path.start() for path in paths], [self.first] * len(x)
        rows = list(range(len(x)))
        result, before = x.clone(), x.clone()

        def clock(times: list[int]) -> Tensor:
            passed = torch.tensor(times, dtype=torch.float64, device=x.device) / END
            return begin - way * passed

        while rows:
            index = torch.tensor(rows, device=x.device)
            tried = [paths[i].walk(places[i], rounded(places[i].time, steps[i])) for i in rows]
            t, s = clock([places[i].time for i in rows]), clock([place.time for place in tried])
            increments = torch.stack([p.value - places[i].value for i, p in zip(rows, tried, strict=True)])
            here = result[index]
            euler, heun = _step(model.select(index), here, t, s, math.sqrt(way) * increments.to(x))
            scale = (self.tol * torch.maximum(euler.abs(), before[index].abs())).clamp(min=self.absolute)
            errors = ((euler - heun) / scale).square().flatten(1).mean(1).double().sqrt()
            taken = errors <= 1
            done = index[taken]
            result[done], before[done] = heun[taken], euler[taken]
            for place, row, e in zip(tried, rows, errors.nan_to_num(torch.inf).tolist(), strict=True):
                used = (place.time - places[row].time) / END
                steps[row] = used * min(0.9 * max(e, 1e-10) ** -0.9, _LARGEST) if math.isfinite(e) else used / 10
                if e <= 1:
                    places[row] = place
                elif place.time == places[row].time + 1 or steps[row] * END < 1:
                    time = begin - way * places[row].time / END
                    raise ValueError(
                        f"sample {row} of the batch cannot go on from t = {time:.6g}, where no step is small enough: "
                        "check that the model's output is finite there, or loosen the tolerance"
                    )
            rows = [row for row in rows if places[row].time < END]
        return result


def _step(model: ScoreModel, x: Data, t: Time, s: Time, w: Data) -> tuple[Data, Data]:
    """(x', x_s) of eq. (1)."""
    dt = expand(t - s, x)

    def moved(y: Data, u: Time) -> Data:
        g = expand(model.sde.diffusion(u), x)
        return x - dt * (model.sde.drift(y, u) - g**2 * model.score(y, u)) + g * w

    euler = moved(x, t)
    return euler, 0.5 * (euler + moved(euler, s))
