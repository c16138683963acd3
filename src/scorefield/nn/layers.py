"""Layers that every network shares: initialization, normalization and activation.

Weights are drawn uniformly with the variance ``scale / fan_avg``, where ``fan_avg`` is the mean of the numbers of
inputs and outputs that a weight connects (Glorot & Bengio 2010; Ho et al. 2020). Layers that end a residual branch have
``scale = 0``, which stands for 1e-10: every block starts as (nearly) the identity and the network's output as (nearly)
zero.
"""

import math
from typing import Literal, TypeVar, get_args

from jaxtyping import Float
from torch import Tensor, nn

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


def group_norm(channels: int, group_channels: int = 4) -> nn.GroupNorm:
    """Group normalization with min(channels / group_channels, 32) groups, or the next smaller number that divides the
    channels.

    >>> group_norm(128).num_groups, group_norm(240).num_groups, group_norm(64, 1).num_groups
    (32, 30, 32)
    """
    most = max(1, min(channels // group_channels, 32))
    groups = next(count for count in range(most, 0, -1) if channels % count == 0)
    return nn.GroupNorm(groups, channels, eps=1e-6)


def activation(name: Activation) -> nn.Module:
    """The nonlinearity of that name; the leaky rectifier has the slope 0.2."""
    check_choice("nonlinearity", name, Activation)
    match name:
        case "silu":
            return nn.SiLU()
        case "relu":
            return nn.ReLU()
        case "leaky_relu":
            return nn.LeakyReLU(0.2)
        case "elu":
            return nn.ELU()
