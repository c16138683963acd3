r"""The two blocks of a U-Net: a residual block that is told the noise level, and self-attention over pixels.

Both add a branch to their input, :math:`y = (x + h(x)) / \sqrt{2}` with ``rescale`` (the variance of a sum of two
independent terms is halved, Karras et al. 2018) and :math:`y = x + h(x)` without. The branch's last layer has the
initial scale ``init_scale``.

Attention is PyTorch's fused kernel, which has no second derivative. Whoever differentiates twice with respect to the
input (the Hessian of a log-density, say) runs the network under ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``.
"""

import math

from jaxtyping import Float
from torch import Tensor, nn

from scorefield.nn.layers import Activation, Features, activation, convolution, group_norm, linear


def add(x: Features, h: Features, rescale: bool) -> Features:
    """The sum of two images, over √2 if ``rescale``."""
    return (x + h) * math.sqrt(0.5) if rescale else x + h


class ResidualBlock(nn.Module):
    """Two convolutions, each after a normalization and a nonlinearity; the condition is added between them.

    ``resample`` (halving or doubling the resolution without weights) acts on the branch before its first convolution
    and on the input, as in BigGAN; the input then always passes a convolution of single pixels. ``condition`` is the
    length of the condition, 0 for none; ``dims`` counts the axes of space.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        condition: int,
        dims: int = 2,
        nonlinearity: Activation = "silu",
        group_channels: int = 4,
        dropout: float = 0.0,
        rescale: bool = True,
        init_scale: float = 0.0,
        shortcut_scale: float = 1.0,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs, group_channels)
        self.conv1 = convolution(dims, inputs, outputs)
        self.condition = linear(condition, outputs) if condition else None
        self.norm2 = group_norm(outputs, group_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = convolution(dims, outputs, outputs, scale=init_scale)
        projects = inputs != outputs or resample is not None
        self.shortcut = convolution(dims, inputs, outputs, 1, scale=shortcut_scale) if projects else None
        self.resample = resample
        self.activation = activation(nonlinearity)
        self.rescale = rescale

    def forward(self, x: Features, condition: Float[Tensor, "batch condition"] | None) -> Features:
        """Images after the block; ``condition`` is None only for a block built without one."""
        h: Tensor = self.activation(self.norm1(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv1(h)
        if self.condition is not None:
            shift: Tensor = self.condition(self.activation(condition))
            h = h + shift.view(*shift.shape, *[1] * (h.ndim - 2))
        h = self.conv2(self.dropout(self.activation(self.norm2(h))))
        if self.shortcut is not None:
            x = self.shortcut(x)
        return add(x, h, self.rescale)


class AttentionBlock(nn.Module):
    """Self-attention of all pixels to all pixels, in heads of ``head_channels`` channels (0: one head of all)."""

    def __init__(
        self,
        channels: int,
        *,
        head_channels: int = 0,
        group_channels: int = 4,
        rescale: bool = True,
        init_scale: float = 0.0,
    ) -> None:
        super().__init__()
        if head_channels and channels % head_channels:
            raise ValueError(
                f"head_channels={head_channels} does not divide the {channels} channels of an attention block"
            )
        self.heads = channels // head_channels if head_channels else 1
        self.norm = group_norm(channels, group_channels)
        self.query = linear(channels, channels, 0.1)
        self.key = linear(channels, channels, 0.1)
        self.value = linear(channels, channels, 0.1)
        self.output = linear(channels, channels, init_scale)
        self.rescale = rescale

    def forward(self, x: Features) -> Features:
        """Images after the block."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        query, key, value = (
            project(pixels).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        h: Tensor = self.output(mixed.transpose(1, 2).flatten(2)).transpose(1, 2).reshape(x.shape)
        return add(x, h, self.rescale)


class Head(nn.Module):
    """Normalization, nonlinearity and a convolution: the end of a path."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        dims: int = 2,
        nonlinearity: Activation = "silu",
        group_channels: int = 4,
        init_scale: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm = group_norm(inputs, group_channels)
        self.activation = activation(nonlinearity)
        self.conv = convolution(dims, inputs, outputs, scale=init_scale)

    def forward(self, x: Features) -> Features:
        """Images with ``outputs`` channels."""
        return self.conv(self.activation(self.norm(x)))  # type: ignore[no-any-return]
