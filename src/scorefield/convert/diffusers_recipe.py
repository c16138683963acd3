"""A diffusers configuration as a recipe.

Two families of networks are the same there and here: DDPM's (Ho et al. 2020), whose blocks are `DownBlock2D`,
`AttnDownBlock2D` and their like, and NCSN++ with image pyramids (Song et al. 2021), whose blocks have `Skip` in their
names. Which numbers a network is given and what its output means is the scheduler's affair:

=================== =========================== ============================ =========================================
scheduler           SDE                         number given to the network  output
=================== =========================== ============================ =========================================
DDPMScheduler       ddpm: its table of betas    row of the table, from 0     noise, data or v (`prediction_type`)
ScoreSdeVpScheduler vp                          999 t                        noise
ScoreSdeVeScheduler ve                          sigma, whose logarithm it    score: it divides its last layer, which is
                                                embeds                       sigma · score, by sigma
=================== =========================== ============================ =========================================

The first two have images in [-1, 1], the last in [0, 1].
"""

import math
from typing import Any

from torch import nn

from scorefield.convert.diffusers_names import group_counts
from scorefield.convert.diffusers_schema import Process, UNet2D, VarianceExploding, VariancePreserving
from scorefield.convert.weights import ConversionError
from scorefield.nn import UNet
from scorefield.nn.weightless import weightless
from scorefield.recipes import Recipe, RecipeError, parse_recipe
from scorefield.recipes.build import build

OUTPUTS = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}
"""Parameterizations by the name of what a `DDPMScheduler` says that the network predicts."""


def recipe_of(unet: UNet2D, scheduler: Process, where: str) -> Recipe:
    """The recipe of the model that a network and a scheduler of diffusers are.

    Raises:
        ConversionError: options that do not fit together or that no UNet here has; `where` is what the message calls
            their origin.
    """
    options = _network(unet, where)
    exploding = isinstance(scheduler, VarianceExploding)
    if exploding != (unet.time_embedding_type == "fourier"):
        raise ConversionError(
            f"{where}: time_embedding_type = {unet.time_embedding_type!r} cannot be expressed with this scheduler; "
            "possible: 'fourier' with ScoreSdeVeScheduler, 'positional' with the others"
        )
    height, width = unet.size
    shift, scale = (0.0, 1.0) if exploding else (0.5, 0.5)
    sde, meaning, sampling = _process(scheduler)
    tree = {
        "data": {"shape": (unet.in_channels, height, width), "shift": (shift,), "scale": (scale,)},
        "sde": sde,
        "model": {**options, **meaning},
        "sampling": sampling,
    }
    try:
        return parse_recipe({**tree, "model": {**tree["model"], **_groups(unet, tree, where)}}, where)
    except RecipeError as error:
        raise ConversionError(f"{where}: {error}") from None


def _network(unet: UNet2D, where: str) -> dict[str, Any]:
    """The recipe's options of the network alone."""

    def refuse(key: str, possible: str) -> ConversionError:
        return ConversionError(f"{where}: {key} = {getattr(unet, key)!r} cannot be expressed; possible: {possible}")

    channels, levels = unet.block_out_channels[0], len(unet.block_out_channels)
    down, up = unet.down_block_types, unet.up_block_types[::-1]
    for key, types in (("down_block_types", down), ("up_block_types", up)):
        if len(types) != levels:
            raise refuse(key, f"one for each of the {levels} block_out_channels")
        if len({"Skip" in name for name in types}) > 1 or ("Skip" in types[0]) != unet.skips:
            raise refuse(key, "all with Skip in their names, or none, in both directions")
    attentive = [name.startswith("Attn") for name in down]
    if attentive != [name.startswith("Attn") for name in up]:
        raise refuse("up_block_types", "attention at the same levels as in down_block_types, in reverse")
    if unet.out_channels != unet.in_channels:
        raise refuse("out_channels", f"{unet.in_channels}, the number of in_channels")
    if any(width % channels for width in unet.block_out_channels):
        raise refuse("block_out_channels", f"multiples of the first, {channels}")
    if unet.time_embedding_dim not in (None, 4 * channels):
        raise refuse("time_embedding_dim", f"null or {4 * channels}, four times the first of block_out_channels")
    if not math.isclose(unet.norm_eps, 1e-6, rel_tol=1e-6):
        raise refuse("norm_eps", "1e-06")
    if not math.isclose(unet.mid_block_scale_factor, math.sqrt(2) if unet.skips else 1.0, rel_tol=1e-6):
        raise refuse("mid_block_scale_factor", "1.41421356237" if unet.skips else "1")
    if unet.time_embedding_type == "positional" and unet.freq_shift != 1:
        raise refuse("freq_shift", "1")
    if unet.time_embedding_type == "positional" and unet.flip_sin_to_cos:
        raise refuse("flip_sin_to_cos", "false")
    if unet.skips and unet.in_channels != 3:
        raise refuse("in_channels", "3 where the blocks have Skip in their names")
    if not unet.skips and unet.downsample_padding != 0:
        raise refuse("downsample_padding", "0")
    if not unet.skips and unet.norm_num_groups is None:
        raise refuse("norm_num_groups", "a number where the blocks have no Skip in their names")
    return {
        "network": "unet",
        "channels": channels,
        "multipliers": [width // channels for width in unet.block_out_channels],
        "blocks": unet.layers_per_block,
        "attention": [unet.size[0] // 2**level for level in range(levels) if attentive[level]],
        "decoder_attention": "last" if unet.skips else "every",
        "head_channels": unet.attention_head_dim or 0,
        "residual": "biggan" if unet.skips else "ddpm",
        "resample": "fir" if unet.skips else "box",
        "rescale": unet.skips,
        "progressive": "output_skip" if unet.skips else "none",
        "progressive_input": "input_skip" if unet.skips else "none",
        "embedding": unet.time_embedding_type,
        "dropout": unet.dropout,
        "centered": not unet.center_input_sample,
    }


def _process(scheduler: Process) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The recipe's SDE, what the network is told and predicts, and the sampler.

    n time steps are n - 1 steps between them and one to the data, which every sampler here takes at its end.
    """
    rows = scheduler.num_train_timesteps
    steps = max(rows - 1, 1)
    if isinstance(scheduler, VarianceExploding):
        sde = {
            "name": "ve",
            "sigma_min": scheduler.sigma_min,
            "sigma_max": scheduler.sigma_max,
            "t_min": scheduler.sampling_eps,
        }
        corrector = {"corrector": "langevin", "snr": scheduler.snr, "corrector_steps": scheduler.correct_steps}
        return (
            sde,
            {"parameterization": "scaled_score", "time_label": "log_sigma"},
            {"predictor": "reverse_diffusion", "steps": steps, **(corrector if scheduler.correct_steps else {})},
        )
    if isinstance(scheduler, VariancePreserving):
        return (
            {
                "name": "vp",
                "beta_min": scheduler.beta_min,
                "beta_max": scheduler.beta_max,
                "t_sample": scheduler.sampling_eps,
            },
            {"parameterization": "noise", "time_label": "continuous"},
            {"predictor": "euler_maruyama", "steps": steps},
        )
    return (
        {
            "name": "ddpm",
            "steps": rows,
            "beta_min": _significant(scheduler.beta_start * rows),
            "beta_max": _significant(scheduler.beta_end * rows),
        },
        {"parameterization": OUTPUTS[scheduler.prediction_type], "time_label": "ascending_index"},
        {"predictor": "ancestral", "steps": steps},
    )


def _groups(unet: UNet2D, tree: dict[str, Any], where: str) -> dict[str, int]:
    """The recipe's option that makes the groups of diffusers in every normalization."""
    candidates = [4, 1] if unet.skips else [1, 4]
    for group_channels in candidates:
        option = {"group_channels": group_channels}
        with weightless():
            network = build(parse_recipe({**tree, "model": {**tree["model"], **option}}, where)).network
        assert isinstance(network, UNet)
        wanted = set(group_counts(unet, network).values())
        made = {(n.num_channels, n.num_groups) for n in network.modules() if isinstance(n, nn.GroupNorm)}
        if made == wanted:
            return option
        candidates += sorted({channels // count for channels, count in wanted} - set(candidates) - {0})
    listed = ", ".join(f"{count} groups of {channels} channels" for channels, count in sorted(wanted))
    raise ConversionError(
        f"{where}: norm_num_groups = {unet.norm_num_groups} makes {listed}, which cannot be expressed; possible: "
        "min(channels / group_channels, 32) groups with one group_channels for all"
    )


def _significant(value: float) -> float:
    """Without the last digits, which a product of decimal fractions gets wrong."""
    return float(f"{value:.12g}")
