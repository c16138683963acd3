"""Guidance by a second model: what a model says is exaggerated, away from what a model says that knows less.

    F <- F_u + w (F_y - F_u)   in any view F, for they are linear in one another                     (1)

- **Classifier-free guidance** (Ho & Salimans 2022): F_y is conditional and F_u is not. By Bayes' rule their scores
  differ by grad log p(y | x_t), so that (1) is guidance by the classifier that the two models imply: w = 1 is the
  conditional model, w = 0 the other.
- **Autoguidance** (Karras et al. 2024): F_u is a smaller or less trained model of the same condition, whose errors are
  those of F_y and larger. It sharpens without a class, and without the loss of variety.

For w other than 0 and 1 the result is the score of no diffused density.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from scorefield.guidance.guided import ALWAYS, Guided, Interval, Views
from scorefield.score import Denoiser
from scorefield.shapes import Data, Time, expand


class Contrast(Guided):
    """`model` guided away from `other` with weight `scale`, the w of (1), inside an interval; outside, `model`.

    Raises ValueError where the two are of different SDEs or data.

    >>> from scorefield.exact import ExactModel, GaussianMixture
    >>> from scorefield.sde import VE
    >>> one, all_ = (
    ...     ExactModel(VE(), GaussianMixture(torch.tensor(m), variances=torch.full((len(m), 1), 0.01)))
    ...     for m in ([[1.0]], [[-1.0], [1.0]])
    ... )
    >>> Contrast(one, all_, scale=2.0).denoise(torch.zeros(1, 1), torch.tensor(0.9)).round(decimals=2)
    tensor([[2.]])
    """

    def __init__(self, model: Denoiser, other: Denoiser, scale: float, interval: Interval = ALWAYS) -> None:
        super().__init__(model, interval)
        for what, mine, theirs in (("SDEs", model.sde, other.sde), ("shapes", model.space.shape, other.space.shape)):
            if mine != theirs:
                raise ValueError(f"guidance of a model by another, of different {what}: {mine} and {theirs}")
        self.other, self.scale = other, scale

    def guide(self, x: Data, t: Time, views: Views, gains: tuple[Time, ...]) -> tuple[Data, ...]:  # noqa: ARG002
        """Each view by (1)."""
        own: tuple[Data, ...] = self(x, t, self.model, views)
        inside = self.interval.inside(self.sde, t)
        if self.scale == 1 or not bool(inside.any()):
            return own
        weight = expand(torch.where(inside, self.scale - 1.0, 0.0), x)
        others = self(x, t, self.other, views)
        return tuple(mine + weight * (mine - theirs) for mine, theirs in zip(own, others, strict=True))

    def select(self, rows: Int64[Tensor, "rows"]) -> Guided:
        """These models for some samples of their batch."""
        bound, other = super().select(rows), self.other.select(rows)
        return bound if other is self.other else bound._with(other=other)
