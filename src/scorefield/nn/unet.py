r"""The U-Net of score-based models, with all published options of NCSN++ and DDPM++ (Song et al. 2021, appendix H).

An **encoder** goes down a ladder of resolutions and keeps what it computes after every block; a **middle** works at the lowest
resolution; a **decoder** climbs back, one block more per resolution than the encoder, and each of its blocks takes one kept tensor, last
kept first. Level i of both works on images of height H / 2^i with ``channels * multipliers[i]`` features.

The architectures of the paper are settings of one class:

====================== ===================================== ==========================================================
option                 DDPM++ (VP, sub-VP)                   NCSN++ (VE)
====================== ===================================== ==========================================================
``embedding``          ``"positional"`` of 999 t             ``"fourier"`` of log sigma
``resample``           ``"box"``                             ``"fir"``
``progressive_input``  ``"none"``                            ``"residual"`` (CIFAR-10), ``"input_skip"`` (256 and above)
``progressive``        ``"none"``                            ``"none"`` (CIFAR-10), ``"output_skip"`` (256 and above)
``centered``           True: x in [-1, 1]                    False: x in [0, 1]
====================== ===================================== ==========================================================
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from scorefield.nn.blocks import AttentionBlock, ResidualBlock
from scorefield.nn.embedding import ConditionEmbedding, Embedding
from scorefield.nn.layers import Activation, check_choice, conv3x3
from scorefield.nn.resampling import BOX, ConvDownsample, ConvUpsample, Downsample, Upsample
from scorefield.nn.skips import (
    Combine,
    Head,
    InputSkip,
    OutputSkip,
    ProgressiveInput,
    ProgressiveOutput,
    ResidualInput,
    ResidualOutput,
    ResidualOutputStart,
)

Resample = Literal["fir", "box"]
ResidualKind = Literal["biggan", "ddpm"]


class EncoderLevel(nn.Module):
    """One resolution on the way down: ``blocks`` with their ``attentions``, then ``down`` and ``skip`` except at the lowest."""

    def __init__(self, blocks: Sequence[nn.Module], attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        self.down: nn.Module | None = None
        self.skip: nn.Module | None = None


class Middle(nn.Module):
    """The lowest resolution: a block, attention, a block."""

    def __init__(self, block1: nn.Module, attention: nn.Module, block2: nn.Module) -> None:
        super().__init__()
        self.block1 = block1
        self.attention = attention
        self.block2 = block2

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        """Features like h."""
        return self.block2(self.attention(self.block1(h, condition)), condition)  # type: ignore[no-any-return]


class DecoderLevel(nn.Module):
    """One resolution on the way up: ``blocks``, one ``attention`` after them, ``skip``, then ``up`` except at the highest."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attention: nn.Module | None = None
        self.skip: nn.Module | None = None
        self.up: nn.Module | None = None


class UNet(nn.Module):
    """NCSN++ / DDPM++: images and one number per sample to images.

    Args:
        in_channels: channels of the images, in and out.
        channels: features at the highest resolution, before its multiplier.
        multipliers: features of level i, as a multiple of ``channels``; one per resolution, highest first.
        blocks: residual blocks per level of the encoder (the decoder has one more).
        attention: heights of the images at which blocks are followed by self-attention (the middle always has it).
        size: height of the images that the network is meant for. It only decides at which levels ``attention`` lies; images of any
            height and width that the levels halve evenly are accepted.
        residual: "biggan" (blocks resample inside) or "ddpm" (layers of their own resample).
        resample: "fir" (filtered by ``fir_taps``) or "box" (mean of 2×2 pixels, repetition).
        resample_with_conv: whether the resampling layers of "ddpm" blocks convolve.
        dropout: probability of dropout before the second convolution of each block.
        embedding: of the noise level, "positional" (for c in 0…1000), "fourier" (for c of order one) or "none" (c has no effect).
        fourier_scale: standard deviation of the frequencies of the Fourier embedding.
        rescale: divide the sums of skip connections by √2.
        progressive, progressive_input, combine: see :mod:`scorefield.nn.skips`.
        init_scale: of the last layer of each branch; 0 starts the blocks as the identity and the network as zero.
        classes: number of class labels, 0 for none. Label ``classes``, and ``label=None``, mean "no label".
        centered: False for images in [0, 1], which the network then maps to [-1, 1] first.

    Raises:
        ValueError: for options that are unknown or do not fit together.

    >>> network = UNet(1, channels=8, multipliers=(1, 2), blocks=1, attention=(8,), size=16)
    >>> network(torch.randn(2, 1, 16, 16), torch.tensor([1.0, 999.0])).shape
    torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 4,
        attention: Sequence[int] = (16,),
        size: int = 32,
        residual: ResidualKind = "biggan",
        resample: Resample = "box",
        fir_taps: Sequence[float] = (1.0, 3.0, 3.0, 1.0),
        resample_with_conv: bool = True,
        dropout: float = 0.1,
        embedding: Embedding = "positional",
        fourier_scale: float = 16.0,
        rescale: bool = True,
        progressive: ProgressiveOutput = "none",
        progressive_input: ProgressiveInput = "none",
        combine: Combine = "sum",
        nonlinearity: Activation = "silu",
        init_scale: float = 0.0,
        classes: int = 0,
        centered: bool = True,
    ) -> None:
        super().__init__()
        check_choice("residual", residual, ResidualKind)
        check_choice("resample", resample, Resample)
        check_choice("progressive", progressive, ProgressiveOutput)
        check_choice("progressive_input", progressive_input, ProgressiveInput)
        check_choice("combine", combine, Combine)
        sizes = level_sizes(size, len(multipliers))
        unplaced = sorted(set(attention) - set(sizes))
        if unplaced:
            raise ValueError(f"attention={tuple(unplaced)} is at no level; images of size {size} have levels of sizes {sizes}")
        self.in_channels = in_channels
        self.levels = len(multipliers)
        self.centered = centered
        self.starts_with_pyramid = progressive_input != "none"
        self.condition = ConditionEmbedding(
            channels,
            4 * channels,
            embedding=embedding,
            fourier_scale=fourier_scale,
            classes=classes,
            nonlinearity=nonlinearity,
        )
        taps = tuple(fir_taps) if resample == "fir" else BOX
        conv_taps = taps if resample == "fir" else None

        def block(inputs: int, outputs: int, resampling: nn.Module | None = None) -> ResidualBlock:
            return ResidualBlock(
                inputs,
                outputs,
                condition=self.condition.outputs,
                nonlinearity=nonlinearity,
                dropout=dropout,
                rescale=rescale,
                init_scale=init_scale,
                shortcut_scale=0.1 if residual == "ddpm" else 1.0,
                resample=resampling,
            )

        def attend(features: int) -> AttentionBlock:
            return AttentionBlock(features, rescale=rescale, init_scale=init_scale)

        def down(features: int) -> nn.Module:
            if residual == "biggan":
                return block(features, features, Downsample(features, taps))
            return ConvDownsample(features, features, conv_taps) if resample_with_conv else Downsample(features, taps)

        def up(features: int) -> nn.Module:
            if residual == "biggan":
                return block(features, features, Upsample(features, taps))
            return ConvUpsample(features, features, conv_taps) if resample_with_conv else Upsample(features, taps)

        def head(features: int, outputs: int, scale: float) -> Head:
            return Head(features, outputs, nonlinearity, scale)

        self.conv_in = conv3x3(in_channels, channels)
        self.encoder = nn.ModuleList()
        features, pyramid = channels, in_channels
        kept = [channels]
        for height, multiplier in zip(sizes, multipliers, strict=True):
            width = channels * multiplier
            made = [block(features if i == 0 else width, width) for i in range(blocks)]
            level = EncoderLevel(made, [attend(width) for _ in made] if height in attention else [])
            kept += [width] * blocks
            features = width
            if height != sizes[-1]:
                level.down = down(features)
                if progressive_input == "input_skip":
                    level.skip = InputSkip(pyramid, features, taps, combine)
                    features *= 2 if combine == "cat" else 1
                elif progressive_input == "residual":
                    level.skip = ResidualInput(pyramid, features, conv_taps, rescale)
                    pyramid = features
                kept.append(features)
            self.encoder.append(level)

        self.middle = Middle(block(features, features), attend(features), block(features, features))

        decoder: list[DecoderLevel] = []
        for height, multiplier in reversed(list(zip(sizes, multipliers, strict=True))):
            width = channels * multiplier
            decoder_level = DecoderLevel([block((width if i else features) + kept.pop(), width) for i in range(blocks + 1)])
            if height in attention:
                decoder_level.attention = attend(width)
            if progressive == "output_skip":
                decoder_level.skip = OutputSkip(head(width, in_channels, init_scale), Upsample(in_channels, taps))
            elif progressive == "residual" and height == sizes[-1]:
                decoder_level.skip = ResidualOutputStart(head(width, width, 1.0))
                pyramid = width
            elif progressive == "residual":
                decoder_level.skip = ResidualOutput(ConvUpsample(pyramid, width, conv_taps), rescale)
                pyramid = width
            features = width
            if height != sizes[0]:
                decoder_level.up = up(features)
            decoder.append(decoder_level)
        self.decoder = nn.ModuleList(reversed(decoder))
        self.head = None if progressive == "output_skip" else head(features, in_channels, init_scale)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        c: Float[Tensor, " batch"],
        label: Integer[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """The network's output, like x.

        Args:
            x: images in model units.
            c: the number that is embedded, one per sample: 999 t, a table index, log sigma, … (see ``embedding``).
            label: class labels; None means no label.

        Raises:
            ValueError: where the images have other channels or a size that the levels do not halve evenly, where c or the labels are
                not one per sample, and where labels do not fit ``classes``.
        """
        self._check(x, c, label)
        condition = self.condition(c, label)
        h = x if self.centered else 2.0 * x - 1.0
        h = self._decode(*self._encode(h, condition), condition)
        return h.to(x.dtype)

    def _encode(self, image: Tensor, condition: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """The features of the middle and all that the encoder kept."""
        pyramid = image
        h = self.conv_in(image)
        kept = [h]
        for level in self.encoder:
            for i, block in enumerate(level.blocks):
                h = block(h, condition)
                if level.attentions:
                    h = level.attentions[i](h)
                kept.append(h)
            if level.down is not None:
                h = level.down(h, condition) if isinstance(level.down, ResidualBlock) else level.down(h)
                if level.skip is not None:
                    pyramid, h = level.skip(pyramid, h)
                kept.append(h)
        return self.middle(h, condition), kept

    def _decode(self, h: Tensor, kept: list[Tensor], condition: Tensor | None) -> Tensor:
        """The output image."""
        pyramid: Tensor | None = None
        for level in reversed(self.decoder):
            for block in level.blocks:
                h = block(torch.cat([h, kept.pop()], dim=1), condition)
            if level.attention is not None:
                h = level.attention(h)
            if level.skip is not None:
                pyramid, h = level.skip(pyramid, h)
            if level.up is not None:
                h = level.up(h, condition) if isinstance(level.up, ResidualBlock) else level.up(h)
        if self.head is not None:
            return self.head(h)  # type: ignore[no-any-return]
        assert pyramid is not None
        return pyramid

    def _check(self, x: Tensor, c: Tensor, label: Tensor | None) -> None:
        """Raise a ValueError unless the inputs fit the network and each other."""
        divisor = 2 ** (self.levels - 1)
        if x.shape[1] != self.in_channels:
            raise ValueError(f"images have {x.shape[1]} channels; this network was built for in_channels={self.in_channels}")
        if x.shape[2] % divisor or x.shape[3] % divisor:
            raise ValueError(
                f"images of {x.shape[2]}×{x.shape[3]} pixels; with {self.levels} levels both sides must be multiples of {divisor}"
            )
        if c.shape != x.shape[:1] or (label is not None and label.shape != x.shape[:1]):
            given = tuple(c.shape) if c.shape != x.shape[:1] or label is None else tuple(label.shape)
            raise ValueError(f"c and label need one number per sample, shape ({len(x)},), got {given}")


def level_sizes(size: int, levels: int) -> tuple[int, ...]:
    """The heights of the images at each level, highest first; raises ValueError where the size cannot be halved that often.

    >>> level_sizes(28, 3)
    (28, 14, 7)
    """
    if levels < 1 or size < 1 or size % 2 ** (levels - 1):
        raise ValueError(f"size={size} cannot be halved at {levels} levels; use a multiple of {2 ** max(levels - 1, 0)}")
    return tuple(size // 2**i for i in range(levels))
