"""One image file to 8-bit pixels, and pixels to the shape a model expects.

A grey image (Pillow's mode ``L``) has one channel and an RGB image has three; nothing is padded or replicated unasked.
Black-and-white and palette files are exactly representable and are converted; an alpha channel is dropped where every
pixel is opaque. What would lose information is refused: 16 bits, transparency, CMYK, several frames. (Pillow reads a
16-bit RGB file as 8 bits without a word, so its raw mode is looked at.)
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from .base import DataError
from .preprocess import Crop, Filter, preprocess

__all__ = ["IMAGE_ENDINGS", "Expected", "decode", "eight_bits", "read_image"]

IMAGE_ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
_LETTERS = {1: "grey", 3: "RGB"}


@dataclass(frozen=True)
class Expected:
    """The channels and the size (height, width) that a model expects of images; None where anything will do.

    With ``resize`` an image that differs is made to fit: the largest centred part of the right aspect ratio is
    resampled (Lanczos), grey is replicated to RGB, and RGB becomes luma (ITU-R 601). With ``crop`` or ``filter`` the
    size is fitted as :func:`scorefield.data.preprocess.preprocess` says. Otherwise it is a DataError.
    """

    channels: int | None = None
    size: tuple[int, int] | None = None
    resize: bool = False
    crop: Crop = "none"
    filter: Filter = "none"

    def __post_init__(self) -> None:
        """Refuse what no image can satisfy."""
        if self.channels not in (None, 1, 3) and self.resize:
            raise DataError(f"resize=True makes images of 1 or 3 channels, not {self.channels}; convert the data first")
        if self.size is not None and min(self.size) < 1:
            raise DataError(f"size {self.size} is no image; give height and width, both at least 1")
        if self.resize and self.channels is None and self.size is None:
            raise DataError("resize=True needs a size or a number of channels to fit the images to; give size=")
        if self.prepares and self.size is None:
            raise DataError(f"crop={self.crop}, filter={self.filter} need the size to fit the images to; give size=")

    @property
    def prepares(self) -> bool:
        """Whether images are cropped or filtered to the size."""
        return self.crop != "none" or self.filter != "none"

    def fit(self, image: Image.Image, name: str) -> UInt8[Tensor, "channels height width"]:
        """The pixels of an ``L`` or ``RGB`` image, made to fit or refused."""
        if self.resize:
            if self.channels is not None:
                image = image.convert("L" if self.channels == 1 else "RGB")
            if self.size is not None and image.size != self.size[::-1] and not self.prepares:
                image = _centre(image, *self.size)
        pixels = np.array(image, dtype=np.uint8)
        x = torch.from_numpy(pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        if self.size is not None and self.prepares:
            x = preprocess(x, self.size, self.crop, self.filter, name)
        self.check(tuple(x.shape), name)
        return x

    def check(self, shape: tuple[int, ...], name: str, *, resizable: bool = True) -> None:
        """Raise DataError unless items of ``shape`` have the channels and the size; items that are no images fail."""
        if self.channels is None and self.size is None:
            return
        fits = len(shape) == 3
        fits = fits and self.channels in (None, shape[0]) and self.size in (None, shape[1:])
        if not fits:
            remedy = (
                "pass resize=True (--resize) to crop, resize and convert" if resizable else "convert the data first"
            )
            raise DataError(f"{name}: {describe(shape)} given, {self._wanted()} expected; {remedy}")

    def _wanted(self) -> str:
        size = f"height {self.size[0]}, width {self.size[1]}" if self.size else "any size"
        kind = "images" if self.channels is None else _channels(self.channels)
        return f"{kind} of {size}"


def _centre(image: Image.Image, height: int, width: int) -> Image.Image:
    """Cropped before it is resampled, so that what is cut off does not shine through at the edges."""
    scale = min(image.height / height, image.width / width)
    tall, wide = max(1, round(height * scale)), max(1, round(width * scale))
    left, top = (image.width - wide) // 2, (image.height - tall) // 2
    part = image.crop((left, top, left + wide, top + tall))
    return part.resize((width, height), Image.Resampling.LANCZOS)


def describe(shape: tuple[int, ...]) -> str:
    """A shape in words, for messages.

    >>> describe((3, 32, 48)), describe((2,))
    ('RGB of height 32, width 48', 'shape (2,)')
    """
    if len(shape) != 3:
        return f"shape {shape}"
    return f"{_channels(shape[0])} of height {shape[1]}, width {shape[2]}"


def _channels(channels: int) -> str:
    return _LETTERS.get(channels, f"{channels} channels")


def read_image(path: Path) -> Image.Image:
    """The image in a file, mode ``L`` or ``RGB``. Raises DataError naming the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the name and the permissions") from error
    return decode(content, str(path))


def decode(content: bytes, name: str) -> Image.Image:
    """The image in the bytes of a file, mode ``L`` or ``RGB``, turned upright. Raises DataError naming the image."""
    try:
        image = Image.open(io.BytesIO(content))
        if _deeper_than_eight_bits(image):
            raise DataError(f"{name}: more than 8 bits per channel given, 8 expected; convert it to 8 bits")
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise DataError(f"{name}: {frames} frames given, one expected; save the frames as separate images")
        image.load()
        upright = ImageOps.exif_transpose(image)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not a readable image (unknown format); replace or remove it") from error
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a readable image ({reason}); replace or remove it") from error
    return eight_bits(upright, name)


def eight_bits(image: Image.Image, name: str) -> Image.Image:
    """An image as mode ``L`` or ``RGB``. Raises DataError where that would lose information."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P" and "transparency" not in image.info:
        return image.convert("RGB")
    if image.mode in ("LA", "RGBA", "PA", "P"):
        grey = image.mode == "LA"
        full = image.convert("LA" if grey else "RGBA")
        if full.getchannel("A").getextrema() != (255, 255):
            raise DataError(f"{name}: transparent pixels given, an opaque image expected; flatten it on a background")
        return full.convert("L" if grey else "RGB")
    raise DataError(f"{name}: Pillow mode {image.mode} given, 8-bit grey or RGB expected; convert it")


def _deeper_than_eight_bits(image: Image.Image) -> bool:
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    modes = [tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0] for tile in tiles]
    return image.mode.startswith(("I", "F")) or any(";16" in str(mode) for mode in modes)
