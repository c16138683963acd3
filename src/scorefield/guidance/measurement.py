"""What is known of data: y = A x + s n."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from scorefield.guidance.operators import Operator, Spectral
from scorefield.guidance.systems import solve
from scorefield.shapes import Data, expand


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
        if not self.std >= 0:
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
        """Of some samples of the batch."""
        batch = len(self.y)
        return Measurement(self.operator.select(rows, batch), self.y[rows.to(self.y.device)], self.std)

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

    def explained(
        self, system: Callable[[Tensor], Tensor], x: Data, variance: Tensor, *, tol: float, iterations: int
    ) -> Data:
        """A' (variance + B)^-1 (y - A x), iteratively; `system` is w to B w, `variance` () or (batch,)."""

        def whole(w: Tensor) -> Tensor:
            return expand(variance, w) * w + system(w)

        return self.operator.adjoint(solve(whole, self.residual(x), tol=tol, iterations=iterations))
