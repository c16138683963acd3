"""The levels of a U-Net: what happens at one resolution, on the way down (encoder) and on the way up (decoder).

An encoder level keeps what each of its blocks returns, and the features that it hands to the next level; the blocks of
the decoder take these tensors back, last kept first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scorefield.nn.blocks import AttentionBlock, Head, ResidualBlock
from scorefield.nn.layers import Activation
from scorefield.nn.resampling import BOX, ConvDownsample, ConvUpsample, Downsample, Upsample
from scorefield.nn.skips import (
    Combine,
    InputSkip,
    OutputSkip,
    OutputStart,
    ProgressiveInput,
    ProgressiveOutput,
    ResidualInput,
    ResidualOutput,
)


@dataclass(frozen=True)
class Style:
    """What all levels of one network have in common, and the layers that follow from it.

    ``condition`` is the length of the condition, ``taps`` the FIR filter, None for a box, and ``every_attention``
    whether each block of the decoder has its attention; the rest is as in :class:`scorefield.nn.UNet`.
    """

    dims: int
    condition: int
    biggan: bool
    taps: tuple[float, ...] | None
    resample_with_conv: bool
    progressive: ProgressiveOutput
    progressive_input: ProgressiveInput
    combine: Combine
    nonlinearity: Activation
    group_channels: int
    head_channels: int
    every_attention: bool
    dropout: float
    rescale: bool
    init_scale: float
    checkpointing: bool

    def block(self, inputs: int, outputs: int, resample: nn.Module | None = None) -> ResidualBlock:
        """A residual block."""
        return ResidualBlock(
            inputs,
            outputs,
            condition=self.condition,
            dims=self.dims,
            nonlinearity=self.nonlinearity,
            group_channels=self.group_channels,
            dropout=self.dropout,
            rescale=self.rescale,
            init_scale=self.init_scale,
            shortcut_scale=1.0 if self.biggan else 0.1,
            resample=resample,
            checkpointing=self.checkpointing,
        )

    def attention(self, channels: int) -> AttentionBlock:
        """An attention block."""
        return AttentionBlock(
            channels,
            dims=self.dims,
            head_channels=self.head_channels,
            group_channels=self.group_channels,
            rescale=self.rescale,
            init_scale=self.init_scale,
        )

    def head(self, inputs: int, outputs: int, init_scale: float) -> Head:
        """The end of a path."""
        return Head(
            inputs,
            outputs,
            dims=self.dims,
            nonlinearity=self.nonlinearity,
            group_channels=self.group_channels,
            init_scale=init_scale,
        )

    def down(self, channels: int) -> nn.Module:
        """What halves the resolution of the features."""
        if self.biggan:
            return self.block(channels, channels, Downsample(channels, self.taps or BOX, self.dims))
        if self.resample_with_conv:
            return ConvDownsample(channels, channels, self.taps, self.dims)
        return Downsample(channels, self.taps or BOX, self.dims)

    def up(self, channels: int) -> nn.Module:
        """What doubles the resolution of the features."""
        if self.biggan:
            return self.block(channels, channels, Upsample(channels, self.taps or BOX, self.dims))
        if self.resample_with_conv:
            return ConvUpsample(channels, channels, self.taps, self.dims)
        return Upsample(channels, self.taps or BOX, self.dims)

    def input_skip(self, pyramid: int, channels: int) -> InputSkip | ResidualInput | None:
        """What joins the input pyramid, of ``pyramid`` channels, to the halved features."""
        match self.progressive_input:
            case "input_skip":
                return InputSkip(pyramid, channels, self.taps or BOX, self.combine, self.dims)
            case "residual":
                return ResidualInput(pyramid, channels, self.taps, self.rescale, self.dims)
            case "none":
                return None

    def output_skip(
        self, pyramid: int, channels: int, image_channels: int
    ) -> OutputStart | OutputSkip | ResidualOutput | None:
        """What joins the features to the output pyramid, of ``pyramid`` channels (0 where it begins)."""
        match self.progressive:
            case "output_skip":
                head = self.head(channels, image_channels, self.init_scale)
                return OutputSkip(head, image_channels, self.taps or BOX, self.dims) if pyramid else OutputStart(head)
            case "residual":
                if pyramid == 0:
                    return OutputStart(self.head(channels, channels, 1.0))
                return ResidualOutput(pyramid, channels, self.taps, self.rescale, self.dims)
            case "none":
                return None


def resample(layer: nn.Module, h: Tensor, condition: Tensor | None) -> Tensor:
    """A layer that changes the resolution applied to h, with the condition if it is a residual block."""
    resampled: Tensor = layer(h, condition) if isinstance(layer, ResidualBlock) else layer(h)
    return resampled


class EncoderLevel(nn.Module):
    """One resolution on the way down: blocks, each followed by attention where asked for; then, except at the lowest
    level, ``down`` and the skip from the input pyramid.

    ``inputs`` and ``pyramid`` count the channels that come in, ``kept`` those of all tensors kept (the last is what
    goes to the next level), ``pyramid_outputs`` those of the pyramid that goes there.
    """

    def __init__(
        self, style: Style, inputs: int, pyramid: int, channels: int, *, blocks: int, attention: bool, lowest: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(style.block(channels if i else inputs, channels) for i in range(blocks))
        self.attentions = nn.ModuleList(style.attention(channels) for _ in range(blocks if attention else 0))
        self.down = None if lowest else style.down(channels)
        self.skip = None if lowest else style.input_skip(pyramid, channels)
        self.kept = [channels] * blocks
        self.pyramid_outputs = channels if isinstance(self.skip, ResidualInput) else pyramid
        if not lowest:
            concatenates = isinstance(self.skip, InputSkip) and self.skip.concatenates
            self.kept = [*self.kept, 2 * channels if concatenates else channels]

    def forward(self, h: Tensor, pyramid: Tensor, condition: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """All tensors kept, and the input pyramid for the next level."""
        kept = []
        for i, block in enumerate(self.blocks):
            h = block(h, condition)
            if len(self.attentions):
                h = self.attentions[i](h)
            kept.append(h)
        if self.down is not None:
            h = resample(self.down, h, condition)
            if self.skip is not None:
                pyramid, h = self.skip(pyramid, h)
            kept.append(h)
        return kept, pyramid


class Middle(nn.Module):
    """The lowest resolution, between encoder and decoder: a block, attention, a block."""

    def __init__(self, style: Style, channels: int) -> None:
        super().__init__()
        self.block1 = style.block(channels, channels)
        self.attention = style.attention(channels)
        self.block2 = style.block(channels, channels)

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        """Features like h."""
        return self.block2(self.attention(self.block1(h, condition)), condition)  # type: ignore[no-any-return]


class DecoderLevel(nn.Module):
    """One resolution on the way up: blocks that each take a kept tensor, attention after the last or after every
    one where asked for, the skip to the output pyramid; then, except at the highest level, ``up``.

    ``kept`` counts the channels of the tensors in the order in which they are taken, ``pyramid`` those of the output
    pyramid, 0 at the lowest level.
    """

    def __init__(
        self,
        style: Style,
        inputs: int,
        pyramid: int,
        channels: int,
        kept: Sequence[int],
        *,
        image_channels: int,
        attention: bool,
        highest: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            style.block((channels if i else inputs) + taken, channels) for i, taken in enumerate(kept)
        )
        count = (len(kept) if style.every_attention else 1) if attention else 0
        self.attentions = nn.ModuleList(style.attention(channels) for _ in range(count))
        self.skip = style.output_skip(pyramid, channels, image_channels)
        self.up = None if highest else style.up(channels)

    def forward(
        self, h: Tensor, kept: Iterator[Tensor], pyramid: Tensor | None, condition: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The features for the level above, and the output pyramid."""
        without = len(self.blocks) - len(self.attentions)
        for i, block in enumerate(self.blocks):
            h = block(torch.cat([h, next(kept)], dim=1), condition)
            if i >= without:
                h = self.attentions[i - without](h)
        if self.skip is not None:
            pyramid, h = self.skip(pyramid, h)
        if self.up is not None:
            h = resample(self.up, h, condition)
        return h, pyramid
