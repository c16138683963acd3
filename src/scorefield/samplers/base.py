"""Samplers walk a time grid from the prior to the data.

A sampler moves x from t to s < t; a corrector stays at t. Samplers wrap samplers (predictor-corrector, replacement), so
nothing else composes. Multistep samplers look back at what the model said at earlier times; that belongs to the walk,
as `past`, and samplers own no state. `run` is the walk itself, with one denoising evaluation at its end: the mean of
x_0 given the last x_t, which removes the last noise (Song et al. 2021, app. G; Jolicoeur-Martineau et al. 2021).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from scorefield.noise import Noise
from scorefield.score import Denoiser, ScoreModel
from scorefield.shapes import Data, Instant
from scorefield.times import Grid

Past = list[tuple[Instant, Data]]
"""Times of a walk and what the model said there, latest last: kept by the samplers that look back."""


class Sampler(ABC):
    """Moves a batch from one time to the next. Hyper-parameters only, no state."""

    def start(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:  # noqa: ARG002
        """Make a draw `x` of the prior ready for the first step."""
        return x

    @abstractmethod
    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t."""

    def finish(self, model: ScoreModel, x: Data, t: Instant, past: Past) -> Data:  # noqa: ARG002
        """The data, given x at the last time: the denoised x, unless `past` allows better."""
        return model.denoise(x, t)

    def adjusted(self, adjust: "Adjust") -> "Sampler":
        """This sampler with `adjust` applied to every x that it makes, at that x's time."""
        return _Adjusted(self, adjust)


class Adaptive(ABC):
    """Brings a batch from the prior to the data in steps of its own choice. Hyper-parameters only, no state."""

    @abstractmethod
    def sample(self, model: ScoreModel, x: Data, noise: Noise) -> Data:
        """x_T to data in model units; `noise` has a stream for each sample."""


Adjust = Callable[[ScoreModel, Data, Instant, Noise], Data]


@dataclass(frozen=True)
class _Adjusted(Sampler):
    sampler: Sampler
    adjust: Adjust

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        return self.adjust(model, self.sampler.step(model, x, t, s, noise, past), s, noise)


@dataclass(frozen=True)
class Progress:
    """Where a run stands: `step` of `steps` done, `x` at time `t`."""

    step: int
    steps: int
    x: Data
    t: Instant


@torch.no_grad()
def run(
    sampler: Sampler,
    model: ScoreModel,
    x: Data,
    times: Grid,
    *,
    noise: Noise,
    denoise: bool = True,
    callback: Callable[[Progress], None] | None = None,
) -> Data:
    """Walk `times`, descending, from `x` at times[0]; return data in model units.

    `noise` has a stream for each sample of `x`. `denoise=False` returns x at the last time instead, as general SDEs
    need.

    >>> from scorefield.exact import ExactModel, GaussianMixture
    >>> from scorefield.samplers import Ancestral
    >>> from scorefield.sde import VP
    >>> from scorefield.times import logsnr
    >>> model = ExactModel(VP(), GaussianMixture(torch.full((1, 1), 3.0), variances=torch.full((1, 1), 1e-4)))
    >>> noise = Noise(seed=0, indices=range(4))
    >>> run(Ancestral(), model, noise.normal((1,)), logsnr(VP(), 20), noise=noise).round(decimals=1).flatten()
    tensor([3., 3., 3., 3.])
    """
    if not bool((times.diff() < 0).all()):
        raise ValueError(f"times from {float(times[0]):g} to {float(times[-1]):g}, expected a grid that descends")
    past: Past = []
    x = sampler.start(model, x, times[0], noise)
    for i, (t, s) in enumerate(pairwise(times)):
        x = sampler.step(model, x, t, s, noise, past)
        if callback is not None:
            callback(Progress(i + 1, len(times) - 1, x, s))
    return sampler.finish(model, x, times[-1], past) if denoise else x


def denoiser(model: ScoreModel, who: object) -> Denoiser:
    """The model as one of a linear SDE, or a TypeError that says who needs it."""
    if not isinstance(model, Denoiser):
        raise TypeError(
            f"{type(who).__name__} needs a model that denoises, of a linear SDE; {type(model).__name__} of "
            f"{type(model.sde).__name__} gives a score: use EulerMaruyama, and Langevin with rule='norm'"
        )
    return model


def draw(noise: Noise, x: Tensor) -> Data:
    """Standard normal noise like `x`."""
    return noise.normal(x.shape[1:], x.dtype)
