"""Images of other sizes to the size of a training, as data sets are commonly prepared.

In this order, for a size of (H, W):

1. the centre of the image is cropped: a square of so many pixels, or the largest square (CelebA's faces are the 140
   pixels in the middle; LSUN's rooms and towers the largest square);
2. the image is resized until neither side is shorter than (H, W), keeping its aspect ratio;
3. the centre is cropped to (H, W).

An image that has the size already is left alone. Filters are wide enough to average over all pixels that become one
("antialiased"): ``box`` the mean of whole pixels where the ratio is whole (FFHQ and CelebA-HQ at less than 1024 pixels;
Karras et al. 2018), ``bilinear`` the triangle, ``bicubic`` Keys' (1981) cubic with a = -1/2. Results are rounded to 256
levels.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from .base import DataError

__all__ = ["Crop", "Filter", "preprocess"]

Crop = int | Literal["none", "square"]
Filter = Literal["none", "box", "bilinear", "bicubic"]
Image = UInt8[Tensor, "channels _ _"]


def preprocess(x: Image, size: tuple[int, int], crop: Crop, resize: Filter, name: str) -> Image:
    """An image of any size at (height, width) ``size``, or as far on the way as crop and resize take it.

    Raises DataError where the image ``name`` is smaller than the crop.

    >>> x = torch.arange(24, dtype=torch.uint8).reshape(1, 4, 6)
    >>> preprocess(x, (2, 2), "square", "box", "x")
    tensor([[[ 4,  6],
             [16, 18]]], dtype=torch.uint8)
    """
    height, width = x.shape[1:]
    if (height, width) == size:
        return x
    if crop != "none":
        side = min(height, width) if crop == "square" else crop
        if side > min(height, width):
            raise DataError(
                f"{name}: height {height}, width {width} given, at least {side} by {side} expected, which is cropped; "
                f"set data.crop, or give images of height {size[0]}, width {size[1]}, which are taken as they are"
            )
        x = _centre(x, side, side)
    if resize != "none" and x.shape[1:] != size:
        x = _centre(_resized(x, size, resize), *size)
    return x


def _centre(x: Image, height: int, width: int) -> Image:
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width].contiguous()


def _resized(x: Image, size: tuple[int, int], resize: Filter) -> Image:
    """The image with its shorter side fitted to ``size``."""
    height, width = x.shape[1:]
    ratio = max(size[0] / height, size[1] / width)
    target = (round(height * ratio), round(width * ratio))
    if resize == "box":
        smaller = interpolate(x[None].float(), target, mode="area")
    else:
        smaller = interpolate(x[None].float(), target, mode=resize, antialias=True)
    return smaller[0].round().clamp(0, 255).to(torch.uint8)
