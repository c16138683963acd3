"""Shapes and dtypes: the library's only assumption about data is that the batch comes first."""

import torch
from jaxtyping import Float
from torch import Tensor

Data = Float[Tensor, "batch *data"]
Instant = Float[Tensor, ""]
Time = Float[Tensor, ""] | Float[Tensor, "batch"]


def expand(v: Tensor, x: Tensor) -> Tensor:
    """Give `v` of shape (), (batch,) or (batch, *data) the dimensions, dtype and device of data `x`.

    A scalar stays a scalar, wherever it lives: it multiplies any tensor without a copy to its device.

    >>> expand(torch.ones(5), torch.zeros(5, 3, 8, 8)).shape
    torch.Size([5, 1, 1, 1])
    """
    if v.ndim == 0:
        return v
    return v.to(device=x.device, dtype=x.dtype).reshape(v.shape + (1,) * (x.ndim - v.ndim))


def single(x: Tensor) -> Tensor:
    """x in single precision or better: sums and transforms of 16-bit numbers lose too much, or do not exist.

    >>> single(torch.zeros(1, dtype=torch.bfloat16)).dtype, single(torch.zeros(1, dtype=torch.float64)).dtype
    (torch.float32, torch.float64)
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def sum_data(x: Tensor) -> Tensor:
    """Sum over everything but the batch: (batch, *data) to (batch,)."""
    return x.flatten(1).sum(1)
