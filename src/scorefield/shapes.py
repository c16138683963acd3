"""Broadcasting: the library's only assumption about data is that the batch comes first."""

from jaxtyping import Float
from torch import Tensor

Data = Float[Tensor, "batch *data"]
Instant = Float[Tensor, ""]
Time = Float[Tensor, ""] | Float[Tensor, "batch"]


def expand(v: Tensor, x: Tensor) -> Tensor:
    """Give `v` of shape (), (batch,) or (batch, *data) the dimensions, dtype and device of data `x`.

    A scalar stays a scalar, wherever it lives: it multiplies any tensor without a copy to its device.

    >>> import torch
    >>> expand(torch.ones(5), torch.zeros(5, 3, 8, 8)).shape
    torch.Size([5, 1, 1, 1])
    """
    if v.ndim == 0:
        return v
    return v.to(device=x.device, dtype=x.dtype).reshape(v.shape + (1,) * (x.ndim - v.ndim))


def sum_data(x: Tensor) -> Tensor:
    """Sum over everything but the batch: (batch, *data) to (batch,)."""
    return x.flatten(1).sum(1)
