"""Conditional samples from unconditional models, data units in and out: posteriors of linear measurements.

Samples are the rows of a batch of `n` for each measurement; sample j of measurement i is number i n + j of the seed.
"""

from collections.abc import Callable
from typing import Literal, TypedDict, Unpack, get_args

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
    Matrix,
    Measurement,
    Nothing,
    Operator,
    Posterior,
    Proximal,
    Replacement,
    Resampled,
    RowSums,
    Spectral,
    TwistedSMC,
)
from scorefield.noise import Noise
from scorefield.samplers import DDIM, Adaptive, Ancestral, Sampler
from scorefield.samplers.base import denoiser
from scorefield.score import Denoiser, ScoreModel
from scorefield.space import DataSpace
from scorefield.times import GridName

Method = Literal["mmps", "tmpd", "pigdm", "dps", "diffpir", "ddrm", "smc", "replacement", "repaint"]
_CONDITION = 1e-3
"""Singular values that are a smaller share of the largest are not to be divided by."""
BUDGET = 150
"""Evaluations for each sample where nothing is said, those of derivatives included."""


class Sampling(TypedDict, total=False):
    """How a posterior is sampled.

    The methods, and how far each is from the posterior, are in :mod:`scorefield.guidance.posterior` and in
    docs/posteriors.md. "mmps" (unless given; each step solves a system in so many `iterations`, 3), "tmpd", "pigdm",
    "dps" and "diffpir" change the model and go with any `sampler`; "replacement" and "repaint" (in `turns`, 10) change
    a sampler; "ddrm" and "smc" (with so many `particles`, 16, for each sample) are samplers. The last four need an
    operator that knows its singular values. Unless given, the sampler is DDIM for "mmps" and else ancestral.

    A `budget` of evaluations for each sample, forward and backward ones counted alike, says how many steps there are:
    150 unless given. Or give `steps`; other samplers than the method's own need them. `grid`, `n` samples of each,
    `seed`, `batch_size` and `callback` are as in :func:`scorefield.sample`.
    """

    method: Method
    n: int
    seed: int
    budget: int | None
    sampler: Sampler | None
    steps: int | None
    grid: GridName | None
    iterations: int
    particles: int
    turns: int
    batch_size: int
    callback: Callback | None


def posterior(
    model: Denoiser,
    operator: Operator,
    y: Shaped[Tensor, "batch *measured"],
    *,
    std: float = 0.0,
    **sampling: Unpack[Sampling],
) -> Float[Tensor, "batch n *data"]:
    """`n` samples for each measurement y = A x + s n of data x in data units, (batch, n, *data); `std` is s.

    The options are those of :class:`Sampling`: `method`, `n`, `seed`, `budget` … Where there is no noise, what an
    operator with singular values has measured is exact in the samples.

    >>> from scorefield.exact import ExactModel, GaussianMixture
    >>> from scorefield.sde import VP
    >>> model = ExactModel(VP(), GaussianMixture(torch.zeros(1, 2), variances=torch.ones(1, 2)))
    >>> x = posterior(model, Mask(torch.tensor([True, False])), torch.tensor([[0.5, 0.0]]), n=3, steps=20)
    >>> x[0, :, 0]
    tensor([0.5000, 0.5000, 0.5000])
    """
    return _sampled(model, Measurement(*_in_model_units(model.space, operator, place(model, y), std)), **sampling)


def inpaint(
    model: Denoiser,
    images: Shaped[Tensor, "batch *data"],
    known: Bool[Tensor, "..."],
    **sampling: Unpack[Sampling],
) -> Float[Tensor, "batch n *data"]:
    """`n` completions of each datum, (batch, n, *data) in data units; the options are those of :class:`Sampling`.

    `known` is True where a value is kept, and broadcasts to the images. Kept values come back as they are.
    """
    model.space.check(images)
    if known.dtype != torch.bool:
        raise ValueError(f"mask of {str(known.dtype).removeprefix('torch.')}, expected bool, True where kept")
    try:
        mask = known.expand(images.shape)
    except RuntimeError:
        raise ValueError(
            f"mask of shape {tuple(known.shape)}, expected one that broadcasts to the images' {tuple(images.shape)}"
        ) from None
    y = place(model, model.space.to_model(images))
    operator = Mask(mask.to(y.device))
    completed = _sampled(model, Measurement(operator, operator.apply(y)), **sampling)
    original = images / (model.space.levels - 1) if model.space.quantized(images) and model.space.levels else images
    return torch.where(mask[:, None].to(completed.device), original[:, None].to(completed), completed)


def colorize(
    model: Denoiser, grey: Shaped[Tensor, "batch 1 height width"], **sampling: Unpack[Sampling]
) -> Float[Tensor, "batch n channel height width"]:
    """`n` colourings of each grey image, (batch, n, channel, height, width) in [0, 1].

    Grey is the mean of the channels (the paper's orthogonal basis), and is kept but for clipping to [0, 1]. The options
    are those of :class:`Sampling`.
    """
    channels = model.space.shape[0]
    if len(model.space.shape) != 3 or channels < 2:
        raise ValueError(f"colorize with a model of data {model.space.shape}, expected images of 2 or more channels")
    if len(set(model.space.scale)) > 1:
        raise ValueError("colorize with a model whose channels have units of their own: grey is their mean in one unit")
    if grey.ndim != 4 or grey.shape[1] != 1:
        raise ValueError(f"grey images of shape {tuple(grey.shape)}, expected (batch, 1, height, width)")
    y = place(model, model.space.to_model(grey.expand(-1, channels, -1, -1)).mean(1, keepdim=True))
    return _sampled(model, Measurement(Grey(channels), y), **sampling)


def steps_for(
    budget: int | None, method: Method = "mmps", *, iterations: int = 3, particles: int = 16, turns: int = 10
) -> int:
    """The steps of a method that a budget of evaluations pays for. Raises ValueError where it pays for none.

    >>> steps_for(150), steps_for(150, "replacement")
    (29, 149)
    """
    budget = BUDGET if budget is None else budget
    guided = {"mmps": 2 + iterations, "tmpd": 3, "pigdm": 2, "dps": 2, "diffpir": 1, "smc": 2 * particles}
    walked = {"ddrm": 1, "replacement": 1, "repaint": turns}
    cost = {**guided, **walked}[_known(method)]
    steps = budget // cost - 1 if method in guided else (budget - 1) // cost
    if steps < 1:
        least = 2 * cost if method in guided else cost + 1
        raise ValueError(f"budget={budget} with method {method!r}, whose one step needs {least}: give more")
    return steps


def _sampled(
    model: Denoiser,
    whole: Measurement,
    *,
    method: Method = "mmps",
    n: int = 1,
    seed: int = 0,
    budget: int | None = None,
    sampler: Sampler | None = None,
    steps: int | None = None,
    grid: GridName | None = None,
    iterations: int = 3,
    particles: int = 16,
    turns: int = 10,
    batch_size: int = 64,
    callback: Callback | None = None,
) -> Tensor:
    """`n` samples for each measurement in model units, exact where it was measured without noise."""
    _known(method)
    if not len(whole.y) or not bool(whole.y.isfinite().all()):
        raise ValueError(f"{len(whole.y)} measurements, expected one or more, of finite numbers")
    positive(iterations, "iterations")
    positive(particles, "particles")
    positive(turns, "turns")
    if method in ("ddrm", "smc") and sampler is not None:
        raise ValueError(f"a sampler with method {method!r}, which is one: leave it out")
    if method in ("replacement", "repaint") and isinstance(sampler, Adaptive):
        raise ValueError(
            f"{type(sampler).__name__} with method {method!r}, which replaces at given times: take a sampler that "
            "walks a grid"
        )
    if method == "repaint" and whole.std > 0:
        raise ValueError(
            f"std={whole.std:g} with method 'repaint', whose turns forget what is noisy: take another method"
        )
    if budget is not None and (steps is not None or sampler is not None):
        raise ValueError(f"budget={budget} with steps or a sampler: leave out one of them")
    if steps is None:
        steps = steps_for(budget, method, iterations=iterations, particles=particles, turns=turns)
    times = time_grid(model, steps, grid)

    def conditioned(rows: Tensor, model: Denoiser) -> tuple[ScoreModel, Sampler | Adaptive]:
        measurement, walk = whole.select(rows), sampler or Ancestral()
        ways: dict[Method, Callable[[], tuple[ScoreModel, Sampler | Adaptive]]] = {
            "mmps": lambda: (Posterior(model, measurement, Full(iterations)), sampler or DDIM()),
            "tmpd": lambda: (Posterior(model, measurement, RowSums()), walk),
            "pigdm": lambda: (Posterior(model, measurement, Isotropic()), walk),
            "dps": lambda: (Posterior(model, measurement, Nothing()), walk),
            "diffpir": lambda: (Proximal(model, measurement), walk),
            "ddrm": lambda: (model, DDRM(measurement)),
            "smc": lambda: (model, TwistedSMC(measurement, times, particles, callback)),
            "replacement": lambda: (model, Replacement(walk, measurement)),
            "repaint": lambda: (model, Resampled(Replacement(walk, measurement), turns)),
        }
        return ways[method]()

    parts, count = [], len(whole.y)
    _check_exact(whole, model.space)
    for batch in batches(range(count * positive(n, "samples of each")), batch_size):
        rows = torch.tensor(batch) // n
        noise = Noise(seed, batch, device_of(model))
        parts.append(
            whole.select(rows).enforced(
                generate(*conditioned(rows, denoiser(model.select(rows), whole)), times, noise, callback)
            )
        )
    return model.space.to_data(torch.cat(parts)).reshape(count, n, *model.space.shape)


def _known(method: Method) -> Method:
    if method not in get_args(Method):
        raise ValueError(f"method {method!r}, expected one of {', '.join(get_args(Method))}")
    return method


def _check_exact(measurement: Measurement, space: DataSpace) -> None:
    """Raise a ValueError where numbers without noise would be divided by what is nearly nothing."""
    operator = measurement.operator
    if measurement.std > 0 or not isinstance(operator, Spectral):
        return
    c = operator.spectrum(torch.zeros(1, *space.shape, dtype=measurement.y.real.dtype, device=measurement.y.device))
    values = operator.values(c).abs()
    most = float(values.max())
    least = float(torch.where(operator.seen(c), values, most).min())
    if least < _CONDITION * most:
        raise ValueError(
            f"a measurement without noise by a {type(operator).__name__} whose singular values fall to "
            f"{least / most:.1g} of the largest: rounding would be all that is left; give std, if only a small one"
        )


def _in_model_units(space: DataSpace, operator: Operator, y: Tensor, std: float) -> tuple[Operator, Tensor, float]:
    """The measurement as one of data in model units: x = shift + scale x_model."""
    shift, scale = (torch.tensor(v, dtype=torch.float64) for v in (space.shift, space.scale))
    zero = (shift.reshape(-1, *[1] * (len(space.shape) - 1)).expand(space.shape)[None]).to(y.real.dtype).to(y.device)
    try:
        offset = operator.apply(zero)
    except RuntimeError as error:
        raise ValueError(
            f"{type(operator).__name__} fails on data of shape {space.shape} ({str(error).splitlines()[0]}): give an "
            "operator of such data"
        ) from None
    if offset.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"measurements of shape {tuple(y.shape)}, expected (batch, {', '.join(map(str, offset.shape[1:]))}) as "
            f"{type(operator).__name__} makes of data {space.shape}"
        )
    if len(set(space.scale)) == 1:
        return operator, (y - offset) / space.scale[0], std / space.scale[0]
    units = scale.reshape(-1, *[1] * (len(space.shape) - 1)).to(zero)
    if isinstance(operator, Matrix):
        columns = units.expand(space.shape).flatten().to(operator.matrix)
        return Matrix(operator.matrix * columns, space.shape), y - offset, std
    if isinstance(operator, Mask) and std == 0:
        return operator, (y - offset) / units, std
    return operator @ Linear(lambda x: units * x, space.shape), y - offset, std
