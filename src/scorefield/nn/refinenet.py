r"""RefineNet with dilated convolutions (Lin et al. 2017; Yu & Koltun 2016), the shape of NCSN and NCSNv2.

An **encoder** of stages goes from fine to coarse. Every stage after the first begins by looking further: it either
halves the resolution (the mean of 2×2 pixels) or, at the lowest resolution, dilates its convolutions by 2 and then 4,
so that the features see the whole image without losing more pixels.

A **decoder** goes back with one refinement block per stage, coarse to fine. Each takes the features of its stage and
what the coarser block made, and does four things:

1. *adapts* each of the two by two residual units (nonlinearity and convolution, twice, added to the input);
2. *fuses* them: a convolution of each, the coarser interpolated to the size of the finer, and their sum;
3. *pools in a chain*: a 5×5 pooling and a convolution, twice, each result added to a running sum, which gathers context
   from ever larger windows;
4. passes the sum through one more residual unit, three in the last block.

Blocks of the decoder have no biases except where they fuse. With ``levels`` > 0 a conditional normalization comes
before every convolution and tells it the noise level, and pooling takes means; without, only the encoder normalizes
and pooling takes maxima.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield.nn.layers import Activation, activation
from scorefield.nn.normalization import ConditionalInstanceNormPlus, Images, InstanceNormPlus, Level, Unnormalized


def conv3x3(inputs: int, outputs: int, *, dilation: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 3×3 convolution that keeps the size, with weights uniform in ±1/√fan_in as in the published training."""
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=bias)


def conditional(channels: int, levels: int) -> nn.Module:
    """The normalization before a convolution of the decoder: a conditional one, or with ``levels=0`` none."""
    return ConditionalInstanceNormPlus(channels, levels) if levels else Unnormalized()


def normalization(channels: int, levels: int) -> nn.Module:
    """The normalization before a convolution of the encoder: a conditional one, or with ``levels=0`` a plain one."""
    return ConditionalInstanceNormPlus(channels, levels) if levels else InstanceNormPlus(channels)


class DilatedBlock(nn.Module):
    """A residual block of the encoder: twice normalization, nonlinearity and convolution, added to the input.

    A block that ``begins`` a stage convolves the input too; without dilation it also halves the resolution of both.
    """

    def __init__(
        self, inputs: int, outputs: int, *, dilation: int, begins: bool, levels: int, nonlinearity: Activation
    ) -> None:
        super().__init__()
        self.norm1 = normalization(inputs, levels)
        self.conv1 = conv3x3(inputs, inputs, dilation=dilation)
        self.norm2 = normalization(inputs, levels)
        self.conv2 = conv3x3(inputs, outputs, dilation=dilation)
        self.halves = begins and dilation == 1
        self.shortcut: nn.Conv2d | None = None
        if begins:
            self.shortcut = (
                nn.Conv2d(inputs, outputs, 1) if self.halves else conv3x3(inputs, outputs, dilation=dilation)
            )
        self.activation = activation(nonlinearity)

    def forward(self, x: Images, level: Level | None) -> Images:
        """Images after the block."""
        h: Tensor = self.conv1(self.activation(self.norm1(x, level)))
        h = self.conv2(self.activation(self.norm2(h, level)))
        if self.halves:
            h, x = nn.functional.avg_pool2d(h, 2), nn.functional.avg_pool2d(x, 2)
        return h + (x if self.shortcut is None else self.shortcut(x))


class Stage(nn.Module):
    """Two blocks of the encoder with one dilation; the first stage ``begins`` nothing, the others do."""

    def __init__(
        self, inputs: int, outputs: int, *, dilation: int, begins: bool, levels: int, nonlinearity: Activation
    ) -> None:
        super().__init__()
        self.block1 = DilatedBlock(
            inputs, outputs, dilation=dilation, begins=begins, levels=levels, nonlinearity=nonlinearity
        )
        self.block2 = DilatedBlock(
            outputs, outputs, dilation=dilation, begins=False, levels=levels, nonlinearity=nonlinearity
        )

    @property
    def halves(self) -> bool:
        """Whether the stage halves the resolution."""
        return self.block1.halves

    def forward(self, x: Images, level: Level | None) -> Images:
        """Features of this stage."""
        return self.block2(self.block1(x, level), level)  # type: ignore[no-any-return]


class ResidualUnit(nn.Module):
    """Twice nonlinearity and convolution, added to the input."""

    def __init__(self, channels: int, levels: int, nonlinearity: Activation) -> None:
        super().__init__()
        self.norm1 = conditional(channels, levels)
        self.conv1 = conv3x3(channels, channels, bias=False)
        self.norm2 = conditional(channels, levels)
        self.conv2 = conv3x3(channels, channels, bias=False)
        self.activation = activation(nonlinearity)

    def forward(self, x: Images, level: Level | None) -> Images:
        """Images after the unit."""
        h: Tensor = self.conv1(self.activation(self.norm1(x, level)))
        return x + self.conv2(self.activation(self.norm2(h, level)))  # type: ignore[no-any-return]


class ResidualUnits(nn.Module):
    """``count`` residual units in a row."""

    def __init__(self, count: int, channels: int, levels: int, nonlinearity: Activation) -> None:
        super().__init__()
        self.units = nn.ModuleList(ResidualUnit(channels, levels, nonlinearity) for _ in range(count))

    def forward(self, x: Images, level: Level | None) -> Images:
        """Images after the units."""
        for unit in self.units:
            x = unit(x, level)
        return x


class Fusion(nn.Module):
    """The sum of two convolved feature maps, the second one interpolated to the size of the first.

    The interpolation is bilinear, with the centres of the corner pixels in the same place.
    """

    def __init__(self, inputs: int, outputs: int, levels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(conditional(inputs, levels) for _ in range(2))
        self.convs = nn.ModuleList(conv3x3(inputs, outputs) for _ in range(2))

    def forward(self, fine: Images, coarse: Images, level: Level | None) -> Images:
        """The sum, of the size of ``fine``."""
        fine, coarse = (
            conv(norm(x, level)) for conv, norm, x in zip(self.convs, self.norms, (fine, coarse), strict=True)
        )
        if coarse.shape != fine.shape:
            coarse = nn.functional.interpolate(coarse, fine.shape[2:], mode="bilinear", align_corners=True)
        return fine + coarse


class ChainedPooling(nn.Module):
    """A sum of what a chain of 5×5 poolings and convolutions makes of the input, link after link, and of the input.

    Poolings take means with noise levels (zeros beyond the border count) and maxima without. On a CPU they run over
    channels last, where PyTorch takes maxima thirty times as fast.
    """

    def __init__(self, channels: int, levels: int, nonlinearity: Activation) -> None:
        super().__init__()
        self.norms = nn.ModuleList(conditional(channels, levels) for _ in range(2))
        self.convs = nn.ModuleList(conv3x3(channels, channels, bias=False) for _ in range(2))
        self.pool = nn.AvgPool2d(5, 1, 2) if levels else nn.MaxPool2d(5, 1, 2)
        self.activation = activation(nonlinearity)

    def forward(self, x: Images, level: Level | None) -> Images:
        """Images after the chain."""
        x = link = self.activation(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            link = norm(link, level)
            if link.device.type == "cpu":
                link = link.contiguous(memory_format=torch.channels_last)
            link = conv(self.pool(link))
            x = x + link
        return x


class RefineBlock(nn.Module):
    """A block of the decoder: adapt, fuse, pool in a chain and refine; the ``lowest`` has nothing to fuse."""

    def __init__(
        self, inputs: int, outputs: int, *, lowest: bool, highest: bool, levels: int, nonlinearity: Activation
    ) -> None:
        super().__init__()
        self.adapt = nn.ModuleList(ResidualUnits(2, inputs, levels, nonlinearity) for _ in range(1 if lowest else 2))
        self.fuse = None if lowest else Fusion(inputs, outputs, levels)
        self.pool = ChainedPooling(outputs, levels, nonlinearity)
        self.refine = ResidualUnits(3 if highest else 1, outputs, levels, nonlinearity)

    def forward(self, fine: Images, coarse: Images | None, level: Level | None) -> Images:
        """Refined features of the size of ``fine``; ``coarse`` is None only for the lowest block."""
        h: Tensor = self.adapt[0](fine, level)
        if self.fuse is not None:
            h = self.fuse(h, self.adapt[1](coarse, level), level)
        return self.refine(self.pool(h, level), level)  # type: ignore[no-any-return]


class RefineNet(nn.Module):
    """Images to images, through an encoder of dilated stages and a decoder of refinement blocks.

    Args:
        in_channels: channels of the images, in and out.
        channels: features of the first stage; at least 2.
        multipliers: features of each stage, as a multiple of ``channels``; that of the first is 1.
        dilations: of each stage; those of dilation 1 after the first halve the resolution.
        levels: number of noise levels that the normalizations tell apart, 0 for none.
        nonlinearity: of all blocks.
        centered: False for images in [0, 1], which the network then maps to [-1, 1] first.

    Raises:
        ValueError: for fewer than 2 channels, where there is no spread of the means to normalize by.

    >>> network = RefineNet(1, 8, multipliers=(1, 2, 2), dilations=(1, 1, 2))
    >>> network(torch.randn(2, 1, 16, 12)).shape
    torch.Size([2, 1, 16, 12])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        multipliers: Sequence[int],
        dilations: Sequence[int],
        levels: int = 0,
        nonlinearity: Activation = "elu",
        centered: bool = False,
    ) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"channels={channels}; InstanceNorm++ compares channels and needs at least 2")
        self.in_channels = in_channels
        self.centered = centered
        self.conv_in = conv3x3(in_channels, channels)
        widths = [channels * multiplier for multiplier in multipliers]
        finer = [channels, *widths[:-1]]
        lowest = len(widths) - 1
        self.encoder = nn.ModuleList(
            Stage(inputs, width, dilation=dilation, begins=i > 0, levels=levels, nonlinearity=nonlinearity)
            for i, (inputs, width, dilation) in enumerate(zip(finer, widths, dilations, strict=True))
        )
        self.decoder = nn.ModuleList(
            RefineBlock(width, outputs, lowest=i == lowest, highest=i == 0, levels=levels, nonlinearity=nonlinearity)
            for i, (width, outputs) in enumerate(zip(widths, finer, strict=True))
        )
        self.norm = normalization(channels, levels)
        self.activation = activation(nonlinearity)
        self.conv_out = conv3x3(channels, in_channels)
        self.divisor = 2 ** sum(dilation == 1 for dilation in dilations[1:])

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raise a ValueError unless the network takes images of this (channels, height, width)."""
        channels, height, width = shape
        if channels != self.in_channels:
            raise ValueError(f"images have {channels} channels; this network was built for {self.in_channels}")
        if height % self.divisor or width % self.divisor:
            raise ValueError(
                f"images of {height}×{width} pixels; both sides must be multiples of {self.divisor} for the stages to "
                "halve them: pad, crop or resize"
            )

    def forward(
        self, x: Float[Tensor, "batch channels height width"], level: Level | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """The network's output, like x; ``level`` is the index of the noise level where there are ``levels``.

        Raises:
            ValueError: where the images have other channels or a size that the stages do not halve evenly.
        """
        self.check_shape(tuple(x.shape[1:]))
        features = [self.conv_in(x if self.centered else 2.0 * x - 1.0)]
        for stage in self.encoder:
            features.append(stage(features[-1], level))
        h: Tensor | None = None
        for block, fine in zip(reversed(list(self.decoder)), reversed(features[1:]), strict=True):
            h = block(fine, h, level)
        output: Tensor = self.conv_out(self.activation(self.norm(h, level)))
        return output.to(x.dtype)
