"""The names of the weights of our U-Net in the PyTorch code that was published with Song et al. (2021).

That code numbers the layers of NCSN++, DDPM++ and DDPM in the order in which it makes them, ``all_modules.N.…``:

1. the Fourier frequencies if there are any, then the two affine maps of the time embedding, then the first convolution;
2. for every encoder level, highest resolution first: each block followed by its attention; the layer that halves the
   resolution; what joins the input pyramid;
3. block, attention, block in the middle;
4. for every decoder level, lowest resolution first: its blocks; its attention; what joins the output pyramid (a
   normalization and a convolution, or one convolution); the layer that doubles the resolution;
5. the last normalization and convolution, unless the output pyramid is the output.

Layers without weights are counted too. The names within a layer are those of :data:`PARTS`.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from scorefield.convert.weights import is_plain
from scorefield.nn import UNet
from scorefield.nn.blocks import AttentionBlock, Head, ResidualBlock
from scorefield.nn.embedding import FourierEmbedding
from scorefield.nn.levels import DecoderLevel, EncoderLevel
from scorefield.nn.resampling import ConvDownsample, ConvUpsample
from scorefield.nn.skips import InputSkip, OutputSkip, OutputStart, ResidualInput, ResidualOutput

PARTS: Mapping[type[nn.Module], Mapping[str, str]] = {
    ResidualBlock: {
        "norm1": "GroupNorm_0",
        "conv1": "Conv_0",
        "condition": "Dense_0",
        "norm2": "GroupNorm_1",
        "conv2": "Conv_1",
        "shortcut": "Conv_2",
    },
    AttentionBlock: {
        "norm": "GroupNorm_0",
        "query": "NIN_0",
        "key": "NIN_1",
        "value": "NIN_2",
        "output": "NIN_3",
    },
    InputSkip: {"conv": "Conv_0"},
    ConvDownsample: {"conv": "Conv2d_0"},
    ConvUpsample: {"conv": "Conv2d_0"},
}
"""The parts of each of our layers, and what the reference calls them.

There are two exceptions: the shortcut of a block of the ``ddpm`` kind is ``NIN_0``, and the convolution of a
resampling layer without FIR filter is ``Conv_0``.
"""


def unet_names(network: UNet, residual: str, first: int = 0) -> dict[str, str]:
    """What the reference calls each weight of a UNet: our name to its name, without ``module.`` in front.

    ``residual`` is the UNet's option of that name; ``first`` is the number of the first layer, 1 for an unconditional
    network that owns Fourier frequencies all the same.

    >>> names = unet_names(UNet(1, channels=8, multipliers=(1,), blocks=1, attention=(), size=8), "biggan")
    >>> names["conv_in.weight"], names["middle.attention.query.weight"]
    ('all_modules.2.weight', 'all_modules.5.NIN_0.W')
    """
    prefixes = {module: name for name, module in network.named_modules()}
    return {
        f"{prefixes[layer]}.{part}": theirs
        for index, layer in enumerate(_layers(network), start=first)
        for part, theirs in _weights(layer, f"all_modules.{index}", residual)
    }


def oriented(value: Tensor, theirs: str, dims: int) -> Tensor:
    """A reference weight as an (output, input, …) weight with ``dims`` axes: ``W`` is stored as (input, output)."""
    if not theirs.endswith(".W") or value.ndim != 2 or not is_plain(value):
        return value
    return value.T.reshape(*value.shape[::-1], *[1] * (dims - 2))


def _layers(network: UNet) -> Iterator[nn.Module]:
    """The layers of a UNet in the order in which the reference counts them."""
    condition = network.condition
    if isinstance(condition.level, FourierEmbedding):
        yield condition.level
    if condition.level is not None:
        yield condition.linear1
        yield condition.linear2
    yield network.conv_in
    for level in network.encoder:
        assert isinstance(level, EncoderLevel)
        for i, block in enumerate(level.blocks):
            yield block
            if len(level.attentions):
                yield level.attentions[i]
        if level.down is not None:
            yield level.down
        if isinstance(level.skip, ResidualInput):
            yield level.skip.down
        elif level.skip is not None:
            yield level.skip
    yield network.middle.block1
    yield network.middle.attention
    yield network.middle.block2
    for level in reversed(list(network.decoder)):
        assert isinstance(level, DecoderLevel)
        without = len(level.blocks) - len(level.attentions)
        for i, block in enumerate(level.blocks):
            yield block
            if i >= without:
                yield level.attentions[i - without]
        if isinstance(level.skip, ResidualOutput):
            yield level.skip.up
        elif isinstance(level.skip, OutputSkip | OutputStart):
            yield from _head(level.skip.head)
        if level.up is not None:
            yield level.up
    if network.head is not None:
        yield from _head(network.head)


def _head(head: Head) -> tuple[nn.Module, nn.Module]:
    return head.norm, head.conv


def _weights(layer: nn.Module, prefix: str, residual: str) -> Iterator[tuple[str, str]]:
    """The names of a layer's weights, within the layer and in the reference."""
    if isinstance(layer, FourierEmbedding):
        yield "frequencies", f"{prefix}.W"
    if type(layer) not in PARTS:
        yield from ((name, f"{prefix}.{name}") for name, _ in layer.named_parameters())
        return
    for part, name in PARTS[type(layer)].items():
        if getattr(layer, part) is None:
            continue
        if part == "shortcut" and residual == "ddpm":
            name = "NIN_0"
        if isinstance(layer, ConvDownsample | ConvUpsample) and layer.kernel is None:
            name = "Conv_0"
        weight, bias = ("W", "b") if name.startswith("NIN") else ("weight", "bias")
        yield f"{part}.weight", f"{prefix}.{name}.{weight}"
        yield f"{part}.bias", f"{prefix}.{name}.{bias}"
