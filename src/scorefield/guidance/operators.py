r"""Linear measurements y = A x + s n of data x, with standard normal n.

An operator takes data (batch, *data) to measurements ``(batch, *measured)``, and its adjoint takes them back:
<A x, y> = <x, A' y>, with the real part of the inner product where measurements are complex.

A spectral operator knows its singular value decomposition. Orthonormal maps V' of the data and U' of the measurements
lead to one spectrum, with as many coordinates as the data, in which A multiplies:

    A = U diag(d) V',    d = 0 where nothing is measured                                        (1)

so that (A A' + c)^-1 and the pseudo-inverse cost a division.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from scorefield.shapes import Data

_NULL = 1e-6
"""Singular values below this share of the largest count as zero."""


class Operator(ABC):
    """A linear map of data to measurements."""

    @abstractmethod
    def apply(self, x: Data) -> Tensor:
        """A x, ``(batch, *measured)``."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Data:
        """A' y, ``(batch, *data)``."""

    def select(self, rows: Int64[Tensor, "rows"], y: Tensor) -> "Operator":  # noqa: ARG002
        """The operator for some samples of a batch, where each has its own; `y` are measurements of all."""
        return self

    def __matmul__(self, inner: "Operator") -> "Operator":
        """`inner` first, then this one."""
        return Composed(self, inner)


class Spectral(Operator):
    """An operator that knows its singular values (1)."""

    @abstractmethod
    def spectrum(self, x: Data) -> Tensor:
        """V' x."""

    @abstractmethod
    def data(self, c: Tensor) -> Data:
        """V c."""

    @abstractmethod
    def values(self, c: Tensor) -> Tensor:
        """d, in a shape that broadcasts to a spectrum `c`."""

    @abstractmethod
    def coefficients(self, y: Tensor) -> Tensor:
        """U' y, with anything where d = 0."""

    @abstractmethod
    def measurement(self, c: Tensor) -> Tensor:
        """U c, of a spectrum that is zero where d is."""

    def apply(self, x: Data) -> Tensor:
        """U diag(d) V' x."""
        c = self.spectrum(x)
        return self.measurement(self.values(c) * c)

    def adjoint(self, y: Tensor) -> Data:
        """V diag(d) U' y."""
        c = self.coefficients(y)
        return self.data(self.values(c) * c)

    def seen(self, c: Tensor) -> Bool[Tensor, "..."]:
        """Where d is not zero."""
        d = self.values(c).abs()
        return d > _NULL * d.amax()

    def scaled(self, y: Tensor) -> Tensor:
        """U' y / d, what the spectrum of x would be without noise, and 0 where d = 0."""
        c = self.coefficients(y)
        seen = self.seen(c)
        return torch.where(seen, c / torch.where(seen, self.values(c), 1), 0)

    def project(self, x: Data, y: Tensor) -> Data:
        """x with what y says of it, without noise."""
        c = self.spectrum(x)
        return self.data(torch.where(self.seen(c), self.scaled(y), c)).to(x)


@dataclass(frozen=True, eq=False)
class Mask(Spectral):
    """The coordinates where `known` is True, broadcast over the batch; measurements are data with zeros elsewhere.

    >>> Mask(torch.tensor([True, False])).apply(torch.ones(1, 2))
    tensor([[1., 0.]])
    """

    known: Bool[Tensor, "..."]

    def __post_init__(self) -> None:
        if self.known.dtype != torch.bool:
            kind = str(self.known.dtype).removeprefix("torch.")
            raise ValueError(f"Mask of {kind}, expected bool, True where a number is known")

    def spectrum(self, x: Data) -> Tensor:
        """x itself."""
        return x

    def data(self, c: Tensor) -> Data:
        """c itself."""
        return c

    def values(self, c: Tensor) -> Tensor:
        """1 where known, 0 elsewhere."""
        return self.known.to(c)

    def coefficients(self, y: Tensor) -> Tensor:
        """y itself."""
        return y

    def measurement(self, c: Tensor) -> Tensor:
        """c itself."""
        return c

    def select(self, rows: Int64[Tensor, "rows"], y: Tensor) -> "Mask":
        """The masks of those samples, where each of a batch has its own."""
        own = self.known.ndim == y.ndim and len(self.known) == len(y) > 1
        return Mask(self.known[rows.to(self.known.device)]) if own else self


@dataclass(frozen=True)
class Grey(Spectral):
    """The mean over channels, ``(batch, 1, *rest)``; the rest is colour (the paper's orthogonal basis).

    >>> Grey(2).apply(torch.tensor([[[0.0], [2.0]]])).round(decimals=4)
    tensor([[[1.]]])
    """

    channels: int = 3

    def __post_init__(self) -> None:
        if self.channels < 2:
            raise ValueError(f"Grey of {self.channels} channels, expected 2 or more")

    def spectrum(self, x: Data) -> Tensor:
        """The channels in an orthonormal basis that begins with their mean."""
        if x.ndim < 2 or x.shape[1] != self.channels:
            raise ValueError(f"data of shape {tuple(x.shape[1:])}, expected {self.channels} channels first")
        return torch.einsum("ij,bj...->bi...", _basis_of_mean(self.channels, x), x)

    def data(self, c: Tensor) -> Data:
        """Back to channels."""
        return torch.einsum("ij,bi...->bj...", _basis_of_mean(self.channels, c), c)

    def values(self, c: Tensor) -> Tensor:
        """1/sqrt(channels) for the first."""
        return _first(self.channels, 1 / math.sqrt(self.channels), c).reshape(-1, *[1] * (c.ndim - 2))

    def coefficients(self, y: Tensor) -> Tensor:
        """y, before zeros."""
        return torch.cat([y, y.new_zeros(len(y), self.channels - 1, *y.shape[2:])], 1)

    def measurement(self, c: Tensor) -> Tensor:
        """The first of the basis."""
        return c[:, :1]


@dataclass(frozen=True)
class Average(Spectral):
    """The means of blocks of `factor` by `factor` pixels: images (batch, …, height, width) of lower resolution.

    >>> Average(2).apply(torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]]))
    tensor([[[[3.]]]])
    """

    factor: int

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"Average of blocks of {self.factor} by {self.factor} pixels, expected 2 or more")

    def spectrum(self, x: Data) -> Tensor:
        """(batch, …, height/factor, width/factor, factor²): each block in a basis that begins with its mean."""
        if x.ndim < 3:
            raise ValueError(f"data of shape {tuple(x.shape[1:])}, expected images: (…, height, width)")
        *rest, height, width = x.shape
        k = self.factor
        if height % k or width % k:
            raise ValueError(
                f"Average of blocks of {k} by {k} with images of {height} by {width}: give a divisor of both"
            )
        blocks = x.reshape(*rest, height // k, k, width // k, k).transpose(-3, -2).flatten(-2)
        return blocks @ _basis_of_mean(k * k, x).T

    def data(self, c: Tensor) -> Data:
        """Back to pixels."""
        *rest, height, width, _ = c.shape
        k = self.factor
        blocks = (c @ _basis_of_mean(k * k, c)).reshape(*rest, height, width, k, k)
        return blocks.transpose(-3, -2).reshape(*rest, height * k, width * k)

    def values(self, c: Tensor) -> Tensor:
        """1/factor for the first of a block."""
        return _first(self.factor**2, 1 / self.factor, c)

    def coefficients(self, y: Tensor) -> Tensor:
        """y, before zeros."""
        return torch.cat([y[..., None], y.new_zeros(*y.shape, self.factor**2 - 1)], -1)

    def measurement(self, c: Tensor) -> Tensor:
        """The first of each block."""
        return c[..., 0]


class Matrix(Spectral):
    """A matrix (measurements, dim) that multiplies flattened data of `shape`; its decomposition is computed once.

    >>> Matrix(torch.tensor([[1.0, 2.0]]), (2,)).apply(torch.ones(1, 2))
    tensor([[3.]])
    """

    def __init__(self, matrix: Float[Tensor, "measured dim"], shape: tuple[int, ...]) -> None:
        if matrix.ndim != 2 or matrix.shape[1] != math.prod(shape):
            raise ValueError(
                f"Matrix of {tuple(matrix.shape)} for data {shape} of {math.prod(shape)} numbers, expected one column "
                "for each"
            )
        if matrix.dtype not in (torch.float32, torch.float64):
            kind = str(matrix.dtype).removeprefix("torch.")
            raise ValueError(f"Matrix of {kind}, expected float32 or float64")
        if not bool(matrix.isfinite().all()):
            raise ValueError("Matrix with entries that are not finite: mend them")
        self.matrix, self.shape = matrix, tuple(shape)
        self._left, values, self._right = torch.linalg.svd(matrix)
        self._values = torch.cat([values, values.new_zeros(matrix.shape[1] - len(values))])

    def apply(self, x: Data) -> Tensor:
        """The product itself."""
        y: Tensor = x.flatten(1) @ self.matrix.to(x).T
        return y

    def spectrum(self, x: Data) -> Tensor:
        """In the right singular vectors."""
        c: Tensor = x.flatten(1) @ self._right.to(x).T
        return c

    def data(self, c: Tensor) -> Data:
        """Back from the right singular vectors."""
        x: Tensor = c @ self._right.to(c)
        return x.reshape(len(c), *self.shape)

    def values(self, c: Tensor) -> Tensor:
        """The singular values, and zeros."""
        return self._values.to(c)

    def coefficients(self, y: Tensor) -> Tensor:
        """In the left singular vectors."""
        c = (y @ self._left.to(y))[:, : len(self._values)]
        return torch.cat([c, c.new_zeros(len(c), len(self._values) - c.shape[1])], 1)

    def measurement(self, c: Tensor) -> Tensor:
        """Back from the left singular vectors."""
        y: Tensor = c[:, : len(self._left)] @ self._left.to(c)[:, : c.shape[1]].T
        return y


@dataclass(frozen=True)
class Linear(Operator):
    """Any linear `function` of a batch of data of `shape`; autograd gives the adjoint.

    >>> difference = Linear(lambda x: x.diff(dim=1), (3,))
    >>> difference.adjoint(torch.ones(1, 2))
    tensor([[-1.,  0.,  1.]])
    """

    function: Callable[[Data], Tensor] = field(repr=False)
    shape: tuple[int, ...]

    def apply(self, x: Data) -> Tensor:
        """The function of x."""
        return self.function(x)

    def adjoint(self, y: Tensor) -> Data:
        """The function's derivative, transposed."""
        real = torch.zeros((), dtype=y.dtype).real.dtype
        with torch.enable_grad(), torch.inference_mode(False):
            x = torch.zeros(len(y), *self.shape, dtype=real, device=y.device, requires_grad=True)
            (found,) = torch.autograd.grad(self.function(x), x, y.clone())
        return found


@dataclass(frozen=True)
class Physics(Operator):
    """A linear physics of deepinv, or any object with `A(x)` and `A_adjoint(y)`."""

    physics: Any

    def apply(self, x: Data) -> Tensor:
        """Its A."""
        y: Tensor = self.physics.A(x)
        return y

    def adjoint(self, y: Tensor) -> Data:
        """Its A_adjoint."""
        x: Tensor = self.physics.A_adjoint(y)
        return x


@dataclass(frozen=True)
class Composed(Operator):
    """`inner` first, then `outer`."""

    outer: Operator
    inner: Operator

    def apply(self, x: Data) -> Tensor:
        """Both."""
        return self.outer.apply(self.inner.apply(x))

    def adjoint(self, y: Tensor) -> Data:
        """Both adjoints, backwards."""
        return self.inner.adjoint(self.outer.adjoint(y))

    def select(self, rows: Int64[Tensor, "rows"], y: Tensor) -> "Composed":
        """Both for these samples."""
        return Composed(self.outer.select(rows, y), self.inner.select(rows, self.outer.adjoint(y)))


def _basis_of_mean(count: int, like: Tensor) -> Tensor:
    """Orthonormal rows (count, count), the first of them constant: Helmert's."""
    index = torch.arange(count, dtype=torch.float64)
    row, column = index[:, None], index[None]
    lower = torch.where(column < row, 1.0, torch.where(column == row, -row, 0.0))
    lower[0] = 1.0
    basis: Tensor = lower / lower.norm(dim=1, keepdim=True)
    return basis.to(like)


def _first(count: int, value: float, like: Tensor) -> Tensor:
    """(value, 0, 0, …)."""
    return torch.cat([like.new_full((1,), value), like.new_zeros(count - 1)])
