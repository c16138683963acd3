"""What chapters are made from and of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from scorefield.data import grid, to_uint8
from scorefield.score import Denoiser

Pixels = UInt8[np.ndarray, "rows columns channels"]


@dataclass(frozen=True)
class Effort:
    """How much of everything; the defaults cost some 40,000 network evaluations of one image."""

    samples: int = 64
    steps: int = 80
    tol: float = 1e-2
    rows: int = 5
    frames: int = 12
    likelihoods: int = 10
    probes: int = 4
    codes: int = 8
    code_tol: float = 1e-5
    between: int = 9
    completions: int = 8
    budget: int = 100
    photographs: int = 36
    colour_steps: int = 100


@dataclass(frozen=True)
class Stage:
    """The model, the name it is loaded by, held-out images with their labels, and the seed of everything."""

    model: Denoiser
    name: str
    images: UInt8[Tensor, "n channels height width"]
    labels: Int64[Tensor, " n"] | None
    seed: int = 0
    effort: Effort = Effort()

    def take(self, count: int, first: int = 0) -> UInt8[Tensor, "count channels height width"]:
        """`count` images of different classes, as far as there are: image `first` or later of each class in turn."""
        if self.labels is None:
            return self.images[first : first + count]
        order = torch.argsort(self.labels, stable=True)
        ranks = torch.cat([torch.arange(int(n)) for n in torch.bincount(self.labels)])
        turns = order[torch.argsort(ranks * 100 + self.labels[order], stable=True)]
        return self.images[turns[first : first + count]]


@dataclass(frozen=True)
class Picture:
    """An image in one or more files: the first is shown, unless the reader's screen is dark and there are two.

    `columns` are names over columns of the picture, each with the number of them that it spans.
    """

    files: Mapping[str, Pixels]
    alt: str
    caption: str = ""
    columns: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Chapter:
    """A heading, a few sentences of HTML, the code that makes the pictures, and what was measured."""

    title: str
    text: str
    code: str
    pictures: Sequence[Picture]
    facts: Mapping[str, float] = field(default_factory=dict)


def plate(
    images: Float[Tensor, "n channels height width"] | UInt8[Tensor, "n channels height width"], columns: int
) -> Pixels:
    """Images in rows, each pixel three by three, so that browsers need not blur them much."""
    large = to_uint8(images).cpu().repeat_interleave(3, 2).repeat_interleave(3, 3)
    return grid(large, columns=columns, padding=4)
