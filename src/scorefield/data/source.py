"""From what data are called to the data: :func:`open_data`.

====================================  =============================================================================
an image file                         one image
a folder of images                    classes from ``dataset.json``, else from its sub-folders
a zip of images                       the layout of StyleGAN and EDM, classes from ``dataset.json``
``.npy``, ``.npz``                    ``uint8`` images or ``float`` data of any shape
a numpy array, a torch tensor         the same, in memory
``torchvision:NAME``                  ``torchvision.datasets.NAME``, downloaded if need be
``example:NAME``                      images that come with the package: ``example:mnist``, ``example:cifar10``
====================================  =============================================================================

Images are ``uint8`` (channel, height, width): one channel for grey, three for RGB.
"""

from __future__ import annotations

import importlib.resources
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .arrays import ArraySource, open_arrays
from .base import DataError, Source
from .decode import IMAGE_ENDINGS, Expected
from .imagesets import open_folder, open_image, open_zip
from .preprocess import Crop, Filter
from .vision import open_torchvision

__all__ = ["DataError", "Source", "open_data"]


def open_data(
    spec: str | os.PathLike[str] | npt.NDArray[Any] | Tensor,
    *,
    channels: int | None = None,
    size: int | tuple[int, int] | None = None,
    resize: bool = False,
    crop: Crop = "none",
    filter: Filter = "none",  # noqa: A002
    labels: bool = False,
    split: Literal["train", "test"] = "train",
) -> Source:
    """Open data by what they are called; see the module's table.

    Args:
        spec: the data.
        channels: the channels that a model expects, 1 for grey and 3 for RGB; None for any.
        size: the height and width that a model expects; one number for a square; None for any.
        resize: make images fit ``size`` and ``channels`` (centre crop, Lanczos; luma for grey) instead of refusing.
        crop: crop the centre of images of another size to a square of so many pixels, or to the largest ("square").
        filter: resize images of another size, keeping their aspect ratio, with an antialiased filter: "box",
            "bilinear" or "bicubic"; what stands over is cropped.
        labels: refuse data without class labels.
        split: the part of a torchvision data set; other data have one part.

    Raises:
        DataError: where the data cannot be read or do not fit; one line that names the file and the remedy.

    >>> source = open_data("example:mnist", channels=1, size=28)
    >>> len(source), source.shape, source.levels, source.classes
    (64, (1, 28, 28), 256, 10)
    >>> open_data("example:mnist", channels=3, size=32, resize=True).shape
    (3, 32, 32)
    >>> open_data("example:cifar10").shape
    (3, 32, 32)
    """
    expected = Expected(channels, (size, size) if isinstance(size, int) else size, resize, crop, filter)
    if isinstance(spec, np.ndarray | Tensor):
        source: Source = ArraySource(spec, expected=expected)
    else:
        source = _open_named(os.fspath(spec), expected, split)
    if labels and not source.classes:
        raise DataError(f"{source.name}: no class labels, but the model expects classes; add dataset.json or labels")
    return source


def _open_named(spec: str, expected: Expected, split: str) -> Source:
    scheme, colon, name = spec.partition(":")
    if colon and scheme == "torchvision":
        return open_torchvision(name, expected, split)
    path = _example(name) if colon and scheme == "example" else Path(spec).expanduser()
    ending = path.suffix.lower()
    if not spec or not path.exists():
        raise DataError(f"{spec!r}: no such data; expected a file, a folder or torchvision:NAME")
    if path.is_dir():
        return open_folder(path, expected)
    if ending == ".zip":
        return open_zip(path, expected)
    if ending in (".npy", ".npz"):
        return open_arrays(path, expected)
    if ending in IMAGE_ENDINGS:
        return open_image(path, expected)
    raise DataError(f"{spec}: unknown kind of file; expected an image, .zip, .npy, .npz or a folder of images")


def _example(name: str) -> Path:
    folder = Path(str(importlib.resources.files(__package__) / "examples"))
    path = folder / f"{name}.zip"
    if not path.is_file():
        there = ", ".join(sorted(f"example:{file.stem}" for file in folder.glob("*.zip")))
        raise DataError(f"example:{name}: no such example; expected {there}")
    return path
