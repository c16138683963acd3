r"""The levels of a U-Net: what happens at one resolution, on the way down (encoder) and on the way up (decoder).

An encoder level keeps what each of its blocks returns, and its image of half the size; the decoder levels take these back in reverse
order. Beside the main path there may be two pyramids (Karras et al. 2020; Song et al. 2021, appendix H):

- the **input pyramid** brings the network's input, at every lower resolution, to the encoder: ``"input_skip"`` filters it down and
  adds (or concatenates) it through a 1×1 convolution; ``"residual"`` convolves it down and averages it with the main path;
- the **output pyramid** makes the result: with ``"output_skip"`` it is the sum of an image from every level; with ``"residual"`` the
  main path is averaged with a pyramid that is convolved up from the lowest level.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield.nn.blocks import AttentionBlock, Head, ResidualBlock, add
from scorefield.nn.layers import Activation, conv1x1
from scorefield.nn.resampling import BOX, ConvDownsample, ConvUpsample, Downsample, Upsample

Images = Float[Tensor, "batch channels height width"]
Condition = Float[Tensor, "batch condition"] | None
Block = Literal["biggan", "ddpm"]
Progressive = Literal["none", "output_skip", "residual"]
ProgressiveInput = Literal["none", "input_skip", "residual"]
Combine = Literal["sum", "cat"]


@dataclass(frozen=True)
class Style:
    """What all levels of one network have in common, and the blocks that follow from it.

    ``block="biggan"`` changes resolution inside a residual block and ``"ddpm"`` by a layer of its own, which has weights if
    ``resample_conv``. ``taps`` is the FIR filter, None for a box.
    """

    image_channels: int
    condition: int
    block: Block
    taps: tuple[float, ...] | None
    resample_conv: bool
    progressive: Progressive
    progressive_input: ProgressiveInput
    progressive_combine: Combine
    nonlinearity: Activation
    dropout: float
    rescale: bool
    init_scale: float

    def residual(self, inputs: int, outputs: int, resample: nn.Module | None = None) -> ResidualBlock:
        """A residual block."""
        return ResidualBlock(
            inputs,
            outputs,
            condition=self.condition,
            nonlinearity=self.nonlinearity,
            dropout=self.dropout,
            rescale=self.rescale,
            init_scale=self.init_scale,
            shortcut_scale=0.1 if self.block == "ddpm" else 1.0,
            resample=resample,
        )

    def attention(self, channels: int) -> AttentionBlock:
        """An attention block."""
        return AttentionBlock(channels, rescale=self.rescale, init_scale=self.init_scale)

    def head(self, inputs: int, outputs: int, init_scale: float) -> Head:
        """The end of a path."""
        return Head(inputs, outputs, nonlinearity=self.nonlinearity, init_scale=init_scale)

    def downsample(self, channels: int) -> nn.Module:
        """The layer that halves the resolution of the main path."""
        if self.block == "biggan":
            return self.residual(channels, channels, Downsample(channels, self.taps or BOX))
        return (
            ConvDownsample(channels, channels, self.taps)
            if self.resample_conv
            else Downsample(channels, self.taps or BOX)
        )

    def upsample(self, channels: int) -> nn.Module:
        """The layer that doubles the resolution of the main path."""
        if self.block == "biggan":
            return self.residual(channels, channels, Upsample(channels, self.taps or BOX))
        return (
            ConvUpsample(channels, channels, self.taps) if self.resample_conv else Upsample(channels, self.taps or BOX)
        )


def resampled(layer: nn.Module, x: Images, condition: Condition) -> Float[Tensor, "batch channels h w"]:
    """``layer`` applied to x, with the condition if it is a residual block."""
    y: Tensor = layer(x, condition) if isinstance(layer, ResidualBlock) else layer(x)
    return y


class EncoderLevel(nn.Module):
    """Blocks at one resolution, each followed by attention if asked for, and half the resolution unless it is the ``last`` level.

    ``inputs`` and ``pyramid`` are the channels of what comes in on the main path and on the input pyramid. The attributes ``skips``
    (channels of all tensors that it returns for the decoder), ``outputs`` and ``pyramid_outputs`` are the channels of what comes out.
    """

    def __init__(
        self, style: Style, inputs: int, channels: int, pyramid: int, *, blocks: int, attention: bool, last: bool
    ) -> None:
        super().__init__()
        self.rescale = style.rescale
        self.concatenates = style.progressive_combine == "cat"
        widths = [inputs] + [channels] * (blocks - 1)
        self.blocks = nn.ModuleList(style.residual(width, channels) for width in widths)
        self.attentions = nn.ModuleList(style.attention(channels) for _ in range(blocks if attention else 0))
        self.downsample: nn.Module | None = None
        self.pyramid: nn.Module | None = None
        self.combine: nn.Module | None = None
        self.skips = [channels] * blocks
        self.outputs = channels
        self.pyramid_outputs = pyramid
        if last:
            return
        self.downsample = style.downsample(channels)
        if style.progressive_input == "input_skip":
            self.pyramid = Downsample(pyramid, style.taps or BOX)
            self.combine = conv1x1(pyramid, channels)
            self.outputs = 2 * channels if self.concatenates else channels
        elif style.progressive_input == "residual":
            self.pyramid = ConvDownsample(pyramid, channels, style.taps)
            self.pyramid_outputs = channels
        self.skips = [*self.skips, self.outputs]

    def forward(self, x: Images, pyramid: Tensor, condition: Condition) -> tuple[list[Tensor], Tensor]:
        """The tensors for the decoder, of which the last is the input of the next level, and the input pyramid."""
        skips = []
        for index, block in enumerate(self.blocks):
            x = block(x, condition)
            if len(self.attentions):
                x = self.attentions[index](x)
            skips.append(x)
        if self.downsample is None:
            return skips, pyramid
        x = resampled(self.downsample, x, condition)
        if self.pyramid is not None:
            pyramid = self.pyramid(pyramid)
            if self.combine is None:
                x = pyramid = add(pyramid, x, self.rescale)
            elif self.concatenates:
                x = torch.cat([self.combine(pyramid), x], dim=1)
            else:
                x = self.combine(pyramid) + x
        return [*skips, x], pyramid


class Middle(nn.Module):
    """Block, attention, block at the lowest resolution."""

    def __init__(self, style: Style, channels: int) -> None:
        super().__init__()
        self.block1 = style.residual(channels, channels)
        self.attention = style.attention(channels)
        self.block2 = style.residual(channels, channels)

    def forward(self, x: Images, condition: Condition) -> Images:
        """Images of the same shape."""
        return self.block2(self.attention(self.block1(x, condition)), condition)  # type: ignore[no-any-return]


class DecoderLevel(nn.Module):
    """Blocks at one resolution, each of which takes one tensor back from the encoder, then attention if asked for, and twice the
    resolution unless it is the ``last`` level.

    ``skips`` are the channels of the encoder's tensors, in the order in which they are taken; ``pyramid`` those of the output pyramid,
    0 at the lowest level.
    """

    def __init__(
        self, style: Style, inputs: int, channels: int, skips: list[int], pyramid: int, *, attention: bool, last: bool
    ) -> None:
        super().__init__()
        self.rescale = style.rescale
        widths = [inputs] + [channels] * (len(skips) - 1)
        self.blocks = nn.ModuleList(
            style.residual(width + skip, channels) for width, skip in zip(widths, skips, strict=True)
        )
        self.attention = style.attention(channels) if attention else None
        self.pyramid: nn.Module | None = None
        self.head: nn.Module | None = None
        self.pyramid_outputs = 0
        if style.progressive == "output_skip":
            self.pyramid = Upsample(pyramid, style.taps or BOX) if pyramid else None
            self.head = style.head(channels, style.image_channels, style.init_scale)
            self.pyramid_outputs = style.image_channels
        elif style.progressive == "residual":
            self.pyramid = ConvUpsample(pyramid, channels, style.taps) if pyramid else None
            self.head = None if pyramid else style.head(channels, channels, 1.0)
            self.pyramid_outputs = channels
        self.upsample = None if last else style.upsample(channels)

    def forward(
        self, x: Images, skips: list[Tensor], pyramid: Tensor | None, condition: Condition
    ) -> tuple[Tensor, Tensor | None]:
        """The main path and the output pyramid after the level; takes its tensors off the end of ``skips``."""
        for block in self.blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), condition)
        if self.attention is not None:
            x = self.attention(x)
        if pyramid is not None and self.pyramid is not None:
            pyramid = self.pyramid(pyramid)
            if self.head is None:
                x = pyramid = add(pyramid, x, self.rescale)
            else:
                pyramid = pyramid + self.head(x)
        elif self.head is not None:
            pyramid = self.head(x)
        return (x if self.upsample is None else resampled(self.upsample, x, condition)), pyramid
