"""Noise that belongs to a sample.

Sample i of seed s is the same at every batch size, on any number of processes and after a resume. Each sample has a
generator of its own, keyed by (seed, global index of the sample), so no draw depends on its batch mates.

torch's CPU generator keeps 32 bits of its seed. Within one seed the key is therefore a bijection of the index,
k = (a index + b) mod 2³² with odd a and b hashed from the seed: no two samples share a stream. Draws that belong to an
address (`at`) are keyed by a hash: of two hundred thousand, about five coincide with another.

A call of a generator costs about as much as a thousand numbers, so each stream is drawn some thousand numbers at a
time. The block depends on the shape of a draw alone, which keeps the stream independent of the batch.
"""

import hashlib
import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

_BLOCK = 16384


def key(seed: int, *names: int | str) -> int:
    """A 64-bit key hashed from a seed and what it is for.

    >>> key(0, "training", 1) == key(0, "training", 1) != key(0, "training", 2)
    True
    """
    digest = hashlib.blake2b(repr((operator.index(seed), *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


class Noise:
    """Independent noise for each sample of a batch, on `device`, drawn in float32.

    `stream` separates the uses of one seed (sampling, dequantization, probes).

    >>> few, many = Noise(0, [5]), Noise(0, [3, 4, 5])
    >>> bool((few.normal((2, 2))[0] == many.normal((2, 2))[2]).all())
    True
    """

    def __init__(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu", stream: str = "") -> None:
        factor, offset = key(seed, stream, "factor") | 1, key(seed, stream, "offset")
        self.device = torch.device(device)
        self._names = [(seed, stream, index) for index in indices]
        self._addressed = torch.Generator(self.device)
        self._generators = [
            torch.Generator(self.device).manual_seed((factor * index + offset) % 2**32) for index in indices
        ]
        self._blocks: dict[tuple[int, ...], tuple[Tensor, int]] = {}

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal draws, (batch, *shape)."""
        shape = tuple(shape)
        if shape not in self._blocks:
            draws = max(1, _BLOCK // max(1, math.prod(shape)))
            self._blocks[shape] = torch.empty((len(self), draws, *shape), device=self.device), draws
        block, used = self._blocks[shape]
        if used == block.shape[1]:
            used = 0
            for row, generator in zip(block, self._generators, strict=True):
                row.normal_(generator=generator)
        self._blocks[shape] = block, used + 1
        return block[:, used].to(dtype, copy=True)

    def at(self, row: int, address: int, shape: Sequence[int]) -> Tensor:
        """The standard normal draw of one sample that belongs to an address, whatever was drawn before."""
        seed, stream, index = self._names[row]
        self._addressed.manual_seed(key(seed, stream, index, address) % 2**32)
        return torch.randn(tuple(shape), generator=self._addressed, device=self.device)

    def uniform(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws from [0, 1), (batch, *shape)."""
        draws = torch.empty((len(self), *shape), device=self.device)
        for row, generator in zip(draws, self._generators, strict=True):
            row.uniform_(generator=generator)
        return draws.to(dtype)

    def rademacher(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws of -1 or 1, (batch, *shape)."""
        draws = torch.empty((len(self), *shape), device=self.device)
        for row, generator in zip(draws, self._generators, strict=True):
            row.random_(0, 2, generator=generator)
        return (2 * draws - 1).to(dtype)
