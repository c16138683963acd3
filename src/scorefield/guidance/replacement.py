"""Replacement conditioning: inpainting, colourization, any orthogonal decomposition of the data.

Split x into a known part P x and the rest by an orthogonal projection P. After every update, of the predictor and of
the corrector, the known part is replaced by the known data perturbed to that step's time, x <- x + P (alpha_s y +
sigma_s z - x) (Song et al. 2021, app. I), and at the end by the data themselves: the known part is then exact, and the
rest comes from the last denoising, free of noise.

The method is biased: the rest never sees what it does to the known part. For two Gaussian coordinates of unit variance
and correlation r, with y known and many steps, the other one has mean y (1 - sqrt(1 - r²))/r instead of r y and
variance (1 - r²)/(2 r) log((1 + r)/(1 - r)) instead of 1 - r², with any SDE.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from scorefield.noise import Noise
from scorefield.samplers.base import Past, Sampler, denoiser, draw
from scorefield.score import ScoreModel
from scorefield.shapes import Data, Instant


class Decomposition(ABC):
    """An orthogonal split of the data into a known part and the rest."""

    @abstractmethod
    def replace(self, x: Data, known: Data) -> Data:
        """`x` with its known part taken from `known`."""


@dataclass(frozen=True, eq=False)
class Mask(Decomposition):
    """Coordinates: those where `known` is True, broadcast over the batch."""

    known: Bool[Tensor, "..."]

    def replace(self, x: Data, known: Data) -> Data:
        """`known` where the mask is True, x elsewhere."""
        return torch.where(self.known, known, x)


@dataclass(frozen=True)
class Grey(Decomposition):
    """The mean over channels (the paper's orthogonal basis of colours); the rest is colour.

    >>> Grey().replace(torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[4.0], [4.0]]])).flatten()
    tensor([3., 5.])
    """

    def replace(self, x: Data, known: Data) -> Data:
        """x with the channel mean of `known`."""
        return x + (known - x).mean(1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Subspace(Decomposition):
    """The span of orthonormal rows (rows, dim) over flattened data."""

    rows: Tensor

    def __post_init__(self) -> None:
        gram = self.rows @ self.rows.T
        if not torch.allclose(gram, torch.eye(len(gram), dtype=gram.dtype, device=gram.device), atol=1e-5):
            raise ValueError(
                "Subspace: rows that are not orthonormal; take the transposed Q of torch.linalg.qr(rows.T)"
            )

    def replace(self, x: Data, known: Data) -> Data:
        """x with the coefficients of `known` along the rows."""
        difference = (known - x).flatten(1) @ self.rows.T
        return x + (difference @ self.rows).reshape(x.shape)


@dataclass(frozen=True, eq=False)
class Replacement(Sampler):
    """Any sampler, with the known part of every intermediate result replaced.

    `known` holds the known data (batch, *data) in model units, of which only the known part counts.
    """

    sampler: Sampler
    decomposition: Decomposition
    known: Data

    def start(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:
        """A draw of the prior with the known part at time t."""
        return self._replace(model, self.sampler.start(model, x, t, noise), t, noise)

    def step(self, model: ScoreModel, x: Data, t: Instant, s: Instant, noise: Noise, past: Past) -> Data:
        """x at time t to x at time s < t, with the known part at time s."""
        return self.sampler.adjusted(self._replace).step(model, x, t, s, noise, past)

    def finish(self, model: ScoreModel, x: Data, t: Instant, past: Past) -> Data:
        """The data, with the known part exact."""
        return self.decomposition.replace(self.sampler.finish(model, x, t, past), self.known)

    def _replace(self, model: ScoreModel, x: Data, t: Instant, noise: Noise) -> Data:
        sde = denoiser(model, self).sde
        return self.decomposition.replace(x, sde.alpha(t) * self.known + sde.sigma(t) * draw(noise, x))
