"""Arrays: in memory, ``.npy`` or ``.npz``.

``float`` arrays of shape (N, \\*data) keep their data units and their shape, whatever it is: vectors, series, images,
volumes. ``uint8`` arrays are stored images with 256 levels: (N, channel, height, width), or, without ambiguity,
(N, height, width, channel) with 1 or 3 channels and (N, height, width) for grey; other ``uint8`` shapes stay as they
are. Other types are refused, because what their values mean cannot be known.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from .base import DataError, Source
from .decode import Expected

__all__ = ["ArraySource", "open_arrays"]

Array = npt.NDArray[Any]

_DATA_KEYS = ("samples", "images", "x", "arr_0")
_LABEL_KEYS = ("labels", "label", "y", "arr_1")
_CHUNK_BYTES = 1 << 26
_BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


class ArraySource(Source):
    """Items of an array or tensor of shape (N, \\*data), with optional integer labels of shape (N,).

    Raises DataError for other types than ``uint8`` and floats, for NaN and infinities, and for labels that are not N
    integers ≥ 0.

    >>> source = ArraySource(np.zeros((5, 2)), labels=np.array([0, 1, 2, 0, 1]))
    >>> source.shape, source.levels, source.classes, source[4]
    ((2,), None, 3, (tensor([0., 0.]), 1))
    """

    def __init__(
        self,
        array: Array | Tensor,
        labels: Array | Tensor | None = None,
        *,
        name: str = "array",
        expected: Expected | None = None,
    ) -> None:
        """Check the values; nothing is copied."""
        expected = expected or Expected()
        values = _numpy(array)
        _check_values(values, name)
        if values.dtype == np.uint8:
            values = _channels_first(values)
        self.name = name
        self.levels = 256 if values.dtype == np.uint8 else None
        self._values = values
        images = self.levels is not None and values.ndim == 4
        self._resize = expected if (expected.resize or expected.prepares) and images else None
        if self._resize is None:
            expected.check(values.shape[1:], name, resizable=images)
        self.shape = tuple(self.item(0).shape)
        self._labels = None if labels is None else _check_labels(_numpy(labels), len(values), name)
        self.classes = 0 if self._labels is None else int(self._labels.max()) + 1

    def __len__(self) -> int:
        """The number of items."""
        return len(self._values)

    def item(self, index: int) -> UInt8[Tensor, "*data"] | Float32[Tensor, "*data"]:
        """A copy of item ``index``."""
        value = self._values[index]
        if self._resize is None:
            return torch.from_numpy(np.array(value, dtype=np.uint8 if self.levels else np.float32))
        if value.shape[0] not in (1, 3):
            raise DataError(f"{self.name}: {value.shape[0]} channels given, 1 or 3 expected of images to resize")
        pixels = value[0] if value.shape[0] == 1 else value.transpose(1, 2, 0)
        return self._resize.fit(Image.fromarray(np.ascontiguousarray(pixels)), self.name)

    def label(self, index: int) -> int:
        """The class of item ``index``."""
        assert self._labels is not None
        return int(self._labels[index])


def open_arrays(path: Path, expected: Expected) -> Source:
    """The array in an ``.npy`` file, or the data and labels in an ``.npz`` file. Pickled arrays are refused.

    The data of an ``.npz`` are under ``samples``, ``images``, ``x`` or ``arr_0``, or in its only array; labels, if
    any, under ``labels``, ``label``, ``y`` or ``arr_1``. An ``.npy`` file is mapped, not loaded.
    """
    name = str(path)
    try:
        loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return ArraySource(loaded, name=name, expected=expected)
        with loaded:
            label_key = next((key for key in _LABEL_KEYS if key in loaded.files), None)
            data_key = _data_key(loaded.files, label_key, name)
            labels = None if label_key is None else loaded[label_key]
            return ArraySource(loaded[data_key], labels, name=name, expected=expected)
    except DataError:
        raise
    except _BROKEN as error:
        raise DataError(f"{name}: not a readable array file; write it anew with numpy.save or savez") from error


def _data_key(keys: list[str], label_key: str | None, name: str) -> str:
    for key in _DATA_KEYS:
        if key in keys:
            return key
    others = [key for key in keys if key != label_key]
    if len(others) == 1:
        return others[0]
    raise DataError(f"{name}: arrays {', '.join(keys) or 'none'} given; expected one called samples, images or x")


def _numpy(array: Array | Tensor) -> Array:
    if not isinstance(array, Tensor):
        return array
    array = array.detach().cpu()
    return array.float().numpy() if array.dtype == torch.bfloat16 else array.numpy()


def _channels_first(values: Array) -> Array:
    if values.ndim == 3:
        return values[:, None]
    if values.ndim == 4 and values.shape[1] not in (1, 3) and values.shape[3] in (1, 3):
        return values.transpose(0, 3, 1, 2)
    return values


def _check_values(values: Array, name: str) -> None:
    if values.dtype != np.uint8 and not np.issubdtype(values.dtype, np.floating):
        raise DataError(f"{name}: {values.dtype} given, uint8 or float expected; convert it to uint8 or float")
    if values.ndim < 2:
        raise DataError(f"{name}: shape {values.shape} given, (N, *data) expected; numbers are data of shape (N, 1)")
    if 0 in values.shape:
        raise DataError(f"{name}: shape {values.shape} given, at least one item and coordinate expected")
    if values.dtype == np.uint8:
        return
    rows = max(1, _CHUNK_BYTES // values[0].nbytes)
    for start in range(0, len(values), rows):
        with np.errstate(over="ignore"):
            finite = np.isfinite(values[start : start + rows].astype(np.float32)).reshape(-1, values[0].size)
        if not finite.all():
            bad = start + int(np.flatnonzero(~finite.all(axis=1))[0])
            raise DataError(f"{name}: item {bad} has NaN, an infinity or overflows float32; expected finite numbers")


def _check_labels(labels: Array, count: int, name: str) -> Array:
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (count,) or labels.min() < 0:
        raise DataError(f"{name}: labels {labels.dtype} {labels.shape} given, {count} integers 0, 1, … expected")
    return labels
