r"""A residual perceptron for data of any shape: points, rows of a table, short series.

The data are flattened, lifted to ``width`` numbers, changed by ``depth`` residual blocks that are told the noise level
(and the label), and projected back. The number c is embedded by random Fourier features (Tancik et al. 2020) of ``c *
time_scale`` with frequencies of standard deviation ``fourier_scale``. They suit numbers that vary over a few units: log
sigma and a quarter of the log-SNR as they are (``time_scale=1``), times 999 t with ``time_scale=4/999``.
"""

import math
from collections.abc import Sequence

from jaxtyping import Float, Integer
from torch import Tensor, nn

from scorefield.nn.embedding import ConditionEmbedding, check_batch
from scorefield.nn.layers import linear


class PerceptronBlock(nn.Module):
    """Two affine maps after normalization and SiLU, the condition added between them, the whole added to the input."""

    def __init__(self, width: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear1 = linear(width, width)
        self.condition = linear(condition, width)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = linear(width, width, 0.0)
        self.activation = nn.SiLU()

    def forward(
        self, h: Float[Tensor, "batch width"], condition: Float[Tensor, "batch condition"]
    ) -> Float[Tensor, "batch width"]:
        """The hidden vectors after the block."""
        update = self.linear1(self.activation(self.norm(h))) + self.condition(self.activation(condition))
        return h + self.linear2(self.dropout(self.activation(update)))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """A function of data (batch, *shape) and one number c per sample; returns data of the same shape.

    Args:
        shape: the shape of one sample, () for a number.
        width: hidden units.
        depth: residual blocks.
        time_scale: c is multiplied by it before it is embedded; the product should vary over a few units.
        fourier_scale: standard deviation of the frequencies: differences of about 1 / (2π fourier_scale) are told
            apart.
        dropout: probability, in every block, while training.
        classes: number of class labels. With classes, ``label=None`` means "no label" and has an embedding of its own;
            0 means none.

    >>> import torch
    >>> network = MLP((2,), width=32, depth=2, classes=3)
    >>> network(torch.zeros(5, 2), torch.zeros(5), torch.tensor([0, 1, 2, 0, 1])).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int = 256,
        depth: int = 4,
        time_scale: float = 1.0,
        fourier_scale: float = 1.0,
        dropout: float = 0.0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        if width < 4 or depth < 1:
            raise ValueError(
                f"width={width}, depth={depth} is too small; give a width of at least 4 and a depth of at least 1"
            )
        self.shape = tuple(shape)
        self.time_scale = time_scale
        self.size = math.prod(self.shape)
        self.condition = ConditionEmbedding(
            width // 2, width, embedding="fourier", fourier_scale=fourier_scale, classes=classes
        )
        self.linear_in = linear(self.size, width)
        self.blocks = nn.ModuleList(PerceptronBlock(width, width, dropout) for _ in range(depth))
        self.activation = nn.SiLU()
        self.linear_out = linear(width, self.size, 0.0)

    def forward(
        self,
        x: Float[Tensor, "batch *data"],
        c: Float[Tensor, " batch"],
        label: Integer[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch *data"]:
        """The raw output for data ``x`` at noise levels ``c`` with class labels ``label`` (or None: no label).

        Raises:
            ValueError: samples of another shape, c or labels that are not one per sample, and labels that do not fit
                the classes.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"samples have the shape {tuple(x.shape[1:])}, the network takes {self.shape}")
        check_batch(x, c, label)
        condition = self.condition(c * self.time_scale, label)
        h: Tensor = self.linear_in(x.reshape(x.shape[0], self.size))
        for block in self.blocks:
            h = block(h, condition)
        output: Tensor = self.linear_out(self.activation(h))
        return output.reshape(x.shape).to(x.dtype)
