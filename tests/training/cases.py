"""Small trainings: what the tests of this folder train, in their own process or in another one."""

import numpy as np

from scorefield.data import Source, open_data
from scorefield.recipes import Recipe, load_recipe

SHORT = [
    "training.batch_size=8",
    "training.warmup=2",
    "training.log_every=1",
    "training.ema=0.9",
    "sampling.steps=2",
]


def vectors(*overrides: str) -> tuple[Recipe, Source]:
    """A perceptron on vectors."""
    small = ["model.width=16", "model.depth=1", "model.dropout=0.1", "training.steps=10", "training.checkpoint_every=2"]
    data = np.random.default_rng(0).normal(size=(21, 2)).astype(np.float32)
    return load_recipe("table", [*SHORT, *small, *overrides]), open_data(data)


def images(*overrides: str) -> tuple[Recipe, Source]:
    """A U-Net on flipped, dequantized images with labels, in reduced precision."""
    small = [
        "data.shape=[1, 8, 8]",
        "data.classes=3",
        "data.flip=true",
        "model.channels=8",
        "model.multipliers=[1, 1]",
        "model.dropout=0.1",
        "training.steps=6",
        "training.checkpoint_every=2",
    ]
    pixels = np.random.default_rng(0).integers(0, 256, size=(11, 8, 8, 1), dtype=np.uint8)
    return load_recipe("mnist", [*SHORT, *small, *overrides]), Labelled(pixels)


class Labelled(Source):
    """Images whose label is their number modulo 3."""

    def __init__(self, pixels: np.ndarray) -> None:
        inner = open_data(pixels)
        self._inner, self.name = inner, "labelled"
        self.shape, self.levels, self.classes = inner.shape, inner.levels, 3

    def __len__(self) -> int:
        return len(self._inner)

    def item(self, index: int):
        return self._inner.item(index)

    def label(self, index: int) -> int:
        return index % 3
