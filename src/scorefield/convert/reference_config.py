"""Configurations of the PyTorch code that was published with Song et al. (2021), as recipes.

A configuration is a tree of settings; flattened, ``{"model.nf": 128, "training.sde": "vesde", …}``. One setting there
is often several here, and the other way round:

- The SDE is ``training.sde`` with ``training.continuous``: a discrete VE or VP model was trained on the rows of a
  table, which is an SDE of its own here (SMLD, DDPM), and the label of its network is a row of the table.
- A VE network divides by sigma at its end (``model.scale_by_sigma``). Ours never do; what they return without the
  division is sigma times the score, and with it the score itself. VP and sub-VP networks return the noise.
- The number that the network is told is sigma, 999 t or the row, and a Fourier embedding takes its logarithm.
- Without ``training.reduce_mean`` the loss of a sample is half the sum over its coordinates instead of their mean.
- ``model.num_scales`` counts evaluations of a sampler. With ``sampling.noise_removal`` the last of them is our
  denoising, which is not counted as a step.

What the published code does with the images of a data set before the model sees them (crops, sizes) is not in its
configuration.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any

from scorefield.convert.weights import ConversionError
from scorefield.recipes import Recipe, RecipeError, parse_recipe

NONLINEARITIES = {"swish": "silu", "relu": "relu", "lrelu": "leaky_relu", "elu": "elu"}
"""Activation functions by the name in the reference's configurations."""

NETWORKS = {"ncsnpp": "unet", "ddpm": "unet", "ncsn": "ncsn", "ncsnv2_64": "ncsnv2", "ncsnv2_128": "ncsnv2"}
NETWORKS |= {"ncsnv2_256": "ncsnv2"}
"""Networks by the name in the reference's configurations."""


def read_config(config: Mapping[str, Any] | str | os.PathLike[str]) -> dict[str, Any]:
    """A flat configuration from a mapping or a JSON file, flat or nested, or the one under the key ``config``.

    >>> read_config({"model": {"nf": 8}})
    {'model.nf': 8}

    Raises:
        ConversionError: for files that are not JSON, and for JSON that is not a mapping.
        OSError: where the file cannot be read.
    """
    if isinstance(config, Mapping):
        tree: Any = config
    else:
        try:
            tree = json.loads(Path(config).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ConversionError(f"{config} is not JSON ({error}); give the configuration as a JSON file") from None
        if not isinstance(tree, Mapping):
            raise ConversionError(f'{config} holds {type(tree).__name__}, expected settings like {{"model.nf": 128}}')
    inner = tree.get("config", tree)
    return _flat(inner if isinstance(inner, Mapping) else tree, "")


def _flat(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    if prefix.count(".") > 10:
        raise ConversionError(f"the configuration is nested more than ten deep, at {prefix:.50}; expected model.nf")
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def recipe_from_config(config: Mapping[str, Any]) -> Recipe:
    """The recipe of a flattened configuration: data, SDE, network, training and sampling.

    Raises:
        ConversionError: for keys that are missing, values of another type, and combinations that the published code
            cannot run.
    """
    try:
        return parse_recipe(_sections(config), "from the configuration")
    except KeyError as error:
        raise ConversionError(f"the configuration lacks {error}, which describes the model; add it") from None
    except RecipeError as error:
        raise ConversionError(f"the configuration cannot be converted: {error}") from None


def _sections(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    channels, size = config.get("data.num_channels", config.get("data.channels", 3)), config["data.image_size"]
    half = 0.5 if config["data.centered"] else None
    return {
        "data": {
            "shape": (channels, size, size),
            "shift": (half or 0.0,),
            "scale": (half or 1.0,),
            "dequantize": config.get("data.uniform_dequantization", False),
            "flip": config.get("data.random_flip", True),
        },
        "sde": _sde(config),
        "model": _model(config),
        "training": _training(config),
        "sampling": _sampling(config),
        "evaluation": _evaluation(config),
    }


def _setting(config: Mapping[str, Any], key: str, default: tuple[Any, ...], kind: type | UnionType, what: str) -> Any:
    """A setting that is computed with or looked up, or its default; without a default it is needed."""
    value = config.get(key, *default) if default else config[key]
    if not isinstance(value, kind):
        raise ConversionError(f"{key} is {value!r}, expected {what}")
    return value


def _number(config: Mapping[str, Any], key: str, *default: float) -> float:
    number: float = _setting(config, key, default, int | float, "a number")
    if not abs(number) < math.inf:
        raise ConversionError(f"{key} is {number}, expected a finite number")
    return number


def _text(config: Mapping[str, Any], key: str, *default: str) -> str:
    return str(_setting(config, key, default, str, "a text"))


def _list(config: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    return tuple(_setting(config, key, (), list | tuple, "a list"))


def _continuous(config: Mapping[str, Any]) -> bool:
    """Whether the model was trained in continuous time; without the key, as by default, it was."""
    return bool(config.get("training.continuous", True))


def _sde(config: Mapping[str, Any]) -> dict[str, Any]:
    kind = config["training.sde"]
    betas = {key: config.get(f"model.{key}", value) for key, value in (("beta_min", 0.1), ("beta_max", 20.0))}
    match kind, _continuous(config):
        case "vesde", continuous:
            sigmas = {"sigma_min": config["model.sigma_min"], "sigma_max": config["model.sigma_max"]}
            return {"name": "ve", **sigmas} if continuous else {"name": "smld", "steps": _rows(config), **sigmas}
        case "vpsde", True:
            return {"name": "vp", **betas}
        case "vpsde", False:
            return {"name": "ddpm", "steps": _rows(config), **betas}
        case "subvpsde", True:
            return {"name": "subvp", **betas}
        case "subvpsde", False:
            raise ConversionError("training.continuous is False with subvpsde, which has no table; set it to True")
    raise ConversionError(f"training.sde is {kind!r}; known are vesde, vpsde and subvpsde")


def _rows(config: Mapping[str, Any]) -> int:
    return int(_number(config, "model.num_scales"))


def _model(config: Mapping[str, Any]) -> dict[str, Any]:
    """The model section: the network's options, what it predicts, and what it is told of the time."""
    name, nonlinearity = _text(config, "model.name"), _text(config, "model.nonlinearity")
    if name not in NETWORKS:
        raise ConversionError(f"model.name is {name!r}; known are {', '.join(NETWORKS)}")
    if nonlinearity not in NONLINEARITIES:
        raise ConversionError(f"model.nonlinearity is {nonlinearity!r}; known are {', '.join(NONLINEARITIES)}")
    common = {
        "network": NETWORKS[name],
        "channels": config["model.nf"],
        "nonlinearity": NONLINEARITIES[nonlinearity],
        "centered": config["data.centered"],
    }
    match NETWORKS[name]:
        case "unet":
            options = (_ddpm if name == "ddpm" else _ncsnpp)(config)
        case "ncsnv2":
            options = {"stages": {"64": 4, "128": 5, "256": 6}[name.removeprefix("ncsnv2_")]}
        case _:
            options = {}
    return {**common, **options, **_told(config, options.get("embedding", "index"))}


def _told(config: Mapping[str, Any], embedding: str) -> dict[str, str]:
    """Parameterization and time label of a network with this embedding ("index" counts noise levels)."""
    name, divides = config["model.name"], config["model.scale_by_sigma"] and config["model.name"] != "ncsn"
    if config["training.sde"] != "vesde":
        if divides or embedding == "index":
            raise ConversionError(
                f"model.name is {name!r} with model.scale_by_sigma {divides} and {config['training.sde']}; "
                "networks of VP and sub-VP are ncsnpp and ddpm, and do not divide by sigma"
            )
        labels = {"fourier": "log_continuous", "positional": "continuous", "none": "continuous"}
        if not _continuous(config):
            labels = {"positional": "ascending_index", "none": "ascending_index"}
    elif _continuous(config):
        labels = {"fourier": "log_sigma", "none": "log_sigma"}
    else:
        labels = {"positional": "descending_index", "index": "descending_index", "none": "descending_index"}
    if embedding not in labels:
        raise ConversionError(
            f"model.name is {name!r} with the embedding {embedding!r}, training.sde {config['training.sde']!r} and "
            f"training.continuous {_continuous(config)}, which the published code cannot run; check these four"
        )
    predicted = "noise" if config["training.sde"] != "vesde" else "scaled_score" if divides else "score"
    return {"parameterization": predicted, "time_label": labels[embedding]}


def _ncsnpp(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a UNet that is an NCSN++ or DDPM++."""
    expected = {"normalization": "GroupNorm", "attention_type": "ddpm", "conv_size": 3}
    for key, value in expected.items():
        given = config.get(f"model.{key}", value)
        if given != value:
            raise ConversionError(f"model.{key} is {given!r}; only networks with {value!r} can be converted")
    return {
        **_levels(config),
        "residual": config["model.resblock_type"],
        "resample": "fir" if config["model.fir"] else "box",
        "fir_taps": _list(config, "model.fir_kernel"),
        "embedding": _text(config, "model.embedding_type") if config["model.conditional"] else "none",
        "fourier_scale": _number(config, "model.fourier_scale"),
        "rescale": config["model.skip_rescale"],
        "progressive": config["model.progressive"],
        "progressive_input": config["model.progressive_input"],
        "combine": config["model.progressive_combine"],
        "init_scale": _number(config, "model.init_scale"),
    }


def _ddpm(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a UNet that is the network of DDPM: it has one embedding, no filter and always 32 groups."""
    return {
        **_levels(config),
        "residual": "ddpm",
        "resample": "box",
        "embedding": "positional" if config["model.conditional"] else "none",
        "rescale": False,
        "group_channels": 1,
    }


def _levels(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "multipliers": _list(config, "model.ch_mult"),
        "blocks": config["model.num_res_blocks"],
        "attention": _list(config, "model.attn_resolutions"),
        "resample_with_conv": config["model.resamp_with_conv"],
        "dropout": _number(config, "model.dropout"),
    }


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    """The training section; settings that a configuration leaves out are the reference's defaults."""
    pictures = config.get("training.snapshot_freq", 50_000)
    return {
        "steps": _number(config, "training.n_iters", 1_300_001) - 1,
        "batch_size": config.get("training.batch_size", 128),
        "weighting": "likelihood" if config.get("training.likelihood_weighting", False) else "simple",
        "reduction": "mean" if config.get("training.reduce_mean", False) else "sum",
        "times": "uniform" if _continuous(config) else "table",
        "lr": config.get("optim.lr", 2e-4),
        "betas": (config.get("optim.beta1", 0.9), 0.999),
        "eps": config.get("optim.eps", 1e-8),
        "weight_decay": config.get("optim.weight_decay", 0.0),
        "warmup": config.get("optim.warmup", 5000),
        "ema": config.get("model.ema_rate", 0.9999),
        "clip": max(_number(config, "optim.grad_clip", 1.0), 0.0),
        "log_every": config.get("training.log_freq", 50),
        "checkpoint_every": config.get("training.snapshot_freq_for_preemption", 10_000),
        "snapshot_every": pictures,
        "sample_every": pictures if config.get("training.snapshot_sampling", True) else 0,
        "seed": config.get("seed", 0),
    }


def _sampling(config: Mapping[str, Any]) -> dict[str, Any]:
    names = {"ancestral_sampling": "ancestral", "ald": "annealed_langevin"}
    chosen = {key: _text(config, f"sampling.{key}", "none") for key in ("predictor", "corrector")}
    alone = chosen["predictor"] == "none"
    denoise = config.get("sampling.noise_removal", True) and not alone
    return {
        **{key: names.get(name, name) for key, name in chosen.items()},
        "snr": config.get("sampling.snr", 0.16),
        "corrector_steps": config.get("sampling.n_steps_each", 1),
        "steps": max(_rows(config) - (denoise or alone), 1),
        "grid": "uniform",
        "probability_flow": config.get("sampling.probability_flow", False),
        "denoise": denoise,
    }


def _evaluation(config: Mapping[str, Any]) -> dict[str, Any]:
    ends = (config.get("eval.begin_ckpt"), config.get("eval.end_ckpt"))
    return {
        "snapshots": None if None in ends else ends,
        "batch_size": config.get("eval.batch_size", 1024),
        "samples": config.get("eval.num_samples", 50_000),
        "split": config.get("eval.bpd_dataset", "test"),
    }
