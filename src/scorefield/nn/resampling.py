r"""Halving and doubling the resolution of images.

A FIR filter with taps k (an even number L of them, normalized to sum 1) makes resampling alias-free (Zhang 2019; Karras
et al. 2020):

.. math::
    \text{down:}\quad y_o = \sum_j k_{L-1-j}\, x_{2o + j - (L/2-1)} \qquad (1) \\
    \text{up:}\quad y_o = 2 \sum_i k_{o - 2i + (L/2-1)}\, x_i \qquad\quad (2)

along each axis of series, images or volumes. (1) is a strided and (2) a transposed convolution of every channel by
itself. Taps (1, 1) are the box filter: the mean of two neighbours, and repetition.

PyTorch's kernels for these are vectorized over channels, and on a CPU only in float32: with channels last and in
float32 they take a few per cent of the time that they take otherwise, and next to nothing of a network's.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from scorefield.nn.layers import Features, convolution
from scorefield.shapes import single

BOX = (1.0, 1.0)

_POOL = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
_CONVOLVE = (functional.conv1d, functional.conv2d, functional.conv3d)
_SPREAD = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)


def channels_last(x: Features, function: Callable[[Features], Features]) -> Features:
    """``function`` of x, computed with channels last; in the layout of x."""
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim, torch.contiguous_format)
    y = function(x.contiguous(memory_format=layout))
    return y.contiguous() if x.is_contiguous() else y


def repeated(x: Features) -> Features:
    """Images of twice the size, each pixel repeated."""
    return channels_last(x, partial(functional.interpolate, scale_factor=2.0, mode="nearest"))


def filtered(x: Features, kernel: Features, *, stride: int = 1, padding: int, transposed: bool = False) -> Features:
    """Each channel convolved by its filter, in float32 or better; in the dtype of x."""
    convolve = (_SPREAD if transposed else _CONVOLVE)[x.ndim - 3]
    y = single(x)
    with torch.autocast(x.device.type, enabled=False):
        convolved = partial(convolve, weight=kernel.to(y.dtype), stride=stride, padding=padding, groups=len(kernel))
        return channels_last(y, convolved).to(x.dtype)


def filter_kernel(
    channels: int, taps: Sequence[float], dims: int = 2, gain: float = 1.0
) -> Float[Tensor, "channels 1 ..."]:
    """The separable filter of ``taps`` along ``dims`` axes with the sum ``gain``, once per channel.

    >>> filter_kernel(1, (1.0, 3.0, 3.0, 1.0)).sum()
    tensor(1.)
    """
    if len(taps) % 2 or not taps or sum(taps) == 0:
        raise ValueError(f"a resampling filter needs an even number of taps with a sum other than 0, got {tuple(taps)}")
    line = torch.tensor([float(tap) for tap in taps]).div_(sum(taps))
    kernel = torch.tensor(gain)
    for _ in range(dims):
        kernel = kernel[..., None].repeat(*[1] * kernel.ndim, len(taps)).mul_(line)
    return kernel.expand(channels, 1, *kernel.shape).contiguous()


class Downsample(nn.Module):
    """Filter and halve the resolution, equation (1)."""

    kernel: Tensor

    def __init__(self, channels: int, taps: Sequence[float], dims: int = 2) -> None:
        super().__init__()
        self.register_buffer("kernel", filter_kernel(channels, taps[::-1], dims), persistent=False)
        self.box = len(taps) == 2 and taps[0] == taps[1]
        self.dims = dims

    def forward(self, x: Features) -> Features:
        """Images of half the size."""
        if self.box:
            return channels_last(x, partial(_POOL[self.dims - 1], kernel_size=2))
        return filtered(x, self.kernel, stride=2, padding=self.kernel.shape[-1] // 2 - 1)


class Upsample(nn.Module):
    """Double the resolution and filter, equation (2).

    >>> Upsample(1, BOX)(torch.tensor([[[[1.0, 2.0]]]]))
    tensor([[[[1., 1., 2., 2.],
              [1., 1., 2., 2.]]]])
    """

    kernel: Tensor

    def __init__(self, channels: int, taps: Sequence[float], dims: int = 2) -> None:
        super().__init__()
        self.register_buffer("kernel", filter_kernel(channels, taps, dims, gain=2.0**dims), persistent=False)
        self.box = len(taps) == 2 and taps[0] == taps[1]
        self.dims = dims

    def forward(self, x: Features) -> Features:
        """Images of twice the size."""
        if self.box:
            return repeated(x)
        padding = self.kernel.shape[-1] // 2 - 1
        return filtered(x, self.kernel, stride=2, padding=padding, transposed=True)


class ConvDownsample(nn.Module):
    """Filter and convolve with a stride of two; without a filter (``taps=None``) only convolve."""

    kernel: Tensor | None

    def __init__(self, inputs: int, outputs: int, taps: Sequence[float] | None, dims: int = 2) -> None:
        super().__init__()
        kernel = None if taps is None else filter_kernel(inputs, taps[::-1], dims)
        self.register_buffer("kernel", kernel, persistent=False)
        self.conv = convolution(dims, inputs, outputs, stride=2, padding=0)
        self.dims = dims

    def forward(self, x: Features) -> Features:
        """Images of half the size."""
        if self.kernel is None:
            x = functional.pad(x, (0, 1) * self.dims)
        else:
            x = filtered(x, self.kernel, padding=self.kernel.shape[-1] // 2)
        return self.conv(x)  # type: ignore[no-any-return]


class ConvUpsample(nn.Module):
    """Convolve, transposed, with a stride of two and filter; without a filter (``taps=None``) repeat and convolve."""

    kernel: Tensor | None

    def __init__(self, inputs: int, outputs: int, taps: Sequence[float] | None, dims: int = 2) -> None:
        super().__init__()
        kernel = None if taps is None else filter_kernel(outputs, taps[::-1], dims, gain=2.0**dims)
        self.register_buffer("kernel", kernel, persistent=False)
        self.conv = convolution(dims, inputs, outputs)
        self.dims = dims

    def forward(self, x: Features) -> Features:
        """Images of twice the size."""
        if self.kernel is None:
            return self.conv(repeated(x))  # type: ignore[no-any-return]
        axes = tuple(range(2, 2 + self.dims))
        spread = _SPREAD[self.dims - 1](x, self.conv.weight.flip(axes).transpose(0, 1), stride=2)
        smooth = filtered(spread, self.kernel, padding=self.kernel.shape[-1] // 2 - 1)
        if self.conv.bias is None:
            return smooth
        return smooth + self.conv.bias.view(-1, *[1] * self.dims)
