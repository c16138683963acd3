"""What data are to everything above: numbered items of one shape, with or without a class label.

An item is a tensor in data units: ``uint8`` of shape (channel, height, width) for stored images, the brightness in
256 levels, or ``float32`` of any shape. Nothing here knows of models: the map to model units is the data space's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

__all__ = ["DataError", "Source"]


class DataError(ValueError):
    """Data that cannot be read or do not fit; one line that names the file, what was expected and the remedy."""


class Source(ABC):
    """``len(source)`` items of shape ``source.shape``; ``source[i]`` is (item, label), label None without classes.

    Attributes:
        name: what the data are called in messages.
        shape: the shape of an item.
        levels: 256 for ``uint8`` items; None for ``float32`` items.
        classes: the number of classes, labels are 0 … classes − 1; 0 without labels.
    """

    name: str
    shape: tuple[int, ...]
    levels: int | None
    classes: int

    @abstractmethod
    def __len__(self) -> int:
        """The number of items."""

    @abstractmethod
    def item(self, index: int) -> UInt8[Tensor, "*data"] | Float32[Tensor, "*data"]:
        """Item ``index`` without its label, 0 ≤ index < len. Raises DataError where it cannot be read."""

    @abstractmethod
    def label(self, index: int) -> int:
        """The class of item ``index``; called only where ``classes`` is positive."""

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "*data"] | Float32[Tensor, "*data"], int | None]:
        """Item ``index`` and its label; negative numbers count from the end."""
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"item {index} of {self.name}, which has {count}")
        index %= count
        return self.item(index), self.label(index) if self.classes else None

    def __iter__(self) -> Iterator[tuple[Tensor, int | None]]:
        """Items and labels in order."""
        return (self[index] for index in range(len(self)))

    @property
    def nbytes(self) -> int:
        """The bytes that all items take, decoded."""
        return len(self) * torch.Size(self.shape).numel() * (1 if self.levels else 4)

    @cached_property
    def labels(self) -> Int64[Tensor, " count"] | None:
        """The labels of all items, or None without classes."""
        return torch.tensor([self.label(i) for i in range(len(self))], dtype=torch.int64) if self.classes else None

    def tensor(self) -> UInt8[Tensor, "count *data"] | Float32[Tensor, "count *data"]:
        """All items in one tensor, decoded at the first call and kept. Reading every item, it finds every bad one."""
        return self._tensor

    @cached_property
    def _tensor(self) -> Tensor:
        items = torch.empty((len(self), *self.shape), dtype=torch.uint8 if self.levels else torch.float32)
        for index in range(len(self)):
            items[index] = self.item(index)
        return items
