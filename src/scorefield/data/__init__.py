"""Data in and out: images, arrays and streams of batches, in data units. Nothing here knows of SDEs or models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arrays import ArraySource as ArraySource
    from .base import DataError as DataError
    from .base import Source as Source
    from .batches import Batches as Batches
    from .batches import permutation as permutation
    from .files import atomic_folder as atomic_folder
    from .files import atomic_write as atomic_write
    from .files import check_writable as check_writable
    from .images import check_samples_path as check_samples_path
    from .images import filmstrip as filmstrip
    from .images import grid as grid
    from .images import save_image as save_image
    from .images import save_samples as save_samples
    from .images import to_uint8 as to_uint8
    from .masks import hole as hole
    from .masks import read_mask as read_mask
    from .shards import Shards as Shards
    from .shards import prepare_shards as prepare_shards
    from .source import open_data as open_data

_MODULES = {
    "ArraySource": "arrays",
    "Batches": "batches",
    "DataError": "base",
    "Shards": "shards",
    "Source": "base",
    "atomic_folder": "files",
    "atomic_write": "files",
    "check_samples_path": "images",
    "check_writable": "files",
    "filmstrip": "images",
    "grid": "images",
    "hole": "masks",
    "open_data": "source",
    "permutation": "batches",
    "prepare_shards": "shards",
    "read_mask": "masks",
    "save_image": "images",
    "save_samples": "images",
    "to_uint8": "images",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
