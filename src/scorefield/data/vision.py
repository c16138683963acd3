"""Data sets of torchvision by name, downloaded when they are used for the first time.

They lie in the folder that the environment variable ``SCOREFIELD_DATA`` names, ``~/.cache/scorefield`` without it.
"""

from __future__ import annotations

import difflib
import http.client
import inspect
import os
import zipfile
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from .base import DataError, Source
from .decode import Expected, describe, eight_bits

__all__ = ["data_root", "open_torchvision"]

_FAILURES = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    ImportError,
    EOFError,
    http.client.HTTPException,
    zipfile.BadZipFile,
)


def data_root() -> Path:
    """The folder of downloaded data sets."""
    return Path(os.environ.get("SCOREFIELD_DATA") or "~/.cache/scorefield").expanduser()


class VisionSource(Source):
    """A torchvision data set of images; class labels where its targets are integers."""

    def __init__(self, dataset: Any, name: str, expected: Expected) -> None:
        """Read the first image for the shape."""
        self.name = name
        self.levels = 256
        self.classes = 0
        self._dataset = dataset
        self._expected = expected
        image, target = self._read(0)
        self.shape = tuple(self._pixels(image, 0).shape)
        self._targets = next((t for t in map(self._attribute, ("targets", "labels", "_labels")) if t is not None), None)
        if isinstance(_integer(target), int):
            known = getattr(dataset, "num_classes", 0) or len(getattr(dataset, "classes", ()))
            self.classes = known or max(self.label(i) for i in range(len(self))) + 1

    def __len__(self) -> int:
        """The number of images."""
        return len(self._dataset)

    def item(self, index: int) -> UInt8[Tensor, "channels height width"]:
        """Image ``index``; DataError where it is not of the shape of the first."""
        x = self._pixels(self._read(index)[0], index)
        if tuple(x.shape) != self.shape:
            raise DataError(
                f"{self.name}: image {index} is {describe(tuple(x.shape))}, {describe(self.shape)} expected as of "
                f"the first; pass size=, channels= and resize=True"
            )
        return x

    def label(self, index: int) -> int:
        """The class of image ``index``."""
        target = self._read(index)[1] if self._targets is None else self._targets[index]
        label = _integer(target)
        if label is None or label < 0:
            raise DataError(f"{self.name}: target {target!r} of image {index} given, a class 0, 1, … expected")
        return label

    def _read(self, index: int) -> tuple[Any, Any]:
        try:
            sample = self._dataset[index]
        except _FAILURES as error:
            raise DataError(f"{self.name}: image {index} cannot be read ({_line(error)}); download it anew") from error
        return sample if isinstance(sample, tuple) and len(sample) == 2 else (sample, None)

    def _pixels(self, image: Any, index: int) -> Tensor:
        if not isinstance(image, Image.Image):
            raise DataError(
                f"{self.name}: items of type {type(image).__name__} given, images expected; use another set"
            )
        return self._expected.fit(eight_bits(image, f"{self.name}, image {index}"), f"{self.name}, image {index}")

    def _attribute(self, name: str) -> Any:
        values: Any = getattr(self._dataset, name, None)
        fits = hasattr(values, "__getitem__") and hasattr(values, "__len__") and len(values) == len(self._dataset)
        return values if fits and _integer(values[0]) is not None else None


def open_torchvision(dataset: str, expected: Expected, split: str) -> Source:
    """``torchvision.datasets.DATASET``, its ``train`` or ``test`` part where it has parts."""
    from torchvision import datasets  # type: ignore[import-untyped]

    name = f"torchvision:{dataset}"
    kind = getattr(datasets, dataset, None) if dataset in datasets.__all__ else None
    if kind is None or not issubclass(kind, datasets.VisionDataset):
        names = {known.lower(): known for known in datasets.__all__}
        near = difflib.get_close_matches(dataset.lower(), names, n=1, cutoff=0.4)
        hint = f"did you mean torchvision:{names[near[0]]}?" if near else "see torchvision.datasets for the names"
        raise DataError(f"{name}: no such data set; {hint}")
    parameters = inspect.signature(kind).parameters
    options: dict[str, Any] = {}
    if "train" in parameters:
        options["train"] = split == "train"
    elif "split" in parameters:
        options["split"] = split
    elif split != "train":
        raise DataError(f"{name}: split {split!r} given, but the set has no parts; leave split out")
    if "download" in parameters:
        options["download"] = True
    if "root" in parameters:
        root = data_root()
        options["root"] = str(root)
    try:
        if "root" in parameters:
            root.mkdir(parents=True, exist_ok=True)
        loaded = kind(**options)
    except _FAILURES as error:
        raise DataError(
            f"{name}: cannot be downloaded to or read from {data_root()} ({_line(error)}); check the connection, "
            f"or set SCOREFIELD_DATA to a folder that has it"
        ) from error
    return VisionSource(loaded, name, expected)


def _integer(target: Any) -> int | None:
    """An integer target as ``int``; None for anything else."""
    item = getattr(target, "item", None)
    value = item() if item is not None and getattr(target, "ndim", 1) == 0 else target
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
