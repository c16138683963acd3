"""The names of the weights of our U-Net in the code that was published with Karras et al. (2022, EDM): its SongUNet.

A SongUNet is an NCSN++ or DDPM++ (Song et al. 2021) with names by resolution: ``enc.32x32_block0`` is the first block
at 32 × 32 pixels on the way down, ``dec.16x16_up`` the block that doubles to 16 × 16. Attention is part of the block
that it follows. Four things differ from ours, all before the weights:

- queries, keys and values are one convolution, whose output channel 3 c + j is channel c of the j-th of the three;
- a class is a vector of 0 and 1, times √(number of classes), in front of an affine map: its rows, plus the bias, are
  our table of classes, and the bias alone is "no class";
- what tells the augmentation of a training image is zero in use, and its map has no bias: it is left out;
- the filter taps of the resampling layers are stored; ours come from the recipe, and are compared.
"""

from collections.abc import Iterator, Mapping
from math import sqrt

import torch
from torch import Tensor, nn

from scorefield.convert.weights import ConversionError
from scorefield.nn import UNet
from scorefield.nn.blocks import AttentionBlock, Head, ResidualBlock
from scorefield.nn.levels import DecoderLevel, EncoderLevel
from scorefield.nn.resampling import filter_kernel
from scorefield.nn.skips import InputSkip, OutputSkip, OutputStart, ResidualInput

PARTS: Mapping[type[nn.Module], Mapping[str, str]] = {
    ResidualBlock: {
        "norm1": "norm0",
        "conv1": "conv0",
        "condition": "affine",
        "norm2": "norm1",
        "conv2": "conv1",
        "shortcut": "skip",
    },
    AttentionBlock: {"norm": "norm2", "query": "query", "key": "key", "value": "value", "output": "proj"},
}
"""The parts of each of our layers, and what EDM calls them, once its ``qkv`` is divided."""


def edm_weights(network: UNet, weights: Mapping[str, Tensor], size: int, taps: tuple[float, ...]) -> dict[str, Tensor]:
    """A SongUNet's weights by the names of our network for images of ``size``; a left-over one is ``SongUNet.…``.

    Raises ConversionError where its stored filters are not those of ``taps``.
    """
    given = dict(weights)
    for name in [name for name in given if name.endswith((".qkv.weight", ".qkv.bias"))]:
        given |= _divided(name, given.pop(name))
    for name in [name for name in given if name.endswith("resample_filter")]:
        _check_filter(given.pop(name), taps, name)
    given.pop("map_augment.weight", None)
    label, bias = given.pop("map_label.weight", None), given.pop("map_label.bias", None)
    if label is not None and bias is not None and bias.shape == label.shape[:1]:
        given["label"] = torch.cat([label.T * sqrt(label.shape[1]) + bias, bias[None]])
    ours = {theirs: name for name, theirs in edm_names(network, size).items()}
    return {ours.get(theirs, f"SongUNet.{theirs}"): value for theirs, value in given.items()}


def edm_names(network: UNet, size: int) -> dict[str, str]:
    """Our name of each weight of a network for images of ``size``, and what EDM calls it.

    >>> names = edm_names(UNet(1, channels=8, multipliers=(1, 2), blocks=1, attention=(), size=8), 8)
    >>> names["encoder.0.down.conv1.weight"], names["decoder.1.up.shortcut.bias"]
    ('enc.4x4_down.conv0.weight', 'dec.8x8_up.skip.bias')
    """
    prefixes = {module: name for name, module in network.named_modules()}
    names = {"condition.label.weight": "label", "condition.level.frequencies": "map_noise.freqs"}
    for layer, theirs in _layers(network, size):
        for part, _ in layer.named_parameters():
            first, _, rest = part.partition(".")
            renamed = PARTS[type(layer)][first] + f".{rest}" if type(layer) in PARTS else part
            names[f"{prefixes[layer]}.{part}"] = f"{theirs}.{renamed}"
    return names


def _layers(network: UNet, size: int) -> Iterator[tuple[nn.Module, str]]:
    """Every layer with weights, and what EDM calls it."""
    if network.condition.level is not None:
        yield network.condition.linear1, "map_layer0"
        yield network.condition.linear2, "map_layer1"
    yield network.conv_in, f"enc.{size}x{size}_conv"
    for i, level in enumerate(network.encoder):
        assert isinstance(level, EncoderLevel)
        here, below = (f"enc.{size >> k}x{size >> k}" for k in (i, i + 1))
        for j, block in enumerate(level.blocks):
            yield block, f"{here}_block{j}"
        for j, attention in enumerate(level.attentions):
            yield attention, f"{here}_block{j}"
        if level.down is not None:
            yield level.down, f"{below}_down"
        if isinstance(level.skip, InputSkip):
            yield level.skip.conv, f"{below}_aux_skip"
        elif isinstance(level.skip, ResidualInput):
            yield level.skip.down.conv, f"{below}_aux_residual"
    lowest = f"dec.{size >> (len(network.encoder) - 1)}x{size >> (len(network.encoder) - 1)}"
    yield network.middle.block1, f"{lowest}_in0"
    yield network.middle.attention, f"{lowest}_in0"
    yield network.middle.block2, f"{lowest}_in1"
    for i, level in enumerate(network.decoder):
        assert isinstance(level, DecoderLevel)
        here, above = f"dec.{size >> i}x{size >> i}", f"dec.{(size << 1) >> i}x{(size << 1) >> i}"
        for j, block in enumerate(level.blocks):
            yield block, f"{here}_block{j}"
        for j, attention in enumerate(level.attentions, start=len(level.blocks) - len(level.attentions)):
            yield attention, f"{here}_block{j}"
        if isinstance(level.skip, OutputSkip | OutputStart):
            yield from _head(level.skip.head, here)
        if level.up is not None:
            yield level.up, f"{above}_up"
    if network.head is not None:
        yield from _head(network.head, f"dec.{size}x{size}")


def _head(head: Head, theirs: str) -> Iterator[tuple[nn.Module, str]]:
    yield head.norm, f"{theirs}_aux_norm"
    yield head.conv, f"{theirs}_aux_conv"


def _divided(name: str, value: Tensor) -> dict[str, Tensor]:
    """Queries, keys and values of one fused weight or bias."""
    if len(value) % 3:
        raise ConversionError(f"{name} has {len(value)} outputs, expected a multiple of 3")
    parts = value.reshape(len(value) // 3, 3, *value.shape[1:]).unbind(1)
    return {name.replace(".qkv.", f".{part}."): x for part, x in zip(("query", "key", "value"), parts, strict=True)}


def _check_filter(value: Tensor, taps: tuple[float, ...], name: str) -> None:
    expected = filter_kernel(1, taps)
    if value.shape != expected.shape or not torch.allclose(value.float(), expected, atol=1e-4):
        raise ConversionError(f"{name} is another filter than the network's taps {taps} make")
