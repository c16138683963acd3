"""Layers that every network shares: initialization, normalization, activation and dropout.

Weights are drawn uniformly with the variance ``scale / fan_avg``, where ``fan_avg`` is the mean of the numbers of
inputs and outputs that a weight connects (Glorot & Bengio 2010; Ho et al. 2020). Layers that end a residual branch have
``scale = 0``, which stands for 1e-10: every block starts as (nearly) the identity and the network's output as (nearly)
zero.

Normalization has float32 statistics whatever the precision around it.
"""

import math
from typing import Literal, TypeVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Features = Float[Tensor, "_ _ ..."]
"""A batch of series, images or volumes: (batch, channels, *space), with one to three axes of space."""

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Layer = TypeVar("Layer", bound=nn.Linear | Convolution)
Activation = Literal["silu", "relu", "leaky_relu", "elu"]


def check_choice(name: str, value: str, choices: object) -> None:
    """Raise a ValueError unless ``value`` is one of the strings of the Literal type ``choices``."""
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, allowed))}")


def initialize(layer: Layer, scale: float = 1.0) -> Layer:
    """Draw the weights of a layer with variance ``scale / fan_avg``, set its bias to zero, and return it."""
    nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(max(scale, 1e-10)))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def linear(inputs: int, outputs: int, scale: float = 1.0) -> nn.Linear:
    """An initialized affine map."""
    return initialize(nn.Linear(inputs, outputs), scale)


def convolution(
    dims: int,
    inputs: int,
    outputs: int,
    size: int = 3,
    *,
    scale: float = 1.0,
    stride: int = 1,
    padding: int | None = None,
) -> Convolution:
    """An initialized convolution over ``dims`` axes; it keeps the size of the images unless told otherwise."""
    kinds: tuple[type[Convolution], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    padding = size // 2 if padding is None else padding
    return initialize(kinds[dims - 1](inputs, outputs, size, stride=stride, padding=padding), scale)


class GroupNorm(nn.GroupNorm):
    """Group normalization with min(channels / group_channels, 32) groups, or the next smaller number that divides the
    channels; then the nonlinearity, if one is named.

    >>> GroupNorm(128).num_groups, GroupNorm(240).num_groups, GroupNorm(64, group_channels=1).num_groups
    (32, 30, 32)
    """

    def __init__(self, channels: int, nonlinearity: Activation | None = None, *, group_channels: int = 4) -> None:
        most = max(1, min(channels // group_channels, 32))
        groups = next(count for count in range(most, 0, -1) if channels % count == 0)
        super().__init__(groups, channels, eps=1e-6)
        self.activation = nn.Identity() if nonlinearity is None else activation(nonlinearity, inplace=True)

    def forward(self, x: Features) -> Features:
        """Images like x, in its dtype."""
        return self.activation(self._normalized(x)).to(x.dtype)  # type: ignore[no-any-return]

    def _normalized(self, x: Features) -> Features:
        """PyTorch's kernel takes float32 weights with 16-bit images on a CPU, but with channels last it is slow on few
        pixels (7 times at 256): the images are then made float32 first, as on other devices."""
        if x.dtype != self.weight.dtype and not (x.is_cpu and (x.is_contiguous() or x.shape[2:].numel() >= 1024)):
            x = x.to(self.weight.dtype)
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class Dropout(nn.Dropout):
    """Dropout that draws a quarter of a random number per element on a CPU, where drawing is most of the work.

    A probability is rounded to a multiple of 2⁻¹⁶.
    """

    def forward(self, x: Features) -> Features:
        """x in evaluation mode; while training, each element with probability ``p`` zero, the others scaled up."""
        if not (self.training and self.p > 0 and x.is_cpu):
            return super().forward(x)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        keep = draws[: x.numel()].view(x.shape) >= round(self.p * 2**16) - 2**15
        return x * (keep * (1.0 / (1.0 - self.p)))


def activation(name: Activation, *, inplace: bool = False) -> nn.Module:
    """The nonlinearity of that name (the leaky rectifier has the slope 0.2); ``inplace`` overwrites its input."""
    check_choice("nonlinearity", name, Activation)
    match name:
        case "silu":
            return nn.SiLU(inplace)
        case "relu":
            return nn.ReLU(inplace)
        case "leaky_relu":
            return nn.LeakyReLU(0.2, inplace)
        case "elu":
            return nn.ELU(inplace=inplace)
