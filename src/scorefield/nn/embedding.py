r"""Embeddings of the noise level and of the class label.

A network is told how noisy its input is by one number c per sample. Two embeddings make a vector of it, of which a
small perceptron makes the condition that enters every residual block:

- **positional** (Vaswani et al. 2017; Ho et al. 2020): :math:`\sin(\omega_k c), \cos(\omega_k c)` with frequencies that
  fall geometrically from 1 to 1/10000. It resolves differences of c of order one and suits c in 0…1000, that is 999 t
  or a table index.
- **fourier** (Tancik et al. 2020; Song et al. 2021): :math:`\sin(2\pi w_k c), \cos(2\pi w_k c)` with fixed random
  frequencies :math:`w_k \sim N(0, \text{scale}^2)`. It resolves differences of c of order 1/(2π scale) and suits c of
  order one, that is log sigma or a quarter of the log-SNR.

All of this is computed in float32 or better, also under autocast: with c near 999, bfloat16 could not tell neighbouring
times apart.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from scorefield.nn.layers import Activation, activation, check_choice, linear

Embedding = Literal["positional", "fourier", "none"]


class PositionalEmbedding(nn.Module):
    """Sines and cosines of c at ``dim // 2`` frequencies from 1 to 1/10000 (a last zero where dim is odd).

    >>> PositionalEmbedding(4)(torch.zeros(1))
    tensor([[0., 0., 1., 1.]])
    """

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 4:
            raise ValueError(f"a positional embedding needs at least 4 numbers, got {dim}; use more channels")
        self.dim = dim
        half = dim // 2
        exponents = torch.linspace(0, half - 1, half, dtype=torch.float32).mul_(-(math.log(10000.0) / (half - 1)))
        self.register_buffer("frequencies", exponents.exp_(), persistent=False)

    def forward(self, c: Float[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        """Embed one number per sample."""
        angles = c[:, None] * self.frequencies
        embedded = torch.cat([angles.sin(), angles.cos()], dim=1)
        return nn.functional.pad(embedded, (0, self.dim % 2))


class FourierEmbedding(nn.Module):
    """Sines and cosines of 2π w c at ``dim // 2`` fixed random frequencies w of standard deviation ``scale``."""

    frequencies: Tensor

    def __init__(self, dim: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(dim // 2).mul_(scale))

    def forward(self, c: Float[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        """Embed one number per sample."""
        angles = c[:, None] * self.frequencies * (2.0 * math.pi)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class ConditionEmbedding(nn.Module):
    """The condition of the residual blocks, of the noise level and (with ``classes`` > 0) of a class label.

    The label's vector is added to the embedded noise level in front of the perceptron (Karras et al. 2022). There is
    one vector per class and one more, of index ``classes``, that means "no label"; it is taken for all samples where
    ``label`` is None, so that one network is conditional and unconditional. With ``embedding="none"`` the noise level
    has no effect, and without classes there is then no condition at all: forward returns None.
    """

    def __init__(
        self,
        dim: int,
        outputs: int,
        *,
        embedding: Embedding = "positional",
        fourier_scale: float = 16.0,
        classes: int = 0,
        nonlinearity: Activation = "silu",
    ) -> None:
        super().__init__()
        check_choice("embedding", embedding, Embedding)
        if classes < 0:
            raise ValueError(f"classes={classes} is negative; 0 means no labels")
        self.classes = classes
        self.outputs = outputs if embedding != "none" or classes > 0 else 0
        self.level: PositionalEmbedding | FourierEmbedding | None = None
        if embedding == "positional":
            self.level = PositionalEmbedding(dim)
        elif embedding == "fourier":
            self.level = FourierEmbedding(2 * dim, fourier_scale)
        inputs = 2 * dim if embedding == "fourier" else dim
        self.label = nn.Embedding(classes + 1, inputs) if classes > 0 else None
        if self.outputs:
            self.linear1 = linear(inputs, outputs)
            self.linear2 = linear(outputs, outputs)
        self.activation = activation(nonlinearity)

    def forward(
        self, c: Float[Tensor, " batch"], label: Integer[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch outputs"] | None:
        """Embed c and the labels; raises ValueError where the labels do not fit the number of classes."""
        embedded = None if self.level is None else self.level(c.to(self.level.frequencies.dtype))
        if self.label is not None:
            vector = self.label(self._checked(c, label))
            embedded = vector if embedded is None else embedded + vector
        elif label is not None:
            raise ValueError("labels were given to a network without classes; build it with classes > 0")
        if embedded is None:
            return None
        with torch.autocast(c.device.type, enabled=False):
            return self.linear2(self.activation(self.linear1(embedded)))  # type: ignore[no-any-return]

    def _checked(
        self, c: Float[Tensor, " batch"], label: Integer[Tensor, " batch"] | None
    ) -> Integer[Tensor, " batch"]:
        """The labels, where None means none for each."""
        if label is None:
            return torch.full(c.shape, self.classes, dtype=torch.int64, device=c.device)
        checked = label.device.type == "cpu" and not torch.compiler.is_compiling()
        if checked and bool(((label < 0) | (label > self.classes)).any()):
            raise ValueError(
                f"labels must lie in 0…{self.classes - 1} (or be {self.classes}: no label), got {label.tolist()}"
            )
        return label


def check_batch(x: Tensor, c: Tensor, label: Tensor | None) -> None:
    """Raise a ValueError unless c and the labels (where given) are one number per sample of x."""
    for name, value in (("c", c), ("label", label)):
        if value is not None and value.shape != x.shape[:1]:
            raise ValueError(f"{name} has the shape {tuple(value.shape)}; it needs one number per sample: ({len(x)},)")
