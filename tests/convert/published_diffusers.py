"""Configurations published on the hub for diffusers, small ones like them, and folders and recipes made of them."""

import json
from typing import Any

import diffusers
import torch

from scorefield.recipes import parse_recipe


def plain(size: int, widths: list[int], attention: int) -> dict[str, Any]:
    """A network of the google/ddpm-* models, with attention at one level."""
    levels = range(len(widths))
    return {
        "_class_name": "UNet2DModel",
        "_diffusers_version": "0.0.4",
        "act_fn": "silu",
        "attention_head_dim": None,
        "block_out_channels": widths,
        "center_input_sample": False,
        "down_block_types": ["AttnDownBlock2D" if level == attention else "DownBlock2D" for level in levels],
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "in_channels": 3,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-06,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": size,
        "time_embedding_type": "positional",
        "up_block_types": ["AttnUpBlock2D" if level == attention else "UpBlock2D" for level in reversed(levels)],
    }


def skipping(size: int, widths: list[int], attention: int, blocks: int) -> dict[str, Any]:
    """A network of the google/ncsnpp-* models, with attention at one level."""
    levels = range(len(widths))
    return {
        "_class_name": "UNet2DModel",
        "_diffusers_version": "0.0.4",
        "act_fn": "silu",
        "attention_head_dim": None,
        "block_out_channels": widths,
        "center_input_sample": True,
        "down_block_types": ["AttnSkipDownBlock2D" if level == attention else "SkipDownBlock2D" for level in levels],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 3,
        "layers_per_block": blocks,
        "mid_block_scale_factor": 1.41421356237,
        "norm_eps": 1e-06,
        "norm_num_groups": None,
        "out_channels": 3,
        "sample_size": size,
        "time_embedding_type": "fourier",
        "up_block_types": [
            "AttnSkipUpBlock2D" if level == attention else "SkipUpBlock2D" for level in reversed(levels)
        ],
    }


DDPM = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.1.1",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "variance_type": "fixed_small",
}
"""The scheduler of google/ddpm-*."""

VE = {
    "_class_name": "ScoreSdeVeScheduler",
    "_diffusers_version": "0.1.1",
    "correct_steps": 1,
    "num_train_timesteps": 2000,
    "sampling_eps": 1e-05,
    "sigma_max": 1348,
    "sigma_min": 0.01,
    "snr": 0.15,
}
"""The scheduler of google/ncsnpp-ffhq-1024; the others have other sigma_max and snr."""

VP = {"_class_name": "ScoreSdeVpScheduler", "num_train_timesteps": 2000, "beta_min": 0.1, "beta_max": 20}

PUBLISHED = {
    "ddpm-cifar10-32": (plain(32, [128, 256, 256, 256], 1), DDPM, 35_746_307),
    "ddpm-bedroom-256": (plain(256, [128, 128, 256, 256, 512, 512], 4), DDPM, 113_673_219),
    "ncsnpp-church-256": (skipping(256, [128, 128, 256, 256, 256, 256, 256], 4, 2), VE, None),
    "ncsnpp-ffhq-1024": (skipping(1024, [16, 32, 64, 128, 256, 512, 512, 512], 6, 1), VE, None),
}
"""Network, scheduler and number of parameters, where it is known, of models named google/…"""

SMALL = {
    "ddpm-cifar10-32": (plain(16, [32, 64, 64], 1), DDPM),
    "ddpm-bedroom-256": (plain(32, [32, 32, 64, 64], 2), DDPM),
    "ddpm-cifar10-32 with two heads, VP": ({**plain(16, [32, 64], 1), "attention_head_dim": 32}, VP),
    "ncsnpp-church-256": (skipping(16, [32, 128, 128], 1, 2), VE),
    "ncsnpp-ffhq-1024": (skipping(32, [16, 32, 128, 128], 2, 1), VE),
}
"""The same with fewer channels and levels."""


def network_of(config):
    """A network with random weights everywhere, norms and biases too."""
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(**{key: value for key, value in config.items() if key[0] != "_"})
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 and name != "time_proj.weight":
                parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval().requires_grad_(False)


def write(folder, network, scheduler):
    network.save_pretrained(folder / "unet")
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


def recipe(**sections):
    """A recipe that diffusers can express, but for what is given."""
    base = {
        "data": {"shape": [3, 16, 16]},
        "sde": {"name": "ddpm"},
        "model": {
            "channels": 32,
            "multipliers": [1, 2],
            "blocks": 1,
            "attention": [8],
            "decoder_attention": "every",
            "residual": "ddpm",
            "rescale": False,
            "group_channels": 1,
            "time_label": "ascending_index",
        },
    }
    for name, section in sections.items():
        base[name] = {**base[name], **section} if section.get("name") is None else section
    return parse_recipe(base, "test")
