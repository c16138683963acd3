"""Images out: 8-bit pixels, grids, and files of samples.

Images are (batch, channel, height, width) in data units, float in [0, 1] or uint8, as everywhere at the top of the
library; a finished picture is an array (height, width, channel) of uint8. Files are written whole or not at all.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from .base import DataError
from .files import atomic_folder, atomic_write, check_writable

__all__ = ["check_samples_path", "filmstrip", "grid", "save_image", "save_samples", "to_uint8"]

Picture = UInt8[np.ndarray, "rows columns channels"]
Images = Float[Tensor, "batch channels height width"] | UInt8[Tensor, "batch channels height width"]
Samples = Float[Tensor, "batch *data"] | UInt8[Tensor, "batch *data"]


def to_uint8(x: Float[Tensor, "*shape"] | UInt8[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Brightness in [0, 1] to the nearest of 256 levels, clipped; ``uint8`` stays. Raises ValueError at NaN.

    >>> to_uint8(torch.tensor([-0.1, 0.0, 0.5, 1.0, 7.0]))
    tensor([  0,   0, 128, 255, 255], dtype=torch.uint8)
    """
    x = x.detach()
    if x.dtype == torch.uint8:
        return x
    if x.isnan().any():
        raise ValueError(f"{int(x.isnan().sum())} of {x.numel()} values are NaN; expected brightness in [0, 1]")
    return (x.float() * 255 + 0.5).floor().clamp(0, 255).to(torch.uint8)


def grid(images: Images, columns: int | None = None, padding: int = 2) -> Picture:
    """Images in rows, left to right, as one picture; as square as can be unless ``columns`` is given.

    ``padding`` black pixels lie between the images and around them. Raises DataError unless there is at least one
    image and the channels are 1 or 3.

    >>> grid(torch.zeros(5, 3, 8, 8)).shape
    (22, 32, 3)
    """
    batch, channels, height, width = _image_shape(images)
    columns = math.ceil(math.sqrt(batch)) if columns is None else columns
    if columns < 1 or padding < 0:
        raise DataError(f"columns {columns}, padding {padding} given; expected columns ≥ 1 and padding ≥ 0")
    columns = min(columns, batch)
    rows = math.ceil(batch / columns)
    tall, wide = height + padding, width + padding
    picture = np.zeros((rows * tall + padding, columns * wide + padding, channels), dtype=np.uint8)
    for index, pixels in enumerate(to_uint8(images).cpu().permute(0, 2, 3, 1).numpy()):
        top, left = padding + index // columns * tall, padding + index % columns * wide
        picture[top : top + height, left : left + width] = pixels
    return picture


def filmstrip(frames: Sequence[Images], padding: int = 2) -> Picture:
    """How some samples come about: a row per sample, a column per frame; frames are batches of one shape.

    >>> filmstrip([torch.zeros(2, 1, 8, 8)] * 5, padding=0).shape
    (16, 40, 1)
    """
    if not frames:
        raise DataError("no frames given; expected at least one batch of images")
    shapes = {tuple(frame.shape) for frame in frames}
    if len(shapes) > 1:
        raise DataError(f"frames of shapes {sorted(shapes)} given; expected one shape")
    pixels = torch.stack([to_uint8(frame).cpu() for frame in frames], dim=1)
    return grid(pixels.flatten(0, 1), columns=len(frames), padding=padding)


def save_image(
    path: str | os.PathLike[str],
    image: Picture | Float[Tensor, "channels height width"] | UInt8[Tensor, "channels height width"],
) -> None:
    """Write a PNG: a picture as :func:`grid` makes it, or one image as a tensor (channel, height, width)."""
    if Path(path).suffix.lower() != ".png":
        raise DataError(f"{os.fspath(path)}: images are written as PNG; expected a name that ends in .png")
    if isinstance(image, Tensor):
        image = grid(image[None], padding=0)
    with atomic_write(path) as file:
        _write_png(file, image)


def is_image(shape: Sequence[int]) -> bool:
    """Whether data of ``shape`` (without the batch) are images that a PNG holds: of 1 or 3 channels."""
    return len(shape) == 3 and shape[0] in (1, 3)


def check_samples_path(path: str | os.PathLike[str], shape: Sequence[int]) -> None:
    """Raise now what :func:`save_samples` would raise later, for samples of ``shape`` (without the batch).

    Hours of sampling are better not begun when there is no way to write their result.
    """
    ending = Path(path).suffix.lower()
    if ending not in (".png", ".npz", ".npy", ""):
        raise DataError(f"{os.fspath(path)}: cannot write {ending}; expected .png, .npz, .npy or a folder's name")
    if ending in (".png", "") and not is_image(shape):
        raise DataError(
            f"{os.fspath(path)}: samples of shape {tuple(shape)} are no images of 1 or 3 channels; "
            f"write to a name that ends in .npz or .npy"
        )
    check_writable(path, folder=ending == "")


def save_samples(
    path: str | os.PathLike[str], samples: Samples, seed: int | None = None, indices: Sequence[int] | None = None
) -> None:
    """Write samples in the form that the name's ending says.

    ========  =====================================================================================================
    ``.png``  a grid of the images
    ``.npz``  arrays ``samples`` (as given), ``indices`` and ``seed``: the global numbers and seed that made them
    ``.npy``  the samples alone
    none      a new folder of PNGs, named by their index: ``00000012.png``
    ========  =====================================================================================================

    Args:
        path: where to; an existing file is replaced, a folder with something in it is not.
        samples: (batch, \\*data) in data units. PNGs hold images of 1 or 3 channels only; arrays hold anything.
        seed: the seed of the samples, where they have one.
        indices: one global index per sample; 0, 1, … unless given.

    Raises:
        DataError: for an ending or samples that do not fit.
        OSError: when the files cannot be written; nothing half-written remains.
    """
    check_samples_path(path, samples.shape[1:])
    indices = range(len(samples)) if indices is None else indices
    if len(indices) != len(samples):
        raise DataError(f"{len(indices)} indices for {len(samples)} samples given; expected one each")
    match Path(path).suffix.lower():
        case ".png":
            save_image(path, grid(samples))
        case ".npz":
            arrays: dict[str, Any] = {"samples": _numpy(samples), "indices": np.asarray(indices, dtype=np.int64)}
            if seed is not None:
                arrays["seed"] = np.int64(seed)
            with atomic_write(path) as file:
                np.savez(file, **arrays)
        case ".npy":
            with atomic_write(path) as file:
                np.save(file, _numpy(samples))
        case _:
            _save_folder(path, samples, indices)


def _save_folder(path: str | os.PathLike[str], images: Images, indices: Sequence[int]) -> None:
    if len(set(indices)) != len(indices):
        raise DataError("some indices are given twice; expected a name of its own for each image")
    with atomic_folder(path) as folder:
        for index, image in zip(indices, images, strict=True):
            with (folder / f"{index:08d}.png").open("xb") as file:
                _write_png(file, grid(image[None], padding=0))


def _write_png(file: Any, picture: Picture) -> None:
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(file, format="PNG")


def _image_shape(images: Images) -> tuple[int, int, int, int]:
    batch, channels, height, width = images.shape
    if batch < 1 or channels not in (1, 3):
        raise DataError(f"images of shape {tuple(images.shape)} given; expected at least one, of 1 or 3 channels")
    return batch, channels, height, width


def _numpy(samples: Samples) -> npt.NDArray[Any]:
    samples = samples.detach().cpu()
    return (samples.float() if samples.dtype == torch.bfloat16 else samples).numpy()
