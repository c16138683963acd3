"""Operators that multiply frequencies: blur, and Fourier coefficients of which some are known.

Their spectrum is Hartley's, cas = cos + sin, of the last two dimensions: real, orthonormal and its own inverse.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scorefield.guidance.operators import Spectral
from scorefield.shapes import Data, single


@dataclass(frozen=True, eq=False)
class Blur(Spectral):
    """Circular convolution of the last two dimensions with a `kernel` (height, width) whose middle is the origin.

    d is the modulus of the kernel's transform, and its phase is U.
    """

    kernel: Float[Tensor, "height width"]

    def __post_init__(self) -> None:
        if self.kernel.ndim != 2 or not bool(self.kernel.isfinite().all()) or not bool(self.kernel.any()):
            raise ValueError(
                f"Blur with a kernel of shape {tuple(self.kernel.shape)}, expected a matrix of numbers that are finite "
                "and not all zero"
            )

    @classmethod
    def gaussian(cls, std: float, size: int | None = None) -> "Blur":
        """A Gaussian of standard deviation `std` pixels, of 3 of them to each side or of `size` pixels, an odd number.

        >>> float(Blur.gaussian(1.0).kernel.sum())
        1.0
        """
        if not 0 < std < math.inf:
            raise ValueError(f"blur of {std} pixels, expected a positive number")
        if size is not None and (size < 1 or size % 2 == 0):
            raise ValueError(f"a kernel of {size} pixels, expected an odd number of them")
        half = math.ceil(3 * std) if size is None else size // 2
        line = torch.exp(-0.5 * (torch.arange(-half, half + 1, dtype=torch.float64) / std) ** 2)
        kernel = torch.outer(line, line)
        return cls(kernel / kernel.sum())

    def _transfer(self, like: Tensor) -> Tensor:
        """The kernel's transform at the frequencies of `like`."""
        height, width = like.shape[-2:]
        like = single(like)
        kernel = self.kernel.to(like)
        rows, columns = (torch.arange(n, device=like.device) - n // 2 for n in kernel.shape)
        whole = like.new_zeros(height, width)
        whole.index_put_((rows[:, None] % height, columns[None] % width), kernel, accumulate=True)
        transfer: Tensor = torch.fft.fft2(whole)
        return transfer

    def _turn(self, x: Tensor, *, back: bool = False) -> Tensor:
        """The phase of the kernel's transform."""
        transfer = self._transfer(x)
        modulus = transfer.abs()
        phase = torch.where(modulus > 0, transfer / modulus.clamp(min=torch.finfo(modulus.dtype).tiny), 1)
        turned: Tensor = torch.fft.ifft2(torch.fft.fft2(single(x)) * (phase.conj() if back else phase)).real
        return turned.to(x.dtype)

    def spectrum(self, x: Data) -> Tensor:
        """Hartley's transform."""
        return _hartley(x)

    def data(self, c: Tensor) -> Data:
        """Hartley's transform, its own inverse."""
        return _hartley(c)

    def values(self, c: Tensor) -> Tensor:
        """The modulus of the kernel's transform."""
        return self._transfer(c).abs().to(c.dtype)

    def coefficients(self, y: Tensor) -> Tensor:
        """Hartley's transform, after the phase is turned back."""
        return _hartley(self._turn(y, back=True))

    def measurement(self, c: Tensor) -> Tensor:
        """Its inverse."""
        return self._turn(_hartley(c))


@dataclass(frozen=True, eq=False)
class Fourier(Spectral):
    """The Fourier coefficients (orthonormal, complex) of the last two dimensions where `known` (height, width) is True.

    Data are real: a coefficient and that of the opposite frequency say the same, and where both are known, both count.
    Measurements are (batch, …, height, width) with zeros elsewhere.
    """

    known: Bool[Tensor, "height width"]

    def spectrum(self, x: Data) -> Tensor:
        """Hartley's transform."""
        return _hartley(x)

    def data(self, c: Tensor) -> Data:
        """Hartley's transform, its own inverse."""
        return _hartley(c)

    def values(self, c: Tensor) -> Tensor:
        """1 where a frequency and its opposite are known, sqrt(1/2) where one of them is, 0 elsewhere."""
        opposite = self.known.flip(0, 1).roll((1, 1), (0, 1))
        return torch.sqrt(0.5 * (self.known.to(c) + opposite.to(c)))

    def coefficients(self, y: Tensor) -> Tensor:
        """Hartley's transform of the real image nearest to these coefficients, each half seen made whole."""
        image = torch.fft.ifft2(torch.where(self.known.to(y.device), y, 0), norm="ortho").real
        return self._unscaled(_hartley(image))

    def measurement(self, c: Tensor) -> Tensor:
        """The known coefficients."""
        image = single(_hartley(self._unscaled(c)))
        return torch.where(self.known.to(c.device), torch.fft.fft2(image, norm="ortho"), 0)

    def _unscaled(self, c: Tensor) -> Tensor:
        d = self.values(c)
        return torch.where(d > 0, c / torch.where(d > 0, d, 1), 0)


def _hartley(x: Tensor) -> Tensor:
    if x.ndim < 3:
        raise ValueError(f"data of shape {tuple(x.shape[1:])}, expected images: (…, height, width)")
    transform: Tensor = torch.fft.fft2(single(x), norm="ortho")
    return (transform.real - transform.imag).to(x.dtype)
