r"""Image pyramids beside a U-Net: shortcuts from its input and to its output at every resolution (Karras et al. 2020).

Each module takes the pyramid and the features h of one resolution and returns both for the next step:

- **input skip**: the halved input image, 1×1-convolved, is added to (or concatenated with) h.
- **residual input**: a halved, convolved running sum of the pyramid and h replaces both.
- **output skip**: h is normalized and convolved to an image, which is added to the doubled pyramid; the last sum is the
  output.
- **residual output**: a doubled, convolved running sum of the pyramid and h replaces both.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from scorefield.nn.blocks import Head, add_
from scorefield.nn.layers import Features, convolution
from scorefield.nn.resampling import ConvDownsample, ConvUpsample, Downsample, Upsample

ProgressiveInput = Literal["none", "input_skip", "residual"]
ProgressiveOutput = Literal["none", "output_skip", "residual"]
Combine = Literal["sum", "cat"]


class InputSkip(nn.Module):
    """Halve the pyramid and merge its projection into h: a sum, or a concatenation, which doubles the channels of h."""

    def __init__(self, image_channels: int, channels: int, taps: Sequence[float], combine: Combine, dims: int) -> None:
        super().__init__()
        self.down = Downsample(image_channels, taps, dims)
        self.conv = convolution(dims, image_channels, channels, 1)
        self.concatenates = combine == "cat"

    def forward(self, pyramid: Features, h: Features) -> tuple[Features, Features]:
        """The halved pyramid and the merged features."""
        pyramid = self.down(pyramid)
        projected: Tensor = self.conv(pyramid)
        return pyramid, torch.cat([projected, h], dim=1) if self.concatenates else projected + h


class ResidualInput(nn.Module):
    """Halve and convolve the pyramid and add h to it; the sum is the new pyramid and the new h."""

    def __init__(self, inputs: int, outputs: int, taps: Sequence[float] | None, rescale: bool, dims: int) -> None:
        super().__init__()
        self.down = ConvDownsample(inputs, outputs, taps, dims)
        self.rescale = rescale

    def forward(self, pyramid: Features, h: Features) -> tuple[Features, Features]:
        """The sum, twice."""
        pyramid = add_(self.down(pyramid), h, self.rescale)
        return pyramid, pyramid


class OutputStart(nn.Module):
    """Start the pyramid of either kind, at the lowest resolution, with ``head`` of h; h stays as it is."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, _: None, h: Features) -> tuple[Features, Features]:
        """The first pyramid and h."""
        return self.head(h), h


class OutputSkip(nn.Module):
    """Add the image that ``head`` makes of h to the doubled pyramid; h stays as it is."""

    def __init__(self, head: Head, image_channels: int, taps: Sequence[float], dims: int) -> None:
        super().__init__()
        self.up = Upsample(image_channels, taps, dims)
        self.head = head

    def forward(self, pyramid: Features, h: Features) -> tuple[Features, Features]:
        """The new pyramid and h."""
        return self.up(pyramid) + self.head(h), h


class ResidualOutput(nn.Module):
    """Double and convolve the pyramid and add h to it; the sum is the new pyramid and the new h."""

    def __init__(self, inputs: int, outputs: int, taps: Sequence[float] | None, rescale: bool, dims: int) -> None:
        super().__init__()
        self.up = ConvUpsample(inputs, outputs, taps, dims)
        self.rescale = rescale

    def forward(self, pyramid: Features, h: Features) -> tuple[Features, Features]:
        """The sum, twice."""
        pyramid = add_(self.up(pyramid), h, self.rescale)
        return pyramid, pyramid
