"""What is known of data: y = A x + s n."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from scorefield.guidance.operators import Operator, Spectral
from scorefield.guidance.systems import solve
from scorefield.shapes import Data, Time, expand

_TOL, _ITERATIONS = 1e-6, 100
"""Of systems that cost no evaluation."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """y = A x + s n in model units: an operator, y ``(batch, *measured)``, and s, that of every number of y.

    >>> from scorefield.guidance.operators import Mask
    >>> Measurement(Mask(torch.tensor([True, False])), torch.ones(1, 2)).residual(torch.zeros(1, 2))
    tensor([[1., 0.]])
    """

    operator: Operator
    y: Tensor
    std: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.std < math.inf:
            raise ValueError(f"a measurement with noise of {self.std}, expected 0 or more")

    def spectral(self, who: object) -> Spectral:
        """The operator, or a TypeError that says who needs its singular values."""
        if not isinstance(self.operator, Spectral):
            raise TypeError(
                f"{type(who).__name__} needs singular values, which {type(self.operator).__name__} does not know: give "
                "a Matrix, or take another method"
            )
        return self.operator

    def select(self, rows: Int64[Tensor, "rows"]) -> "Measurement":
        """Of some samples of the batch; one measurement is that of all. Raises ValueError where they end."""
        if len(self.y) == 1:
            return self
        if len(rows) and int(rows.max()) >= len(self.y):
            raise ValueError(
                f"{len(self.y)} measurements, and a sample of number {int(rows.max())}: give one, or one for each"
            )
        return Measurement(self.operator.select(rows, self.y), self.y[rows.to(self.y.device)], self.std)

    def residual(self, x: Data) -> Tensor:
        """y - A x, where A measures."""
        if isinstance(self.operator, Spectral):
            operator, c = self.operator, self.operator.spectrum(x)
            kept = torch.where(operator.seen(c), operator.coefficients(self.y) - operator.values(c) * c, 0)
            return operator.measurement(kept)
        return self.y - self.operator.apply(x)

    def errors(self, c: Tensor) -> Tensor:
        """The deviation e = s/d of each coordinate of a spectrum `c`, where it was measured."""
        operator = self.spectral(self)
        seen = operator.seen(c)
        return torch.where(seen, self.std / torch.where(seen, operator.values(c).abs(), 1), torch.inf)

    def enforced(self, x: Data) -> Data:
        """x with the measured part as measured, where that is known without noise and has singular values."""
        exact = self.std == 0 and isinstance(self.operator, Spectral)
        return self.spectral(self).project(x, self.y) if exact else x

    def regularized(self, b: Tensor, variance: Time, spread: Time) -> Tensor:
        """(variance + spread A A')^-1 b, as far as the adjoint sees it: a division where there are singular values."""
        operator = self.operator
        if isinstance(operator, Spectral):
            c = operator.coefficients(b)
            whole = expand(variance, c) + expand(spread, c) * operator.values(c) ** 2
            return operator.measurement(torch.where(operator.seen(c), c / whole, 0))

        def system(w: Tensor) -> Tensor:
            return expand(variance, w) * w + expand(spread, w) * operator.apply(operator.adjoint(w))

        return solve(system, b, tol=_TOL, iterations=_ITERATIONS)
