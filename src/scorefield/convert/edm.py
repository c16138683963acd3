"""Networks published with Karras et al. (2022, "Elucidating the design space of diffusion-based generative models").

Their `.pkl` files hold, under ``ema``, a network in a preconditioning: a function D(y; sigma) of images y = data +
sigma · noise in [-1, 1]. All three preconditionings for networks of Song et al. (2021) are parameterizations here:

- **VPPrecond**: D = y - sigma F(y/√(1 + sigma²), 999 t), the VP SDE with the noise as output; sigma there is our
  sigma/alpha.
- **VEPrecond**: D = y + sigma F(y, log(sigma/2)). In images x = (y + 1)/2 of [0, 1] the noise is half as large, so that
  this is the VE SDE as Song et al. have it: the network is told log sigma, and sees 2 x - 1.
- **EDMPrecond**: sigma(t) = t, the `edm` parameterization, and log(sigma)/4.

The pickle is parsed and not run. The file says all that a recipe needs, except how the network was trained.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scorefield.convert.edm_names import edm_weights
from scorefield.convert.edm_networks import PickledModule, read_module
from scorefield.convert.model import model_with
from scorefield.convert.pickled import parse
from scorefield.convert.reference_file import DAMAGED, reason
from scorefield.convert.weights import ConversionError
from scorefield.nn import UNet
from scorefield.recipes import Recipe, RecipeError, parse_recipe
from scorefield.recipes.build import RecipeModel


def read_edm(path: str | Path, *, ema: bool = True) -> RecipeModel:
    """The network in a pickle of the published code, in float32 and evaluation mode.

    Class labels are integers, and no label is EDM's zero vector. `ema=False` is refused: a file has averaged weights
    only.

    Raises:
        ConversionError: for files that are no such pickle or ask for more than data, and for networks that are no
            SongUNet in one of the three preconditionings.
    """
    if not ema:
        raise ConversionError(
            f"{path} has averaged weights only, and raw ones were asked for; leave out ema=False (--raw)"
        )
    content = parse(Path(path).read_bytes(), str(path))
    if not isinstance(content, dict) or "ema" not in content:
        raise ConversionError(f"{path} has no entry 'ema'; expected a network pickle of EDM")
    try:
        outer = read_module(content["ema"], "ema")
        inner = outer.child("model")
        recipe = parse_recipe(_sections(outer, inner), "of the network")
        model = model_with(recipe, partial(_weights, inner.tensors(), recipe), "it")
    except KeyError as error:
        raise ConversionError(f"{path}: the network does not say its {error}") from None
    except (ConversionError, RecipeError) as error:
        raise ConversionError(f"{path}: {error}") from None
    except DAMAGED as error:
        raise ConversionError(f"{path} is damaged, no network can be made of it: {reason(error)}") from None
    model.metadata = {"training": "unknown"}
    return model


def _weights(tensors: Mapping[str, Tensor], recipe: Recipe, network: nn.Module) -> dict[str, Tensor]:
    """The weights of a SongUNet by the names of the recipe's network."""
    assert isinstance(network, UNet)
    assert recipe.model.network == "unet"
    return edm_weights(network, tensors, recipe.data.shape[1], recipe.model.fir_taps)


def _sections(outer: PickledModule, inner: PickledModule) -> dict[str, dict[str, Any]]:
    """The sections of the recipe of a preconditioning and the network in it."""
    if inner.kind != "SongUNet":
        raise ConversionError(f"the network is a {inner.kind}; only SongUNet (NCSN++, DDPM++) can be converted")
    settings = inner.settings
    if settings.get("in_channels") != settings.get("out_channels"):
        raise ConversionError("the network has other channels out than in; expected one that predicts images")
    preconditionings = {"VPPrecond": _vp, "VEPrecond": _ve, "EDMPrecond": _edm}
    if outer.kind not in preconditionings:
        raise ConversionError(f"the network is in a {outer.kind}; known are {', '.join(preconditionings)}")
    sections = preconditionings[outer.kind](outer)
    size = settings["img_resolution"]
    return {
        "data": {
            "shape": (settings["in_channels"], size, size),
            "classes": settings.get("label_dim", 0),
            **sections["data"],
        },
        "sde": sections["sde"],
        "model": {**_network(settings), **sections["model"]},
        "sampling": {"predictor": "ancestral", "steps": 100, "grid": "logsnr"},
    }


def _network(settings: Any) -> dict[str, Any]:
    """The options of our network for the settings of a SongUNet, with its defaults where it does not say."""
    taps = tuple(settings.get("resample_filter", (1, 1)))
    inputs = {"standard": "none", "skip": "input_skip", "residual": "residual"}
    encoder = inputs.get(settings.get("encoder_type", "standard"), "unknown")
    return {
        "channels": settings.get("model_channels", 128),
        "multipliers": settings.get("channel_mult", (1, 2, 2, 2)),
        "blocks": settings.get("num_blocks", 4),
        "attention": settings.get("attn_resolutions", (16,)),
        "dropout": settings.get("dropout", 0.1),
        "embedding": settings.get("embedding_type", "positional"),
        "progressive_input": encoder,
        "progressive": "output_skip" if settings.get("decoder_type", "standard") == "skip" else "none",
        "resample": "box" if taps == (1, 1) and encoder != "residual" else "fir",
        "fir_taps": taps,
    }


def _vp(outer: PickledModule) -> dict[str, dict[str, Any]]:
    if outer.attribute("M") != 1000:
        raise ConversionError(f"the network was told {outer.attribute('M')} times, expected 1000")
    low = _number(outer, "beta_min")
    return {
        "data": _CENTERED,
        "sde": {
            "name": "vp",
            "beta_min": low,
            "beta_max": low + _number(outer, "beta_d"),
            "t_min": _number(outer, "epsilon_t"),
        },
        "model": {"parameterization": "noise", "time_label": "continuous"},
    }


def _ve(outer: PickledModule) -> dict[str, dict[str, Any]]:
    ends = {key: _number(outer, key) / 2 for key in ("sigma_min", "sigma_max")}
    return {
        "data": {"shift": (0.0,), "scale": (1.0,)},
        "sde": {"name": "ve", **ends},
        "model": {"parameterization": "scaled_score", "time_label": "log_sigma", "centered": False},
    }


def _edm(outer: PickledModule) -> dict[str, dict[str, Any]]:
    """With the noise levels from which the paper samples, 0.002 to 80, as far as the network knows them."""
    return {
        "data": _CENTERED,
        "sde": {
            "name": "edm",
            "sigma_min": max(0.002, _number(outer, "sigma_min")),
            "sigma_max": min(80.0, _number(outer, "sigma_max")),
        },
        "model": {
            "parameterization": "edm",
            "data_std": _number(outer, "sigma_data"),
            "time_label": "quarter_log_sigma",
        },
    }


_CENTERED: dict[str, Any] = {"shift": (0.5,), "scale": (0.5,)}


def _number(outer: PickledModule, name: str) -> float:
    value = outer.attribute(name)
    if not isinstance(value, int | float):
        raise KeyError(name)
    return float(value)
