"""Checkpoints of the PyTorch code that was published with Song et al. (2021), its networks NCSN++ and DDPM++.

That code numbers the layers of a network in the order in which it makes them, ``module.all_modules.N.…``:

1. the Fourier frequencies if there are any, then the two affine maps of the time embedding, then the first convolution;
2. for every encoder level, highest resolution first: each block followed by its attention; the layer that halves the
   resolution; what joins the input pyramid;
3. block, attention, block in the middle;
4. for every decoder level, lowest resolution first: its blocks; its attention; what joins the output pyramid (a
   normalization and a convolution, or one convolution); the layer that doubles the resolution;
5. the last normalization and convolution, unless the output pyramid is the output.

Layers without weights are counted too. The names within a layer are those of :data:`PARTS`. A checkpoint holds the raw
weights by name, and their moving average (EMA) as a list without names, in the order of the trainable weights.
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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

NONLINEARITIES = {"swish": "silu", "relu": "relu", "lrelu": "leaky_relu", "elu": "elu"}
"""Activation functions by the name in the reference's configurations."""


DAMAGED = (UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AssertionError, struct.error)
"""What ``torch.load`` raises for a file that is damaged, of another kind, or asks for more than data."""


class ConversionError(ValueError):
    """A checkpoint or configuration that is not of the expected form."""


def read_checkpoint(path: str | Path, *, ema: bool = True) -> dict[str, Tensor]:
    """The named weights in a checkpoint file of the reference's training program.

    Only tensors, containers and NumPy scalars are unpickled: a file that asks for anything else is refused.

    Args:
        path: a ``.pth`` file.
        ema: the moving average of the weights instead of the raw weights.

    Raises:
        ConversionError: where the file is not such a checkpoint.
    """
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConversionError(f"{path} is not a checkpoint that can be read safely: {reason}") from error
    state = checkpoint.get("model") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise ConversionError(f"{path} has no 'model' entry; expected a checkpoint of the reference's training program")
    if not ema:
        return dict(state)
    trainable = [name for name, value in state.items() if not _is_constant(name, value)]
    shadow = (checkpoint.get("ema") or {}).get("shadow_params")
    if not isinstance(shadow, list) or len(shadow) != len(trainable):
        found = f"{len(shadow)} averaged weights" if isinstance(shadow, list) else "no averaged weights"
        raise ConversionError(
            f"{path} has {found} for {len(trainable)} trainable ones; read the raw weights with ema=False"
        )
    misfits = [name for name, value in zip(trainable, shadow, strict=True) if value.shape != state[name].shape]
    if misfits:
        raise ConversionError(
            f"{path}: averaged weights of another shape for {_some(misfits)}; read the raw ones with ema=False"
        )
    return {**state, **dict(zip(trainable, shadow, strict=True))}


def unet_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of :class:`scorefield.nn.UNet` for a flattened reference configuration (``"model.nf": 128``, …).

    Raises:
        ConversionError: for another network than ``ncsnpp``, for missing keys and for values that no UNet has.
    """
    expected = {"name": "ncsnpp", "normalization": "GroupNorm", "attention_type": "ddpm", "conv_size": 3}
    for key, value in expected.items():
        given = config.get(f"model.{key}", None if key == "name" else value)
        if given != value:
            raise ConversionError(f"model.{key} is {given!r}; only networks with {value!r} can be converted")
    try:
        nonlinearity = config["model.nonlinearity"]
        if nonlinearity not in NONLINEARITIES:
            raise ConversionError(f"model.nonlinearity is {nonlinearity!r}; known are {_some(list(NONLINEARITIES))}")
        return {
            "in_channels": config["data.num_channels"],
            "size": config["data.image_size"],
            "centered": config["data.centered"],
            "channels": config["model.nf"],
            "multipliers": tuple(config["model.ch_mult"]),
            "blocks": config["model.num_res_blocks"],
            "attention": tuple(config["model.attn_resolutions"]),
            "residual": config["model.resblock_type"],
            "resample": "fir" if config["model.fir"] else "box",
            "fir_taps": tuple(float(tap) for tap in config["model.fir_kernel"]),
            "resample_with_conv": config["model.resamp_with_conv"],
            "dropout": float(config["model.dropout"]),
            "embedding": config["model.embedding_type"] if config["model.conditional"] else "none",
            "fourier_scale": float(config["model.fourier_scale"]),
            "rescale": config["model.skip_rescale"],
            "progressive": config["model.progressive"],
            "progressive_input": config["model.progressive_input"],
            "combine": config["model.progressive_combine"],
            "nonlinearity": NONLINEARITIES[nonlinearity],
            "init_scale": float(config["model.init_scale"]),
        }
    except KeyError as error:
        raise ConversionError(f"the configuration lacks {error}, which describes the network; add it") from error


def convert_unet(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments and the state dict of the :class:`scorefield.nn.UNet` that equals a reference network.

    Args:
        state: the reference's weights by name, as :func:`read_checkpoint` returns them.
        config: the flattened configuration that the network was built with.

    Raises:
        ConversionError: listing the weights that are missing, left over or of another shape than the configuration
            says.
    """
    options = unet_options(config)
    with torch.device("meta"):
        network = UNet(**options)
    given = {name.removeprefix("module."): value for name, value in state.items()}
    given.pop("sigmas", None)
    unused = _unused(given) if options["embedding"] == "none" else []
    for name in unused:
        del given[name]
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    prefixes = {module: name for name, module in network.named_modules()}
    first = 1 if options["embedding"] == "none" and config["model.embedding_type"] == "fourier" else 0
    converted: dict[str, Tensor] = {}
    missing: list[str] = []
    used: set[str] = set()
    for index, layer in enumerate(_layers(network), start=first):
        for part, theirs in _weights(layer, f"all_modules.{index}", options["residual"]):
            if theirs not in given:
                missing.append(theirs)
                continue
            used.add(theirs)
            ours = f"{prefixes[layer]}.{part}"
            converted[ours] = _oriented(given[theirs], theirs, len(shapes[ours]))
    misfits = [
        f"{name} {tuple(value.shape)} instead of {tuple(shapes[name])}"
        for name, value in converted.items()
        if value.shape != shapes[name]
    ]
    problems = {"missing": missing, "left over": sorted(set(given) - used), "mis-shaped": misfits}
    if any(problems.values()):
        lists = "; ".join(f"{kind}: {_some(names)}" for kind, names in problems.items() if names)
        raise ConversionError(f"the weights do not fit the configuration ({lists}); check that they belong together")
    return options, converted


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


def _oriented(value: Tensor, name: str, dims: int) -> Tensor:
    """A reference weight as an (output, input, …) weight with ``dims`` axes: ``W`` is stored as (input, output)."""
    if not name.endswith(".W") or value.ndim != 2:
        return value
    return value.T.reshape(*value.shape[::-1], *[1] * (dims - 2)).contiguous()


def _is_constant(name: str, value: Tensor) -> bool:
    """Whether an entry of a reference state dict is not trained: the noise levels and the Fourier frequencies."""
    return name.endswith("sigmas") or (name.endswith("all_modules.0.W") and value.ndim == 1)


def _unused(given: Mapping[str, Tensor]) -> list[str]:
    """The weights that an unconditional reference network owns without using them."""
    return [name for name in given if ".Dense_0." in name or name == "all_modules.0.W"]


def _numpy_scalars() -> list[Any]:
    """What unpickling a NumPy float needs, under the module names of NumPy 1 and of NumPy 2."""
    scalar = np.float64(0.0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [np.dtype, type(np.dtype(np.float64)), *((scalar, name) for name in names)]


def _some(names: list[str], most: int = 5) -> str:
    """The first few of a list of names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
