"""What conditional commands have in common: what is known of data in, several samples of each out."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import scorefield as sf
from scorefield.cli.choices import OptionError
from scorefield.cli.progress import progress
from scorefield.cli.request import Request
from scorefield.cli.result import stopwatch, tell
from scorefield.cli.session import images_for, take
from scorefield.conditional import Sampling
from scorefield.data import DataError, grid, hole, open_data, read_mask, save_image, save_samples
from scorefield.guidance import Measurement, Operator
from scorefield.score import Denoiser
from scorefield.space import DataSpace


def read_hole(space: DataSpace, known: str | None, missing: str | None, seed: int) -> Bool[Tensor, "1 height width"]:
    """The mask that `--known` or `--hole` describes, True where a pixel is kept."""
    if len(space.shape) != 3:
        raise OptionError(f"the model makes data of shape {space.shape}, not images: use scorefield.inpaint in Python")
    if (known is None) == (missing is None):
        given = "neither --known nor --hole" if known is None else "both --known and --hole"
        raise OptionError(f"{given} given, expected one of them: --known mask.png, --hole X,Y,W,H or --hole 0.5")
    size = (space.shape[1], space.shape[2])
    return hole(missing, size, seed) if missing is not None else read_mask(str(known), size)


def read_grey(model: Denoiser, request: Request) -> Float[Tensor, "n 1 height width"]:
    """Grey images in [0, 1]; of colour images the mean over channels."""
    space, name = model.space, request.data
    if len(space.shape) != 3 or space.shape[0] == 1:
        raise OptionError(f"the model makes data of shape {space.shape}, expected a model of colour images")
    source = images_for(model, name, channels=None, resize=request.resize, split=request.split)
    if source.shape[0] not in (1, space.shape[0]):
        raise DataError(f"{name}: {source.shape[0]} channels given, expected 1 or the model's {space.shape[0]}")
    x = take(source, request.images)
    return (x if x.is_floating_point() else x / 255).mean(1, keepdim=True)


def image_size(model: Denoiser) -> tuple[int, int]:
    """(height, width) of the images that a model makes. Raises OptionError where it makes others."""
    if len(model.space.shape) != 3:
        raise OptionError(f"the model makes data of shape {model.space.shape}, expected a model of images")
    return model.space.shape[1], model.space.shape[2]


def read_images(model: Denoiser, request: Request, size: tuple[int, int]) -> Float[Tensor, "n channel height width"]:
    """Images in [0, 1] of the model's channels and of a size."""
    source = open_data(
        request.data, channels=model.space.shape[0], size=size, resize=request.resize, split=request.split
    )
    x = take(source, request.images)
    return x if x.is_floating_point() else x / 255


def nearest(operator: Operator, y: Tensor, x: Float[Tensor, "1 *data"]) -> Float[Tensor, "n *data"]:
    """The data nearest to x that fit measurements."""
    start = x.expand(len(y), *x.shape[1:])
    measured = Measurement(operator, y)
    return start + operator.adjoint(measured.regularized(measured.residual(start), torch.zeros(()), torch.ones(())))


def restore(
    request: Request,
    model: Denoiser,
    operator: Operator,
    y: Tensor,
    shown: Tensor,
    std: float,
    *,
    degraded: bool,
    **facts: Any,
) -> None:
    """Sample posteriors, of measurements to which noise is added where they are `degraded` data, and write them."""
    if degraded:
        y = y + std * sf.Noise(request.seed, range(len(y)), stream="measurement").normal(y.shape[1:], y.dtype)
    complete(
        request,
        model,
        shown.clamp(0, 1),
        lambda sampling: sf.posterior(model, operator, y, std=std, **sampling),
        std=std,
        **facts,
    )


def complete(
    request: Request,
    model: Denoiser,
    shown: Float[Tensor, "batch *data"],
    sample: Callable[[Sampling], Float[Tensor, "batch n *data"]],
    **facts: Any,
) -> None:
    """Sample with a progress bar, write the samples, and tell of it.

    In a PNG they stand between what was known and, of several, their mean and twice their standard deviation.
    """
    out, n, steps = request.out, request.n, request.count()
    count = len(shown) * n
    elapsed = stopwatch()
    with (
        sf.count_evaluations(model) as evaluations,
        progress("sampling", math.ceil(count / request.batch_size) * steps, evaluations) as advance,
    ):
        completed = sample(request.sampling(lambda _: advance())).cpu()
    if Path(out).suffix.lower() == ".png":
        summary = [completed.mean(1, keepdim=True), 2 * completed.std(1, keepdim=True)] if n > 1 else []
        rows = torch.cat([shown[:, None].to(completed), completed, *summary], 1)
        save_image(out, grid(rows.flatten(0, 1).clamp(0, 1), columns=rows.shape[1]))
    else:
        save_samples(out, completed.flatten(0, 1), request.seed)
    tell(
        request.as_json,
        f"{n} samples for each of {len(shown)} in {out}",
        out=out,
        images=len(shown),
        n=n,
        seed=request.seed,
        method=request.method,
        steps=steps,
        **facts,
        nfe=evaluations.forward / count,
        nfe_backward=evaluations.backward / count,
        device=str(sf.api.device_of(model)),
        seconds=elapsed(),
    )
