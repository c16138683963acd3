"""From a recipe's data section and a name to data that fit."""

from typing import Literal

from scorefield.data import Source, open_data
from scorefield.recipes.schema import Data


def open_images(
    data: Data,
    name: str,
    *,
    channels: int | None,
    resize: bool = False,
    split: Literal["train", "test"] = "train",
) -> Source:
    """The images of a name at the size of `data.shape`, (channels, height, width), prepared as `data` says.

    `channels` is what is expected of them, None for any; `resize` makes any image fit. Raises DataError.

    >>> prepared = Data(shape=(1, 14, 14), resize="box")
    >>> open_images(prepared, "example:mnist", channels=1).shape
    (1, 14, 14)
    """
    size = (data.shape[1], data.shape[2])
    return open_data(name, channels=channels, size=size, resize=resize, crop=data.crop, filter=data.resize, split=split)
