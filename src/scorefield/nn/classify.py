r"""Networks that tell classes apart at any noise level: (noisy data, c) to one number per class, the logits.

The blocks are those of the generative networks, which are told the noise level and normalize each sample by itself:
there are no statistics of a batch, so that a sample's class does not depend on its batch mates.

- :class:`Encoder` is the way down of a U-Net (Dhariwal & Nichol 2021): levels of residual blocks, attention at some of
  them, then a **pooling** of all pixels: their mean, or a mean weighted by attention, one softmax over pixels for each
  group of channels.
- :class:`WideResNet` is the noise-conditional classifier of Song et al. (2021, app. I), the network of Zagoruyko &
  Komodakis (2016) with few layers and many features: 6n + 4 layers in three groups of n blocks, of 16 k, 32 k and 64 k
  features, each group at half the resolution of the one before.
- :class:`PerceptronClassifier` is for data of any shape.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield.nn.blocks import ResidualBlock
from scorefield.nn.embedding import ConditionEmbedding, Embedding, check_batch
from scorefield.nn.layers import Activation, Features, GroupNorm, check_choice, convolution, linear
from scorefield.nn.levels import EncoderLevel, Style
from scorefield.nn.mlp import PerceptronBlock
from scorefield.nn.resampling import BOX, Downsample
from scorefield.nn.unet import level_sizes

Pooling = Literal["mean", "attention"]
Logits = Float[Tensor, "batch classes"]


class Pool(nn.Module):
    """All pixels of features to one vector: their mean, or with ``heads`` > 0 a mean weighted by attention.

    A head weights the pixels for its part of the channels, by the softmax of a linear function of all of them; the
    weights start equal.

    >>> Pool(4, heads=2)(torch.ones(1, 4, 8, 8))
    tensor([[1., 1., 1., 1.]], grad_fn=<ViewBackward0>)
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if heads and channels % heads:
            raise ValueError(f"{heads} heads of attention pooling do not divide {channels} channels")
        self.heads = heads
        self.scores = linear(channels, heads, 0.0) if heads else None

    def forward(self, x: Features) -> Float[Tensor, "batch channels"]:
        """One vector per sample."""
        pixels = x.flatten(2)
        if self.scores is None:
            return pixels.mean(2)
        weights = self.scores(pixels.transpose(1, 2)).softmax(1)
        grouped = pixels.reshape(len(x), self.heads, -1, pixels.shape[2])
        return torch.einsum("bhcp,bph->bhc", grouped, weights).reshape(len(x), -1)


class Classes(nn.Module):
    """Normalization, nonlinearity, pooling, and a linear map to the logits: the end of a classifier of images."""

    def __init__(self, channels: int, classes: int, nonlinearity: Activation, heads: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, nonlinearity)
        self.pool = Pool(channels, heads)
        self.linear = linear(channels, classes, 0.0)

    def forward(self, h: Features) -> Logits:
        """Logits, in float32."""
        logits: Tensor = self.linear(self.pool(self.norm(h)))
        return logits.float() if logits.dtype == torch.bfloat16 else logits


class Encoder(nn.Module):
    """The encoder of a U-Net with a pooling behind it, for series, images and volumes.

    Args:
        in_channels: channels of the images.
        classes: how many there are.
        dims: axes of space.
        size: height of the images.
        patch: side of the squares of pixels that the first convolution takes as one; 1 for single pixels.
        channels: features at the highest resolution, before its multiplier.
        multipliers: features of level i, as a multiple of ``channels``.
        blocks: residual blocks, one number or one per level.
        attention: heights of the features at which blocks are followed by self-attention.
        head_channels: channels of an attention head, also of a pooling by attention; 0 for a single head.
        pooling: "mean" or "attention".
        dropout, embedding, fourier_scale, nonlinearity: as in :class:`scorefield.nn.UNet`.

    Raises:
        ValueError: for options that are unknown or do not fit together.

    >>> network = Encoder(1, classes=10, size=16, channels=8, multipliers=(1, 2), blocks=1, attention=(8,))
    >>> network(torch.randn(2, 1, 16, 16), torch.tensor([-1.0, 1.0])).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        *,
        classes: int,
        dims: Literal[1, 2, 3] = 2,
        size: int = 32,
        patch: int = 1,
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int | Sequence[int] = 1,
        attention: Sequence[int] = (),
        head_channels: int = 0,
        pooling: Pooling = "mean",
        dropout: float = 0.0,
        embedding: Embedding = "fourier",
        fourier_scale: float = 1.0,
        nonlinearity: Activation = "silu",
    ) -> None:
        super().__init__()
        check_choice("pooling", pooling, Pooling)
        if size % patch:
            raise ValueError(f"patch={patch} does not divide images of height {size}; give a divisor")
        sizes = level_sizes(size // patch, len(multipliers))
        counts = (blocks,) * len(sizes) if isinstance(blocks, int) else tuple(blocks)
        if len(counts) != len(sizes) or min(counts) < 1:
            raise ValueError(
                f"blocks={blocks}; give one number of at least 1, or one for each of the {len(sizes)} levels"
            )
        if not set(attention) <= set(sizes):
            raise ValueError(f"attention={tuple(attention)}; the levels have the sizes {sizes}: choose among these")
        self.divisor, self.dims, self.patch = patch * 2 ** (len(sizes) - 1), dims, patch
        self.condition = ConditionEmbedding(
            channels, 4 * channels, embedding=embedding, fourier_scale=fourier_scale, nonlinearity=nonlinearity
        )
        style = Style(
            dims=dims,
            condition=self.condition.outputs,
            biggan=False,
            taps=None,
            resample_with_conv=False,
            progressive="none",
            progressive_input="none",
            combine="sum",
            nonlinearity=nonlinearity,
            group_channels=4,
            head_channels=head_channels,
            every_attention=False,
            dropout=dropout,
            rescale=True,
            init_scale=0.0,
            checkpointing=False,
        )
        self.conv_in = convolution(dims, in_channels * patch**dims, channels)
        widths = [channels, *(channels * multiplier for multiplier in multipliers)]
        self.levels = nn.ModuleList(
            EncoderLevel(
                style, inputs, 0, outputs, blocks=count, attention=height in attention, lowest=height == sizes[-1]
            )
            for inputs, outputs, height, count in zip(widths, widths[1:], sizes, counts, strict=False)
        )
        heads = widths[-1] // (head_channels or widths[-1]) if pooling == "attention" else 0
        self.classes = Classes(widths[-1], classes, nonlinearity, heads)

    def forward(self, x: Float[Tensor, "batch channels *space"], c: Float[Tensor, " batch"]) -> Logits:
        """Logits of images ``x`` at noise levels ``c``."""
        check_space(x, self.dims, self.divisor)
        check_batch(x, c, None)
        condition = self.condition(c)
        h = self.conv_in(unshuffled(x, self.patch))
        for level in self.levels:
            h = level(h, h, condition)[0][-1]
        return self.classes(h)  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """A wide residual network of ``depth`` = 6n + 4 layers and ``width`` times 16, 32 and 64 features.

    It takes series, images and volumes whose sides are multiples of four. The other arguments are as in
    :class:`Encoder`; raises ValueError for another depth.

    >>> network = WideResNet(3, classes=10, depth=10, width=1)
    >>> network(torch.randn(2, 3, 32, 32), torch.tensor([-1.0, 1.0])).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        *,
        classes: int,
        dims: Literal[1, 2, 3] = 2,
        depth: int = 28,
        width: int = 10,
        dropout: float = 0.0,
        embedding: Embedding = "fourier",
        fourier_scale: float = 1.0,
        nonlinearity: Activation = "relu",
    ) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise ValueError(
                f"depth={depth} of a wide ResNet, expected 6 n + 4 with n blocks in a group: 10, 16, 22, 28"
            )
        self.dims = dims
        self.condition = ConditionEmbedding(
            64, 256, embedding=embedding, fourier_scale=fourier_scale, nonlinearity=nonlinearity
        )
        self.conv_in = convolution(dims, in_channels, 16)
        blocks, inputs = [], 16
        for group in range(3):
            for block in range((depth - 4) // 6):
                outputs = 16 * 2**group * width
                blocks.append(
                    ResidualBlock(
                        inputs,
                        outputs,
                        condition=self.condition.outputs,
                        dims=dims,
                        nonlinearity=nonlinearity,
                        dropout=dropout,
                        rescale=False,
                        resample=Downsample(inputs, BOX, dims) if group and not block else None,
                    )
                )
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.classes = Classes(inputs, classes, nonlinearity, 0)

    def forward(self, x: Float[Tensor, "batch channels *space"], c: Float[Tensor, " batch"]) -> Logits:
        """Logits of images ``x`` at noise levels ``c``."""
        check_space(x, self.dims, 4)
        check_batch(x, c, None)
        condition = self.condition(c)
        h = self.conv_in(x)
        for block in self.blocks:
            h = block(h, condition)
        return self.classes(h)  # type: ignore[no-any-return]


class PerceptronClassifier(nn.Module):
    """A residual perceptron on flattened data, built as :class:`scorefield.nn.MLP`.

    >>> PerceptronClassifier((2,), classes=3, width=32)(torch.zeros(5, 2), torch.zeros(5)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        classes: int,
        width: int = 128,
        depth: int = 2,
        fourier_scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width < 4 or depth < 1:
            raise ValueError(f"width={width}, depth={depth} is too small; give at least 4 and 1")
        self.condition = ConditionEmbedding(width // 2, width, embedding="fourier", fourier_scale=fourier_scale)
        self.linear_in = linear(math.prod(shape), width)
        self.blocks = nn.ModuleList(PerceptronBlock(width, width, dropout) for _ in range(depth))
        self.activation = nn.SiLU()
        self.linear_out = linear(width, classes, 0.0)

    def forward(self, x: Float[Tensor, "batch *data"], c: Float[Tensor, " batch"]) -> Logits:
        """Logits of data ``x`` at noise levels ``c``."""
        check_batch(x, c, None)
        condition = self.condition(c)
        h: Tensor = self.linear_in(x.reshape(len(x), -1))
        for block in self.blocks:
            h = block(h, condition)
        logits: Tensor = self.linear_out(self.activation(h))
        return logits.float() if logits.dtype == torch.bfloat16 else logits


def unshuffled(x: Float[Tensor, "batch channels *space"], patch: int) -> Float[Tensor, "batch features *patches"]:
    """Cubes of pixels of side ``patch`` as the features of one.

    >>> unshuffled(torch.zeros(1, 3, 8, 8), 2).shape
    torch.Size([1, 12, 4, 4])
    """
    if patch == 1:
        return x
    dims = x.ndim - 2
    sides = [side for size in x.shape[2:] for side in (size // patch, patch)]
    axes = (0, 1, *range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2))
    return x.reshape(*x.shape[:2], *sides).permute(axes).reshape(len(x), -1, *sides[::2])


def check_space(x: Tensor, dims: int, divisor: int) -> None:
    """Raise a ValueError unless x has ``dims`` axes of space that are multiples of ``divisor``."""
    space = x.shape[2:]
    if len(space) != dims or any(size % divisor for size in space):
        raise ValueError(
            f"an input of shape {tuple(x.shape)}; this network takes {dims} axes after the channels, each a multiple "
            f"of {divisor}"
        )
