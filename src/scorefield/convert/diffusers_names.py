"""Names of weights and numbers of groups in diffusers' `UNet2DModel`.

Its encoder counts levels from the highest resolution, as ours does, and its decoder from the lowest. The end of the
decoder's highest level, be it the end of the network or of its output pyramid, is a part of the network itself there.
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from scorefield.convert.diffusers_schema import UNet2D
from scorefield.nn import UNet

RESIDUAL = {
    "norm1": "norm1",
    "conv1": "conv1",
    "condition": "time_emb_proj",
    "norm2": "norm2",
    "conv2": "conv2",
    "shortcut": "conv_shortcut",
}
"""The parts of a residual block."""

ATTENTION = {"norm": "group_norm", "query": "to_q", "key": "to_k", "value": "to_v", "output": "to_out.0"}
"""The parts of an attention block."""

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""The parts of an attention block before diffusers 0.15, and what they are called since."""


def theirs(name: str, levels: int) -> str:
    """What diffusers calls a weight of a UNet with `levels` levels.

    >>> theirs("decoder.0.blocks.1.condition.weight", levels=4)
    'up_blocks.3.resnets.1.time_emb_proj.weight'
    """
    match name.split("."):
        case ["condition", "level", "frequencies"]:
            return "time_proj.weight"
        case ["condition", "linear1" | "linear2" as layer, kind]:
            return f"time_embedding.linear_{layer[-1]}.{kind}"
        case ["conv_in", kind]:
            return f"conv_in.{kind}"
        case ["middle", "attention", part, kind]:
            return f"mid_block.attentions.0.{ATTENTION[part]}.{kind}"
        case ["middle", "block1" | "block2" as block, part, kind]:
            return f"mid_block.resnets.{int(block[-1]) - 1}.{RESIDUAL[part]}.{kind}"
        case ["head", part, kind] | ["decoder", "0", "skip", "head", part, kind]:
            return f"conv_{'norm_out' if part == 'norm' else 'out'}.{kind}"
        case ["encoder", level, *rest]:
            return f"down_blocks.{level}.{_in_level(rest, 'down')}"
        case ["decoder", level, *rest]:
            return f"up_blocks.{levels - 1 - int(level)}.{_in_level(rest, 'up')}"
    raise ValueError(f"{name} has no counterpart in a UNet2DModel")


def _in_level(path: list[str], direction: str) -> str:
    match path:
        case ["blocks", i, part, kind]:
            return f"resnets.{i}.{RESIDUAL[part]}.{kind}"
        case ["attentions", i, part, kind]:
            return f"attentions.{i}.{ATTENTION[part]}.{kind}"
        case ["down" | "up", "conv", kind]:
            return f"{direction}samplers.0.conv.{kind}"
        case ["down" | "up", part, kind]:
            return f"resnet_{direction}.{RESIDUAL[part]}.{kind}"
        case ["skip", "conv", kind]:
            return f"skip_conv.{kind}"
        case ["skip", "head", part, kind]:
            return f"skip_{part}.{kind}"
    raise ValueError(f"{'.'.join(path)} has no counterpart in a level of a UNet2DModel")


def weight_names(network: UNet) -> dict[str, str]:
    """What diffusers calls each weight of a UNet that it can express."""
    return {name: theirs(name, len(network.encoder)) for name in network.state_dict()}


def exported(network: UNet) -> dict[str, Tensor]:
    """A UNet's weights in float32 as those of a `UNet2DModel`, whose attention is made of matrices."""
    names = weight_names(network)
    weights = {names[name]: value.float().contiguous() for name, value in network.state_dict().items()}
    return {name: value.flatten(1) if ".to_" in name and value.ndim > 2 else value for name, value in weights.items()}


def imported(weights: Mapping[str, Tensor], network: UNet) -> dict[str, Tensor]:
    """A `UNet2DModel`'s weights, of any version of diffusers, by our names; those that have none keep theirs."""
    old = re.compile(r"(.*\.attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))")
    modern = {
        old.sub(lambda found: found[1] + OLD_ATTENTION[found[2]] + found[3], name): value
        for name, value in weights.items()
    }
    if "time_proj.W" in modern:
        modern["time_proj.weight"] = modern.pop("time_proj.W")
    state = network.state_dict()
    ours = {name: our for our, name in weight_names(network).items()}
    result: dict[str, Tensor] = {}
    for name, value in modern.items():
        our = ours.get(name, name)
        if ".to_" in name and value.ndim == 2:
            value = value[(..., *[None] * (state[our].ndim - 2))] if our in state else value
        result[our] = value
    return result


def group_counts(config: UNet2D, network: UNet) -> dict[str, tuple[int, int]]:
    """The channels of each normalization of a UNet, and how many groups diffusers has there."""
    levels = len(network.encoder)
    return {
        name: (module.num_channels, _groups(config, theirs(f"{name}.weight", levels), module.num_channels))
        for name, module in network.named_modules()
        if isinstance(module, nn.GroupNorm)
    }


def _groups(config: UNet2D, name: str, channels: int) -> int:
    by_size = min(channels // 4, 32)
    if name.startswith("mid_block.attentions") and config.attn_norm_num_groups is not None:
        return config.attn_norm_num_groups
    if not config.skips or name.startswith(("mid_block", "conv_norm_out")):
        return config.norm_num_groups or by_size
    if ".attentions." in name:
        return 32
    match name.split("."):
        case ["up_blocks", level, "resnets", block, "norm1", _] if "Attn" in config.up_block_types[int(level)]:
            widths = config.block_out_channels[::-1]
            features = widths[max(int(level) - 1, 0) if block == "0" else int(level)]
            return min(features + (channels - features) // 4, 32)
    return by_size
