r"""The U-Net of score-based models, with all published options of NCSN++ and DDPM++ (Song et al. 2021, appendix H).

An **encoder** goes down a ladder of resolutions and keeps what it computes after every block; a **middle** works at the
lowest resolution; a **decoder** climbs back, one block more per resolution than the encoder, and each of its blocks
takes one kept tensor, last kept first. Level i of both works on images of height H / 2^i with ``channels *
multipliers[i]`` features.

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

The output is raw: where the paper's VE networks divide by sigma, the parameterization does.
"""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float, Integer
from torch import Tensor, nn

from scorefield.nn.embedding import ConditionEmbedding, Embedding, check_batch
from scorefield.nn.layers import Activation, check_choice, convolution
from scorefield.nn.levels import DecoderLevel, EncoderLevel, Middle, Style
from scorefield.nn.skips import Combine, ProgressiveInput, ProgressiveOutput

Resample = Literal["fir", "box"]
Residual = Literal["biggan", "ddpm"]
DecoderAttention = Literal["last", "every"]


class UNet(nn.Module):
    """Images (or series, or volumes) and one number per sample to images; by default the paper's DDPM++ for CIFAR-10.

    Args:
        in_channels: channels of the images, in and out.
        dims: axes of space: 1 for series (channels, length), 2 for images, 3 for volumes (channels, depth, height,
            width).
        channels: features at the highest resolution, before its multiplier.
        multipliers: features of level i, as a multiple of ``channels``; one per resolution, highest first.
        blocks: residual blocks per level of the encoder (the decoder has one more); one number, or one per level.
        attention: heights of the images at which blocks are followed by self-attention (the middle always has it).
        decoder_attention: after the "last" block of a level of the decoder (Song et al. 2021) or after "every" one (Ho
            et al. 2020).
        head_channels: channels of an attention head; 0 for a single head.
        size: height of the images that the network is meant for, the first axis of space. It only decides at which
            levels ``attention`` lies; images of any size that the levels halve evenly are accepted.
        residual: "biggan" (blocks resample inside) or "ddpm" (layers of their own resample).
        resample: "fir" (filtered by ``fir_taps``) or "box" (mean of 2×2 pixels, repetition).
        resample_with_conv: whether the resampling layers of "ddpm" blocks convolve.
        dropout: probability of dropout before the second convolution of each block.
        embedding: of the noise level, "positional" (for c in 0…1000), "fourier" (for c of order one) or "none" (c has
            no effect).
        fourier_scale: standard deviation of the frequencies of the Fourier embedding.
        rescale: divide the sums of skip connections by √2.
        progressive, progressive_input, combine: see :mod:`scorefield.nn.skips`.
        nonlinearity: of all blocks.
        group_channels: least number of channels in a group of the normalizations, which have at most 32 groups.
        init_scale: of the last layer of each branch; 0 starts the blocks as the identity and the network as zero.
        classes: number of class labels, 0 for none. Label ``classes``, and ``label=None``, mean "no label".
        centered: False for images in [0, 1], which the network then maps to [-1, 1] first.
        checkpointing: compute the insides of residual blocks again for their gradients: a third more work, a fraction
            of the memory.

    Raises:
        ValueError: for options that are unknown or do not fit together.

    >>> import torch
    >>> network = UNet(1, channels=8, multipliers=(1, 2), blocks=1, attention=(8,), size=16)
    >>> network(torch.randn(2, 1, 16, 16), torch.tensor([1.0, 999.0])).shape
    torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        dims: Literal[1, 2, 3] = 2,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int | Sequence[int] = 4,
        attention: Sequence[int] = (16,),
        decoder_attention: DecoderAttention = "last",
        head_channels: int = 0,
        size: int = 32,
        residual: Residual = "biggan",
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
        group_channels: int = 4,
        init_scale: float = 0.0,
        classes: int = 0,
        centered: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_choice("residual", residual, Residual)
        check_choice("resample", resample, Resample)
        check_choice("progressive", progressive, ProgressiveOutput)
        check_choice("progressive_input", progressive_input, ProgressiveInput)
        check_choice("combine", combine, Combine)
        check_choice("decoder_attention", decoder_attention, DecoderAttention)
        sizes = level_sizes(size, len(multipliers))
        counts = (blocks,) * len(sizes) if isinstance(blocks, int) else tuple(blocks)
        if len(counts) != len(sizes) or min(counts) < 1:
            raise ValueError(
                f"blocks={blocks}; give one number of at least 1, or one for each of the {len(sizes)} levels"
            )
        if not set(attention) <= set(sizes):
            raise ValueError(
                f"attention={tuple(attention)}; images of size {size} have levels of sizes {sizes}: choose among these"
            )
        self.in_channels = in_channels
        self.dims = dims
        self.divisor = 2 ** (len(sizes) - 1)
        self.centered = centered
        self.condition = ConditionEmbedding(
            channels,
            4 * channels,
            embedding=embedding,
            fourier_scale=fourier_scale,
            classes=classes,
            nonlinearity=nonlinearity,
        )
        style = Style(
            dims=dims,
            condition=self.condition.outputs,
            biggan=residual == "biggan",
            taps=tuple(fir_taps) if resample == "fir" else None,
            resample_with_conv=resample_with_conv,
            progressive=progressive,
            progressive_input=progressive_input,
            combine=combine,
            nonlinearity=nonlinearity,
            group_channels=group_channels,
            head_channels=head_channels,
            every_attention=decoder_attention == "every",
            dropout=dropout,
            rescale=rescale,
            init_scale=init_scale,
            checkpointing=checkpointing,
        )
        self.conv_in = convolution(dims, in_channels, channels)
        encoder: list[EncoderLevel] = []
        kept, pyramid = [channels], in_channels
        for height, multiplier, count in zip(sizes, multipliers, counts, strict=True):
            down = EncoderLevel(
                style,
                kept[-1],
                pyramid,
                channels * multiplier,
                blocks=count,
                attention=height in attention,
                lowest=height == sizes[-1],
            )
            kept += down.kept
            pyramid = down.pyramid_outputs
            encoder.append(down)
        self.encoder = nn.ModuleList(encoder)
        features, pyramid = kept[-1], 0
        self.middle = Middle(style, features)
        decoder: list[DecoderLevel] = []
        for height, multiplier, count in reversed(list(zip(sizes, multipliers, counts, strict=True))):
            up = DecoderLevel(
                style,
                features,
                pyramid,
                channels * multiplier,
                [kept.pop() for _ in range(count + 1)],
                image_channels=in_channels,
                attention=height in attention,
                highest=height == sizes[0],
            )
            features = pyramid = channels * multiplier
            decoder.append(up)
        self.decoder = nn.ModuleList(reversed(decoder))
        self.head = None if progressive == "output_skip" else style.head(features, in_channels, init_scale)

    def forward(
        self,
        x: Float[Tensor, "batch channels *space"],
        c: Float[Tensor, " batch"],
        label: Integer[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch channels *space"]:
        """The network's output, like x.

        Args:
            x: images in model units.
            c: the number that is embedded, one per sample: 999 t, a table index, log sigma, … (see ``embedding``).
            label: class labels; None means no label.

        Raises:
            ValueError: where the images have other channels or a size that the levels do not halve evenly, where c or
                the labels are not one per sample, and where labels do not fit ``classes``.
        """
        if x.shape[1] != self.in_channels:
            raise ValueError(f"images have {x.shape[1]} channels; this network was built for {self.in_channels}")
        space = x.shape[2:]
        if len(space) != self.dims:
            raise ValueError(
                f"an input of shape {tuple(x.shape)}; this network takes {self.dims} axes after the channels"
            )
        if any(size % self.divisor for size in space):
            raise ValueError(
                f"images of {'×'.join(map(str, space))} pixels; every side must be a multiple of {self.divisor} "
                "for the levels to halve it: pad, crop or resize"
            )
        check_batch(x, c, label)
        condition = self.condition(c, label)
        image = x if self.centered else 2.0 * x - 1.0
        kept, pyramid = [self.conv_in(image)], image
        for level in self.encoder:
            made, pyramid = level(kept[-1], pyramid, condition)
            kept += made
        h = self.middle(kept[-1], condition)
        taken = iter(reversed(kept))
        output: Tensor | None = None
        for level in reversed(list(self.decoder)):
            h, output = level(h, taken, output, condition)
        if self.head is not None:
            output = self.head(h)
        assert output is not None
        return output.to(x.dtype)


def level_sizes(size: int, levels: int) -> tuple[int, ...]:
    """The heights of the images at each level, highest first; raises ValueError where they do not halve evenly.

    >>> level_sizes(28, 3)
    (28, 14, 7)
    """
    if levels < 1 or size < 1 or size % 2 ** (levels - 1):
        raise ValueError(
            f"size={size} cannot be halved at {levels} levels; use a multiple of {2 ** max(levels - 1, 0)}"
        )
    return tuple(size // 2**i for i in range(levels))
