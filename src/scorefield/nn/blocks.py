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

from scorefield.nn.layers import Activation, Images, activation, conv1x1, conv3x3, group_norm, linear


def add(x: Images, h: Images, rescale: bool) -> Images:
    """The sum of two images, over √2 if ``rescale``."""
    return (x + h) * math.sqrt(0.5) if rescale else x + h


class ResidualBlock(nn.Module):
    """Two convolutions, each after a normalization and a nonlinearity; the condition is added between them.

    ``resample`` (halving or doubling the resolution without weights) acts on the branch before its first convolution
    and on the input, as in BigGAN; the input then always passes a 1×1 convolution. ``condition`` is the length of the
    condition, 0 for none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        condition: int,
        nonlinearity: Activation = "silu",
        dropout: float = 0.0,
        rescale: bool = True,
        init_scale: float = 0.0,
        shortcut_scale: float = 1.0,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs)
        self.conv1 = conv3x3(inputs, outputs)
        self.condition = linear(condition, outputs) if condition else None
        self.norm2 = group_norm(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3x3(outputs, outputs, init_scale)
        projects = inputs != outputs or resample is not None
        self.shortcut = conv1x1(inputs, outputs, shortcut_scale) if projects else None
        self.resample = resample
        self.activation = activation(nonlinearity)
        self.rescale = rescale

    def forward(self, x: Images, condition: Float[Tensor, "batch condition"] | None) -> Images:
        """Images after the block; ``condition`` is None only for a block built without one."""
        h: Tensor = self.activation(self.norm1(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv1(h)
        if self.condition is not None:
            h = h + self.condition(self.activation(condition))[:, :, None, None]
        h = self.conv2(self.dropout(self.activation(self.norm2(h))))
        if self.shortcut is not None:
            x = self.shortcut(x)
        return add(x, h, self.rescale)


class AttentionBlock(nn.Module):
    """Self-attention of all pixels to all pixels, with one head."""

    def __init__(self, channels: int, *, rescale: bool = True, init_scale: float = 0.0) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.query = linear(channels, channels, 0.1)
        self.key = linear(channels, channels, 0.1)
        self.value = linear(channels, channels, 0.1)
        self.output = linear(channels, channels, init_scale)
        self.rescale = rescale

    def forward(self, x: Images) -> Images:
        """Images after the block."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)[:, None]
        mixed = nn.functional.scaled_dot_product_attention(self.query(pixels), self.key(pixels), self.value(pixels))
        h: Tensor = self.output(mixed)[:, 0].transpose(1, 2).reshape(x.shape)
        return add(x, h, self.rescale)


class Head(nn.Module):
    """Normalization, nonlinearity and a 3×3 convolution: the end of a path."""

    def __init__(self, inputs: int, outputs: int, nonlinearity: Activation, init_scale: float) -> None:
        super().__init__()
        self.norm = group_norm(inputs)
        self.activation = activation(nonlinearity)
        self.conv = conv3x3(inputs, outputs, init_scale)

    def forward(self, x: Images) -> Images:
        """Images with ``outputs`` channels."""
        return self.conv(self.activation(self.norm(x)))  # type: ignore[no-any-return]
