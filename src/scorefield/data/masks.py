"""Masks: which pixels are known. True = kept, False = to be filled in; shape (1, height, width), for all channels."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from .base import DataError
from .batches import permutation
from .decode import read_image

__all__ = ["hole", "read_mask"]


def read_mask(path: str | os.PathLike[str], size: int | tuple[int, int]) -> Bool[Tensor, "1 height width"]:
    """The mask in an image file: white is kept, black is to be filled in; grey is kept from brightness 128 on.

    ``size`` is the (height, width) of the images; a mask of another size is a DataError, since resampling a mask
    would move its edge.
    """
    height, width = _pair(size)
    image = read_image(Path(path).expanduser()).convert("L")
    if image.size != (width, height):
        raise DataError(
            f"{os.fspath(path)}: mask of height {image.height}, width {image.width} given, "
            f"height {height}, width {width} expected as of the images; make a mask of that size"
        )
    return torch.from_numpy(np.asarray(image) >= 128)[None]


def hole(spec: str, size: int | tuple[int, int], seed: int = 0) -> Bool[Tensor, "1 height width"]:
    """A mask from a description of what is missing.

    Args:
        spec: ``X,Y,W,H``, a rectangle in pixels with left edge X, top edge Y, width W and height H; or a fraction
            between 0 and 1, so many of the pixels, at random.
        size: (height, width) of the images, or one number.
        seed: chooses the random pixels, ≥ 0.

    Raises:
        DataError: for a malformed description, and for a rectangle that is empty or not inside the image.

    >>> hole("1,0,2,1", (2, 4)).int()
    tensor([[[1, 0, 0, 1],
             [1, 1, 1, 1]]], dtype=torch.int32)
    >>> int((~hole("0.25", 8)).sum())
    16
    """
    height, width = _pair(size)
    numbers = spec.split(",")
    if len(numbers) == 4 and all(re.fullmatch(r"\s*-?[0-9]+\s*", number) for number in numbers):
        x, y, w, h = map(int, numbers)
        return _rectangle(x, y, w, h, height, width)
    if len(numbers) == 1 and re.fullmatch(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*", spec):
        return _random_pixels(float(spec), height, width, seed)
    raise DataError(f"hole {spec!r} given; expected X,Y,W,H in whole pixels, or a fraction such as 0.5")


def _rectangle(x: int, y: int, w: int, h: int, height: int, width: int) -> Bool[Tensor, "1 height width"]:
    if w < 1 or h < 1:
        raise DataError(f"hole {x},{y},{w},{h} is empty; expected X,Y,W,H with W and H at least 1")
    if x < 0 or y < 0 or x + w > width or y + h > height:
        raise DataError(
            f"hole {x},{y},{w},{h} is not inside the image of width {width}, height {height}; "
            f"expected X ≥ 0, Y ≥ 0, X + W ≤ {width}, Y + H ≤ {height}"
        )
    mask = torch.ones(1, height, width, dtype=torch.bool)
    mask[:, y : y + h, x : x + w] = False
    return mask


def _random_pixels(fraction: float, height: int, width: int, seed: int) -> Bool[Tensor, "1 height width"]:
    if not 0 < fraction < 1:
        raise DataError(f"hole {fraction:g} given; expected a fraction of the pixels between 0 and 1, such as 0.5")
    total = height * width
    missing = round(fraction * total)
    if not 0 < missing < total:
        raise DataError(f"hole {fraction:g} of {total} pixels is {missing} pixels; expected at least one, and not all")
    mask = torch.ones(total, dtype=torch.bool)
    mask[permutation(total, seed, epoch=0)[:missing]] = False
    return mask.reshape(1, height, width)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
