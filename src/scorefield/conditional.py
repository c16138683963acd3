"""Conditional samples from unconditional models, data units in and out: posteriors of linear measurements.

Samples are the rows of a batch of `n` for each measurement; sample j of measurement i is number i n + j of the seed.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from scorefield.api import Callback, batches, device_of, generate, place, positive, time_grid
from scorefield.guidance import (
    DDRM,
    Full,
    Grey,
    Isotropic,
    Linear,
    Mask,
    Measurement,
    Nothing,
    Operator,
    Posterior,
    Proximal,
    Replacement,
    Resampled,
    RowSums,
    TwistedSMC,
)
from scorefield.noise import Noise
from scorefield.samplers import Adaptive, Ancestral, Sampler
from scorefield.score import Denoiser, ScoreModel
from scorefield.space import DataSpace
from scorefield.times import Grid, GridName

Method = Literal["mmps", "tmpd", "pigdm", "dps", "diffpir", "ddrm", "smc", "replacement", "repaint"]
STEPS = 400
"""Steps of replacement, whose bias needs none, but whose parts agree the better the more there are."""


def posterior(
    model: Denoiser,
    operator: Operator,
    y: Shaped[Tensor, "batch *measured"],
    *,
    std: float = 0.0,
    method: Method = "mmps",
    n: int = 1,
    seed: int = 0,
    sampler: Sampler | None = None,
    steps: int = 100,
    grid: GridName | None = None,
    iterations: int = 3,
    particles: int = 16,
    turns: int = 10,
    batch_size: int = 64,
    callback: Callback | None = None,
) -> Float[Tensor, "batch n *data"]:
    """`n` samples for each measurement y = A x + s n of data x in data units, (batch, n, *data); `std` is s.

    The methods, and how far each is from the posterior, are in :mod:`scorefield.guidance.posterior` and in
    docs/posteriors.md. "mmps" (exact for Gaussian data; so many `iterations` of conjugate gradients at each step),
    "tmpd", "pigdm", "dps" and "diffpir" change the model and go with any `sampler`, ancestral unless given;
    "replacement" and "repaint" (in `turns`) change a sampler; "ddrm" and "smc" (with so many `particles` for each
    sample) are samplers. The last four need an operator that knows its singular values. Where there is no noise, what
    such an operator has measured is exact in the samples.

    >>> from scorefield.exact import ExactModel, GaussianMixture
    >>> from scorefield.sde import VP
    >>> model = ExactModel(VP(), GaussianMixture(torch.zeros(1, 2), variances=torch.ones(1, 2)))
    >>> x = posterior(model, Mask(torch.tensor([True, False])), torch.tensor([[0.5, 0.0]]), n=3, steps=20)
    >>> x[0, :, 0]
    tensor([0.5000, 0.5000, 0.5000])
    """
    if method not in get_args(Method):
        raise ValueError(f"method {method!r}, expected one of {', '.join(get_args(Method))}")
    if method in ("ddrm", "smc") and sampler is not None:
        raise ValueError(f"a sampler with method {method!r}, which is one: leave it out")
    if method == "repaint" and std > 0:
        raise ValueError(f"std={std:g} with method 'repaint', whose turns forget what is noisy: take another method")
    operator, y, std = _in_model_units(model.space, operator, place(model, y), std)
    whole, times = Measurement(operator, y, std), time_grid(model, steps, grid)
    walk = sampler or Ancestral()

    def conditioned(rows: Tensor) -> tuple[ScoreModel, Sampler | Adaptive]:
        measurement = whole.select(rows)
        samplers: dict[str, Callable[[], Sampler | Adaptive]] = {
            "replacement": lambda: Replacement(walk, measurement),
            "repaint": lambda: Resampled(Replacement(walk, measurement), turns),
            "ddrm": lambda: DDRM(measurement),
            "smc": lambda: TwistedSMC(measurement, times, particles),
        }
        if method in samplers:
            return model, samplers[method]()
        if method == "diffpir":
            return Proximal(model, measurement), walk
        covariances = {"mmps": Full(), "tmpd": RowSums(), "pigdm": Isotropic(), "dps": Nothing()}
        return Posterior(model, measurement, covariances[method], iterations=iterations), walk

    return _samples(model, whole, n, conditioned, times, seed, batch_size, callback)


def inpaint(
    model: ScoreModel,
    images: Shaped[Tensor, "batch *data"],
    known: Bool[Tensor, "..."],
    *,
    n: int = 1,
    seed: int = 0,
    sampler: Sampler | None = None,
    steps: int = STEPS,
    grid: GridName | None = None,
    batch_size: int = 64,
    callback: Callback | None = None,
) -> Float[Tensor, "batch n *data"]:
    """`n` completions of each datum, (batch, n, *data) in data units, by replacement (Song et al. 2021, app. I).

    `known` is True where a value is kept, and broadcasts to the images. Kept values come back as they are.
    """
    model.space.check(images)
    try:
        mask = known.expand(images.shape)
    except RuntimeError:
        raise ValueError(
            f"mask of shape {tuple(known.shape)}, expected one that broadcasts to the images' {tuple(images.shape)}"
        ) from None
    y = place(model, model.space.to_model(images))
    measurement = Measurement(Mask(mask.to(y.device)), y)
    completed = _replaced(model, measurement, n, seed, sampler, steps, grid, batch_size, callback)
    original = images / (model.space.levels - 1) if model.space.quantized(images) and model.space.levels else images
    return torch.where(mask[:, None].to(completed.device), original[:, None].to(completed), completed)


def colorize(
    model: ScoreModel,
    grey: Shaped[Tensor, "batch 1 height width"],
    *,
    n: int = 1,
    seed: int = 0,
    sampler: Sampler | None = None,
    steps: int = STEPS,
    grid: GridName | None = None,
    batch_size: int = 64,
    callback: Callback | None = None,
) -> Float[Tensor, "batch n channel height width"]:
    """`n` colourings of each grey image, (batch, n, channel, height, width) in [0, 1].

    Grey is the mean of the channels (the paper's orthogonal basis), and is kept but for clipping to [0, 1].
    """
    channels = model.space.shape[0]
    if len(model.space.shape) != 3 or channels < 2:
        raise ValueError(f"colorize with a model of data {model.space.shape}, expected images of 2 or more channels")
    if len(set(model.space.scale)) > 1:
        raise ValueError("colorize with a model whose channels have units of their own: grey is their mean in one unit")
    if grey.ndim != 4 or grey.shape[1] != 1:
        raise ValueError(f"grey images of shape {tuple(grey.shape)}, expected (batch, 1, height, width)")
    y = place(model, model.space.to_model(grey.expand(-1, channels, -1, -1)).mean(1, keepdim=True))
    return _replaced(model, Measurement(Grey(channels), y), n, seed, sampler, steps, grid, batch_size, callback)


def _replaced(
    model: ScoreModel,
    whole: Measurement,
    n: int,
    seed: int,
    sampler: Sampler | None,
    steps: int,
    grid: GridName | None,
    batch_size: int,
    callback: Callback | None,
) -> Tensor:
    """Samples by replacement."""

    def conditioned(rows: Tensor) -> tuple[ScoreModel, Sampler]:
        return model, Replacement(sampler or Ancestral(), whole.select(rows))

    return _samples(model, whole, n, conditioned, time_grid(model, steps, grid), seed, batch_size, callback)


def _samples(
    model: ScoreModel,
    whole: Measurement,
    n: int,
    conditioned: Callable[[Tensor], tuple[ScoreModel, Sampler | Adaptive]],
    times: Grid,
    seed: int,
    batch_size: int,
    callback: Callback | None,
) -> Tensor:
    """`n` samples for each measurement, exact where it was measured without noise."""
    parts, count = [], len(whole.y)
    for batch in batches(range(count * positive(n, "samples of each")), batch_size):
        rows = torch.tensor(batch) // n
        noise = Noise(seed, batch, device_of(model))
        parts.append(whole.select(rows).enforced(generate(*conditioned(rows), times, noise, callback)))
    return model.space.to_data(torch.cat(parts)).reshape(count, n, *model.space.shape)


def _in_model_units(space: DataSpace, operator: Operator, y: Tensor, std: float) -> tuple[Operator, Tensor, float]:
    """The measurement as one of data in model units: x = shift + scale x_model."""
    shift, scale = (torch.tensor(v, dtype=torch.float64) for v in (space.shift, space.scale))
    zero = (shift.reshape(-1, *[1] * (len(space.shape) - 1)).expand(space.shape)[None]).to(y.real.dtype).to(y.device)
    offset = operator.apply(zero)
    if offset.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"measurements of shape {tuple(y.shape)}, expected (batch, {', '.join(map(str, offset.shape[1:]))}) as "
            f"{type(operator).__name__} makes of data {space.shape}"
        )
    if len(set(space.scale)) == 1:
        return operator, (y - offset) / space.scale[0], std / space.scale[0]
    units = scale.reshape(-1, *[1] * (len(space.shape) - 1)).to(zero)
    return operator @ Linear(lambda x: units * x, space.shape), y - offset, std
