"""Training batches as a function of the step.

The items are walked in an endless stream of permutations, one per epoch: position p of the stream holds item
π_e(p mod N) with e = ⌊p / N⌋, and the batch of step k is positions kB … (k + 1)B − 1. A batch may thus cross from
one epoch into the next, and every item is seen once an epoch whatever the batch size. π_e depends on (seed, e) only,
so that a resumed training sees the batches it would have seen, and nothing but the step needs to be stored.

Several processes see one global batch: process ``rank`` of ``world`` takes the positions from
``rank · B / world`` on, so that the slices in order of rank are the batch of one process.

Random bits are the raw output of Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), which
numpy promises to keep, as it does not for its permutations.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from .base import Source

__all__ = ["IN_MEMORY_BYTES", "Batches", "permutation"]

IN_MEMORY_BYTES = 1 << 30
"""Sources that take fewer bytes than this are decoded once and kept."""

_ORDER, _FLIP = 0, 1


def permutation(count: int, seed: int, epoch: int) -> Int64[Tensor, " count"]:
    """The order of ``count`` items in an epoch, a pure function of (count, seed, epoch); seed and epoch ≥ 0.

    >>> permutation(5, seed=0, epoch=0).sort().values
    tensor([0, 1, 2, 3, 4])
    """
    return torch.from_numpy(_order(count, seed, epoch).copy())


@dataclass(frozen=True)
class Batches:
    """The batches of a training; ``batches.batch(step)`` depends on (seed, step) and the source only.

    ``flip`` mirrors each image left-right with probability ½, keyed by its position in the stream. ``batch_size`` is
    that of the global batch, of which process ``rank`` of ``world`` gets its part.

    Sources too large to keep in memory are read by as many threads as there are processors;
    ``torch.utils.data.DataLoader(batches, batch_size=None, sampler=range(start, stop), num_workers=…)`` reads ahead.

    >>> from scorefield.data import open_data
    >>> x, labels = Batches(open_data("example:mnist"), batch_size=48, seed=0).batch(step=1)
    >>> x.shape, x.dtype, labels.shape
    (torch.Size([48, 1, 28, 28]), torch.uint8, torch.Size([48]))
    """

    source: Source
    batch_size: int
    seed: int
    flip: bool = False
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        """Refuse what gives no batch."""
        if self.batch_size < 1 or self.seed < 0:
            raise ValueError(f"batch_size {self.batch_size}, seed {self.seed} given; expected ≥ 1 and ≥ 0")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} of world {self.world} given; expected 0 ≤ rank < world")
        if self.batch_size % self.world:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by {self.world} processes; change either")
        if self.flip and len(self.source.shape) != 3:
            raise ValueError(f"flip=True needs images (channel, height, width), not shape {self.source.shape}; drop it")

    def indices(self, step: int) -> Int64[Tensor, " batch"]:
        """The numbers of the items in this process's batch of a step ≥ 0."""
        return torch.from_numpy(self._gather(step, _order))

    def batch(
        self, step: int
    ) -> tuple[UInt8[Tensor, "batch *data"] | Float32[Tensor, "batch *data"], Int64[Tensor, " batch"] | None]:
        """This process's part of the batch of a step ≥ 0: items in data units, and labels or None."""
        chosen = self.indices(step)
        if self.source.nbytes < IN_MEMORY_BYTES:
            x = self.source.tensor()[chosen]
        else:
            x = torch.stack(list(_threads(os.getpid()).map(self.source.item, chosen.tolist())))
        if self.flip:
            mirrored = torch.from_numpy(self._gather(step, _flips))
            x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
        labels = self.source.labels
        return x, None if labels is None else labels[chosen]

    __getitem__ = batch

    def _gather(self, step: int, per_epoch: Callable[[int, int, int], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        if step < 0:
            raise ValueError(f"step {step} given; expected ≥ 0")
        count, part = len(self.source), self.batch_size // self.world
        positions = step * self.batch_size + self.rank * part + np.arange(part)
        epochs, places = np.divmod(positions, count)
        drawn = [per_epoch(count, self.seed, int(e))[places[epochs == e]] for e in np.unique(epochs)]
        return np.concatenate(drawn)


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:  # noqa: ARG001
    """Threads that decode images, whose libraries let go of the interpreter; a forked process has its own."""
    return ThreadPoolExecutor(os.cpu_count(), "scorefield-data")


def _raw(count: int, seed: int, stream: int, epoch: int) -> npt.NDArray[np.uint64]:
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed {seed}, epoch {epoch} given; expected both ≥ 0")
    bits = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(stream, epoch)))
    return np.asarray(bits.random_raw(count), dtype=np.uint64)


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.argsort(_raw(count, seed, _ORDER, epoch), kind="stable")


@lru_cache(maxsize=4)
def _flips(count: int, seed: int, epoch: int) -> npt.NDArray[np.bool_]:
    return np.asarray(_raw(count, seed, _FLIP, epoch) >> np.uint64(63), dtype=np.bool_)
