"""What conditional commands have in common: what is known of images in, several samples of each out."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import scorefield as sf
from scorefield.cli.choices import OptionError
from scorefield.cli.options import Split
from scorefield.cli.progress import progress
from scorefield.cli.result import stopwatch, tell
from scorefield.cli.session import images_for, take
from scorefield.data import DataError, grid, hole, open_data, read_mask, save_image, save_samples
from scorefield.score import ScoreModel
from scorefield.space import DataSpace

Callback = Callable[[object], None]


def read_hole(space: DataSpace, known: str | None, missing: str | None, seed: int) -> Bool[Tensor, "1 height width"]:
    """The mask that `--known` or `--hole` describes, True where a pixel is kept."""
    if len(space.shape) != 3:
        raise OptionError(f"the model makes data of shape {space.shape}, not images: use scorefield.inpaint in Python")
    if (known is None) == (missing is None):
        given = "neither --known nor --hole" if known is None else "both --known and --hole"
        raise OptionError(f"{given} given, expected one of them: --known mask.png, --hole X,Y,W,H or --hole 0.5")
    size = (space.shape[1], space.shape[2])
    return hole(missing, size, seed) if missing is not None else read_mask(str(known), size)


def read_grey(
    model: ScoreModel, name: str, *, first: int | None, resize: bool, split: Split
) -> Float[Tensor, "n 1 height width"]:
    """Grey images in [0, 1]; of colour images the mean over channels."""
    space = model.space
    if len(space.shape) != 3 or space.shape[0] == 1:
        raise OptionError(f"the model makes data of shape {space.shape}, expected a model of colour images")
    source = images_for(model, name, channels=None, resize=resize, split=split)
    if source.shape[0] not in (1, space.shape[0]):
        raise DataError(f"{name}: {source.shape[0]} channels given, expected 1 or the model's {space.shape[0]}")
    x = take(source, first)
    return (x if x.is_floating_point() else x / 255).mean(1, keepdim=True)


def read_images(
    model: ScoreModel, name: str, size: tuple[int, ...], *, first: int | None, resize: bool, split: Split
) -> Float[Tensor, "n channel height width"]:
    """Images in [0, 1] of the model's channels and of a size."""
    source = open_data(name, channels=model.space.shape[0], size=(size[0], size[1]), resize=resize, split=split)
    x = take(source, first)
    return x if x.is_floating_point() else x / 255


def complete(
    model: ScoreModel,
    shown: Float[Tensor, "batch *data"],
    sample: Callable[[Callback], Float[Tensor, "batch n *data"]],
    *,
    out: str,
    n: int,
    seed: int,
    steps: int,
    batch_size: int,
    as_json: bool,
    **facts: Any,
) -> None:
    """Sample with a progress bar, write the samples, and tell of it.

    In a PNG they stand between what was known and, of several, their mean and twice their standard deviation.
    """
    count = len(shown) * n
    total = math.ceil(count / batch_size) * steps
    elapsed = stopwatch()
    with (
        sf.count_evaluations(model) as evaluations,
        progress("sampling", total, evaluations) as advance,
    ):
        completed = sample(lambda _: advance()).cpu()
    if Path(out).suffix.lower() == ".png":
        summary = [completed.mean(1, keepdim=True), 2 * completed.std(1, keepdim=True)] if n > 1 else []
        rows = torch.cat([shown[:, None].to(completed), completed, *summary], 1)
        save_image(out, grid(rows.flatten(0, 1).clamp(0, 1), columns=rows.shape[1]))
    else:
        save_samples(out, completed.flatten(0, 1), seed)
    tell(
        as_json,
        f"{n} samples for each of {len(shown)} images in {out}",
        out=out,
        images=len(shown),
        n=n,
        seed=seed,
        steps=steps,
        **facts,
        nfe=evaluations.forward / count,
        device=str(sf.api.device_of(model)),
        seconds=elapsed(),
    )
