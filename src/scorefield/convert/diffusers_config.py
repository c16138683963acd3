"""A recipe as a diffusers configuration: the way back, for what diffusers can express."""

from collections.abc import Mapping
from typing import Any

from scorefield.convert.diffusers_recipe import OUTPUTS
from scorefield.convert.diffusers_schema import (
    SCHEDULERS,
    Process,
    Table,
    UNet2D,
    VarianceExploding,
    VariancePreserving,
)
from scorefield.convert.weights import ConversionError
from scorefield.recipes import Recipe
from scorefield.recipes.schema import DDPM, VE, VP, Section, UNet

PIPELINES = {"DDPMScheduler": "DDPMPipeline", "ScoreSdeVeScheduler": "ScoreSdeVePipeline"}
"""The pipelines that sample with a scheduler; diffusers has none for `ScoreSdeVpScheduler`."""

PLAIN: Mapping[str, Any] = {
    "resample": "box",
    "resample_with_conv": True,
    "rescale": False,
    "progressive": "none",
    "progressive_input": "none",
}
"""What a UNet with the residual blocks "ddpm" must have to be one of diffusers."""

SKIPPING: Mapping[str, Any] = {
    "resample": "fir",
    "rescale": True,
    "progressive": "output_skip",
    "progressive_input": "input_skip",
    "combine": "sum",
}
"""What a UNet with the residual blocks "biggan" must have to be one of diffusers."""


def unet_of(recipe: Recipe) -> UNet2D:
    """The configuration of diffusers' `UNet2DModel` that is a recipe's network, but for its groups.

    Raises:
        ConversionError: the option that diffusers cannot express, its value and what is possible.
    """
    model, data = recipe.model, recipe.data
    if not isinstance(model, UNet):
        raise _inexpressible("model.network", model.network, "'unet'")
    if len(data.shape) != 3:
        raise _inexpressible("data.shape", list(data.shape), "[channels, height, width]")
    _require(data, "data", {"classes": 0})
    skips = model.residual == "biggan"
    every = {"nonlinearity": "silu"}
    attentive = {"decoder_attention": "last" if skips else "every"} if model.attention else {}
    _require(model, "model", {**every, **(SKIPPING if skips else PLAIN), **attentive})
    if skips and [tap / model.fir_taps[0] for tap in model.fir_taps] != [1, 3, 3, 1]:
        raise _inexpressible("model.fir_taps", list(model.fir_taps), "[1, 3, 3, 1]")
    if model.multipliers[0] != 1:
        raise _inexpressible("model.multipliers", list(model.multipliers), "a list that begins with 1")
    counts = {model.blocks} if isinstance(model.blocks, int) else set(model.blocks)
    if len(counts) > 1:
        raise _inexpressible("model.blocks", list(counts), "one number for all levels")
    if model.embedding == "none":
        raise _inexpressible("model.embedding", "none", "'positional' or 'fourier'")
    channels, height, width = data.shape
    if skips and channels != 3:
        raise _inexpressible("data.shape", list(data.shape), "3 channels where model.residual is 'biggan'")
    kind = "Skip" if skips else ""
    heads = ["Attn" if height // 2**level in model.attention else "" for level in range(len(model.multipliers))]
    return UNet2D.model_validate(
        {
            "sample_size": height if height == width else (height, width),
            "in_channels": channels,
            "out_channels": channels,
            "center_input_sample": not model.centered,
            "time_embedding_type": model.embedding,
            "freq_shift": 1,
            "flip_sin_to_cos": False,
            "down_block_types": [f"{attention}{kind}DownBlock2D" for attention in heads],
            "up_block_types": [f"{attention}{kind}UpBlock2D" for attention in reversed(heads)],
            "block_out_channels": [model.channels * multiplier for multiplier in model.multipliers],
            "layers_per_block": counts.pop(),
            "mid_block_scale_factor": 2**0.5 if skips else 1.0,
            "downsample_padding": 1 if skips else 0,
            "dropout": model.dropout,
            "attention_head_dim": model.head_channels or None,
            "norm_num_groups": None,
            "norm_eps": 1e-6,
        }
    )


def with_groups(unet: UNet2D, groups: Mapping[str, int], counts: Mapping[str, tuple[int, int]]) -> UNet2D:
    """The configuration with the groups of our normalizations, `groups` by name.

    `counts` are diffusers' by name, as in :func:`scorefield.convert.diffusers_names.group_counts`. Raises
    ConversionError where diffusers has other ones.
    """
    if not unet.skips:
        if len(set(groups.values())) > 1:
            raise _inexpressible(
                "model.group_channels", f"groups of {sorted(set(groups.values()))}", "one number of groups for all"
            )
        return unet.model_copy(update={"norm_num_groups": next(iter(groups.values()))})
    for name, number in groups.items():
        channels, count = counts[name]
        if count != number:
            raise _inexpressible(
                "model.group_channels", f"{number} groups of {channels} channels in {name}", f"{count} groups there"
            )
    return unet


def scheduler_of(recipe: Recipe) -> tuple[str, Process]:
    """The scheduler of diffusers that has a recipe's SDE: its class and configuration.

    Raises:
        ConversionError: as in :func:`unet_of`.
    """
    sde, sampling = recipe.sde, recipe.sampling
    if isinstance(sde, VE):
        _require(recipe.model, "model", {"embedding": "fourier"})
        _require(recipe.model, "model", {"parameterization": "scaled_score", "time_label": "log_sigma"})
        _units(recipe, 0.0, 1.0)
        corrected = sampling.corrector == "langevin"
        return "ScoreSdeVeScheduler", VarianceExploding(
            num_train_timesteps=sampling.steps + 1,
            snr=sampling.snr,
            sigma_min=sde.sigma_min,
            sigma_max=sde.sigma_max,
            sampling_eps=sde.t_min,
            correct_steps=sampling.corrector_steps if corrected else 0,
        )
    _require(recipe.model, "model", {"embedding": "positional"})
    _units(recipe, 0.5, 0.5)
    if isinstance(sde, VP):
        _require(recipe.model, "model", {"parameterization": "noise", "time_label": "continuous"})
        return "ScoreSdeVpScheduler", VariancePreserving(
            num_train_timesteps=sampling.steps + 1,
            beta_min=sde.beta_min,
            beta_max=sde.beta_max,
            sampling_eps=sde.t_sample,
        )
    if not isinstance(sde, DDPM):
        raise _inexpressible("sde.name", sde.name, "'ddpm', 'vp' or 've'")
    names = {ours: theirs for theirs, ours in OUTPUTS.items()}
    if recipe.model.parameterization not in names:
        raise _inexpressible("model.parameterization", recipe.model.parameterization, " or ".join(map(repr, names)))
    _require(recipe.model, "model", {"time_label": "ascending_index"})
    return "DDPMScheduler", Table.model_validate(
        {
            "num_train_timesteps": sde.steps,
            "beta_start": sde.beta_min / sde.steps,
            "beta_end": sde.beta_max / sde.steps,
            "prediction_type": names[recipe.model.parameterization],
        }
    )


def documents(unet: UNet2D, scheduler: str, options: Process) -> dict[str, Any]:
    """The JSON files of a diffusers folder by path, of a network and a scheduler of that name."""
    assert isinstance(options, SCHEDULERS[scheduler])
    files = {
        "unet/config.json": {"_class_name": "UNet2DModel", **unet.model_dump(mode="json")},
        "scheduler/scheduler_config.json": {"_class_name": scheduler, **options.model_dump(mode="json")},
    }
    if scheduler in PIPELINES:
        files["model_index.json"] = {
            "_class_name": PIPELINES[scheduler],
            "scheduler": ["diffusers", scheduler],
            "unet": ["diffusers", "UNet2DModel"],
        }
    return files


def _require(section: Section, name: str, wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        given = getattr(section, key)
        if given != value:
            raise _inexpressible(f"{name}.{key}", given, repr(value))


def _units(recipe: Recipe, shift: float, scale: float) -> None:
    if set(recipe.data.shift) != {shift} or set(recipe.data.scale) != {scale}:
        given = f"shift {list(recipe.data.shift)} and scale {list(recipe.data.scale)}"
        raise _inexpressible("data", given, f"shift {shift:g} and scale {scale:g} with sde.name {recipe.sde.name!r}")


def _inexpressible(key: str, given: object, possible: str) -> ConversionError:
    return ConversionError(f"{key} = {given!r} cannot be expressed in diffusers; possible: {possible}")
