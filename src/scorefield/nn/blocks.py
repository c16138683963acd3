r"""The two blocks of a U-Net: a residual block that is told the noise level, and self-attention over pixels.

Both add a branch to their input, :math:`y = (x + h(x)) / \sqrt{2}` with ``rescale`` (the variance of a sum of two
independent terms is halved, Karras et al. 2018) and :math:`y = x + h(x)` without. The branch's last layer has the
initial scale ``init_scale``.

Attention is PyTorch's fused kernel, which needs no memory for the matrix of weights but has no second derivative.
Whoever differentiates twice with respect to the input (the Hessian of a log-density, say) runs the network under
``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``. On a CPU, up to 32×32 pixels, two products of matrices are used
instead, which take a quarter of its time in bfloat16.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from scorefield.nn.layers import Activation, Dropout, Features, GroupNorm, activation, convolution, linear


def add_(h: Features, x: Features, rescale: bool) -> Features:
    """Add x to h, and divide by √2 if ``rescale``; h is overwritten and returned."""
    h = h.add_(x)
    return h.mul_(math.sqrt(0.5)) if rescale else h


class ResidualBlock(nn.Module):
    """Two convolutions, each after a normalization and a nonlinearity; the condition is added between them.

    ``resample`` (halving or doubling the resolution without weights) acts on the branch before its first convolution
    and on the input, as in BigGAN; the input then always passes a convolution of single pixels. ``condition`` is the
    length of the condition, 0 for none; ``dims`` counts the axes of space. With ``checkpointing`` what is inside the
    block is computed again for its gradient, not kept.
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
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = GroupNorm(inputs, nonlinearity, group_channels=group_channels)
        self.conv1 = convolution(dims, inputs, outputs)
        self.condition = linear(condition, outputs) if condition else None
        self.norm2 = GroupNorm(outputs, nonlinearity, group_channels=group_channels)
        self.dropout = Dropout(dropout)
        self.conv2 = convolution(dims, outputs, outputs, scale=init_scale)
        projects = inputs != outputs or resample is not None
        self.shortcut = convolution(dims, inputs, outputs, 1, scale=shortcut_scale) if projects else None
        self.resample = resample
        self.activation = activation(nonlinearity)
        self.rescale = rescale
        self.checkpointing = checkpointing

    def forward(self, x: Features, condition: Float[Tensor, "batch condition"] | None) -> Features:
        """Images after the block; ``condition`` is None only for a block built without one."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(self._forward, x, condition, use_reentrant=False)  # type: ignore[no-any-return]
        return self._forward(x, condition)

    def _forward(self, x: Features, condition: Float[Tensor, "batch condition"] | None) -> Features:
        h = self.norm1(x)
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv1(h)
        if self.condition is not None:
            shift: Tensor = self.condition(self.activation(condition))
            h += shift.view(*shift.shape, *[1] * (h.ndim - 2))
        h = self.conv2(self.dropout(self.norm2(h)))
        if self.shortcut is not None:
            x = self.shortcut(x)
        return add_(h, x, self.rescale)


class AttentionBlock(nn.Module):
    """Self-attention of all pixels to all pixels, in heads of ``head_channels`` channels (0: one head of all)."""

    def __init__(
        self,
        channels: int,
        *,
        dims: int = 2,
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
        self.norm = GroupNorm(channels, group_channels=group_channels)
        self.query = convolution(dims, channels, channels, 1, scale=0.1)
        self.key = convolution(dims, channels, channels, 1, scale=0.1)
        self.value = convolution(dims, channels, channels, 1, scale=0.1)
        self.output = convolution(dims, channels, channels, 1, scale=init_scale)
        self.rescale = rescale

    def forward(self, x: Features) -> Features:
        """Images after the block."""
        h: Tensor = self.norm(x)
        query, key, value = (
            project(h).reshape(h.shape[0], self.heads, h.shape[1] // self.heads, h.shape[2:].numel()).transpose(2, 3)
            for project in (self.query, self.key, self.value)
        )
        mixed = attend(query, key, value).transpose(2, 3).reshape(x.shape)
        return add_(self.output(mixed), x, self.rescale)


def attend(
    query: Float[Tensor, "batch heads pixels channels"],
    key: Float[Tensor, "batch heads pixels channels"],
    value: Float[Tensor, "batch heads pixels channels"],
) -> Float[Tensor, "batch heads pixels channels"]:
    """softmax(query keyᵀ / √channels) value."""
    if not query.is_cpu or query.shape[2] > 1024:
        return functional.scaled_dot_product_attention(query, key, value)
    scaled = query * query.shape[3] ** -0.5
    weights: Tensor = (scaled @ key.transpose(2, 3)).softmax(3)
    return weights @ value


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
        self.norm = GroupNorm(inputs, nonlinearity, group_channels=group_channels)
        self.conv = convolution(dims, inputs, outputs, scale=init_scale)

    def forward(self, x: Features) -> Features:
        """Images with ``outputs`` channels."""
        return self.conv(self.norm(x))  # type: ignore[no-any-return]
