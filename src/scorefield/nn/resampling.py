r"""Halving and doubling the resolution of images.

A FIR filter with taps k (an even number L of them, normalized to sum 1) makes resampling alias-free (Zhang 2019; Karras
et al. 2020):

.. math::
    \text{down:}\quad y_o = \sum_j k_{L-1-j}\, x_{2o + j - (L/2-1)} \qquad (1) \\
    \text{up:}\quad y_o = 2 \sum_i k_{o - 2i + (L/2-1)}\, x_i \qquad\quad (2)

along each axis. (1) is a strided and (2) a transposed convolution of every channel by itself. Taps (1, 1) are the box
filter: the mean of two neighbours, and repetition.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield.nn.layers import Images, conv3x3

BOX = (1.0, 1.0)


def filter_kernel(channels: int, taps: Sequence[float], gain: float = 1.0) -> Float[Tensor, "channels 1 size size"]:
    """The separable filter of ``taps`` with the sum ``gain``, once per channel.

    >>> filter_kernel(1, (1.0, 3.0, 3.0, 1.0)).sum()
    tensor(1.)
    """
    if len(taps) % 2 or not taps or sum(taps) == 0:
        raise ValueError(f"a resampling filter needs an even number of taps with a sum other than 0, got {tuple(taps)}")
    line = torch.tensor([float(tap) for tap in taps]) / sum(taps)
    return (gain * torch.outer(line, line)).expand(channels, 1, -1, -1).contiguous()


class Downsample(nn.Module):
    """Filter and halve the resolution, equation (1)."""

    kernel: Tensor

    def __init__(self, channels: int, taps: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("kernel", filter_kernel(channels, taps[::-1]), persistent=False)
        self.box = len(taps) == 2 and taps[0] == taps[1]

    def forward(self, x: Images) -> Images:
        """Images of half the height and width."""
        if self.box:
            return nn.functional.avg_pool2d(x, 2)
        return nn.functional.conv2d(
            x, self.kernel, stride=2, padding=self.kernel.shape[-1] // 2 - 1, groups=len(self.kernel)
        )


class Upsample(nn.Module):
    """Double the resolution and filter, equation (2).

    >>> Upsample(1, BOX)(torch.tensor([[[[1.0, 2.0]]]]))
    tensor([[[[1., 1., 2., 2.],
              [1., 1., 2., 2.]]]])
    """

    kernel: Tensor

    def __init__(self, channels: int, taps: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("kernel", filter_kernel(channels, taps, gain=4.0), persistent=False)
        self.box = len(taps) == 2 and taps[0] == taps[1]

    def forward(self, x: Images) -> Images:
        """Images of twice the height and width."""
        if self.box:
            return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
        padding = self.kernel.shape[-1] // 2 - 1
        return nn.functional.conv_transpose2d(x, self.kernel, stride=2, padding=padding, groups=len(self.kernel))


class ConvDownsample(nn.Module):
    """Filter and convolve with a stride of two; without a filter (``taps=None``) only convolve."""

    kernel: Tensor | None

    def __init__(self, inputs: int, outputs: int, taps: Sequence[float] | None) -> None:
        super().__init__()
        self.register_buffer("kernel", None if taps is None else filter_kernel(inputs, taps[::-1]), persistent=False)
        self.conv = conv3x3(inputs, outputs, stride=2, padding=0)

    def forward(self, x: Images) -> Images:
        """Images of half the height and width."""
        if self.kernel is None:
            filtered = nn.functional.pad(x, (0, 1, 0, 1))
        else:
            filtered = nn.functional.conv2d(x, self.kernel, padding=self.kernel.shape[-1] // 2, groups=len(self.kernel))
        return self.conv(filtered)  # type: ignore[no-any-return]


class ConvUpsample(nn.Module):
    """Convolve, transposed, with a stride of two and filter; without a filter (``taps=None``) repeat and convolve."""

    kernel: Tensor | None

    def __init__(self, inputs: int, outputs: int, taps: Sequence[float] | None) -> None:
        super().__init__()
        kernel = None if taps is None else filter_kernel(outputs, taps[::-1], gain=4.0)
        self.register_buffer("kernel", kernel, persistent=False)
        self.conv = conv3x3(inputs, outputs)

    def forward(self, x: Images) -> Images:
        """Images of twice the height and width."""
        if self.kernel is None:
            return self.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))  # type: ignore[no-any-return]
        weight = self.conv.weight.flip(2, 3).transpose(0, 1)
        spread = nn.functional.conv_transpose2d(x, weight, stride=2)
        filtered = nn.functional.conv2d(
            spread, self.kernel, padding=self.kernel.shape[-1] // 2 - 1, groups=len(self.kernel)
        )
        if self.conv.bias is None:
            return filtered
        return filtered + self.conv.bias[:, None, None]
