"""Checkpoints of the PyTorch code that was published with Song et al. (2021), as models.

Such a file holds weights and says nothing of the model that they belong to, so that one of the two has to come with it:
a recipe of this library, or the configuration of the published code. The file's own table of noise levels is compared
with it, and the name and shape of every weight.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scorefield.convert.model import model_with
from scorefield.convert.ncsn import reference_names
from scorefield.convert.reference_config import read_config, recipe_from_config
from scorefield.convert.reference_file import read_checkpoint
from scorefield.convert.reference_names import oriented, unet_names
from scorefield.convert.weights import ConversionError, is_plain, listed
from scorefield.nn import NCSN, NCSNv2, UNet
from scorefield.recipes import Recipe, load_recipe
from scorefield.recipes.build import RecipeModel


def read_reference(
    path: str | Path,
    *,
    recipe: Recipe | str | os.PathLike[str] | None = None,
    config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    ema: bool = True,
) -> RecipeModel:
    """The model in a checkpoint file of the published training program, in float32 and evaluation mode.

    Args:
        path: a ``.pth`` file.
        recipe: of the model; a preset's name, a YAML file or a Recipe. Either this or `config` is needed.
        config: the published code's configuration; a mapping, flat (``"model.nf"``) or nested, or a JSON file of one.
        ema: the moving average of the weights instead of the raw weights.

    Raises:
        ConversionError: for a file that is no such checkpoint, or does not fit the recipe; RecipeError for a recipe
            that does not exist.
    """
    if (recipe is None) == (config is None):
        given = "neither a recipe nor a configuration" if recipe is None else "both a recipe and a configuration"
        raise ConversionError(
            f"{path} holds weights only, and {given} came with it; give one, for example "
            f"recipe='ve/cifar10_ncsnpp_continuous' in Python or, once, the command: scorefield convert {path} "
            f"{Path(path).stem} --recipe ve/cifar10_ncsnpp_continuous"
        )
    if config is not None:
        chosen = recipe_from_config(read_config(config))
    else:
        assert recipe is not None
        chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    weights = {name.removeprefix("module."): value for name, value in read_checkpoint(path, ema=ema).items()}
    _check_levels(weights.pop("sigmas", None), chosen, str(path))
    return model_with(chosen, lambda network: _renamed(weights, network, chosen, str(path)), str(path))


def _renamed(weights: Mapping[str, Tensor], network: nn.Module, recipe: Recipe, where: str) -> dict[str, Tensor]:
    """The reference's weights by our names; one that our network lacks is called ``module.…``, as in the file."""
    names = _names(weights, network, recipe, where)
    if recipe.model.network == "unet" and recipe.model.embedding == "none":
        weights = {name: value for name, value in weights.items() if not _unused(name)}
    ours = {theirs: name for name, theirs in names.items()}
    dims = {name: value.ndim for name, value in network.state_dict().items()}
    renamed = {
        ours[theirs]: oriented(value, theirs, dims[ours[theirs]]) for theirs, value in weights.items() if theirs in ours
    }
    return renamed | {f"module.{theirs}": value for theirs, value in weights.items() if theirs not in ours}


def _names(weights: Mapping[str, Tensor], network: nn.Module, recipe: Recipe, where: str) -> dict[str, str]:
    """Our names of the network's weights to the reference's."""
    if isinstance(network, UNet) and recipe.model.network == "unet":
        first = 1 if recipe.model.embedding == "none" and "all_modules.0.W" in weights else 0
        return unet_names(network, recipe.model.residual, first)
    if isinstance(network, NCSN | NCSNv2):
        return reference_names(network)
    raise ConversionError(
        f"{where} is a checkpoint of images, and the recipe's network is {recipe.model.network}; take one of unet, "
        "ncsn and ncsnv2"
    )


def _unused(name: str) -> bool:
    """Whether a weight is one that an unconditional reference network owns without using it."""
    return ".Dense_0." in name or name == "all_modules.0.W"


def _check_levels(sigmas: Tensor | None, recipe: Recipe, where: str) -> None:
    """Refuse a recipe of a VE model whose noise levels are not those of the file."""
    sde = recipe.sde
    if sigmas is None or sde.name not in ("ve", "smld"):
        return
    if not is_plain(sigmas) or sigmas.numel() == 0 or sigmas.nbytes > sigmas.untyped_storage().nbytes():
        raise ConversionError(f"{where}: its noise levels, sigmas, are no numbers; it is damaged")
    expected = {"sigma_min": float(sigmas.min()), "sigma_max": float(sigmas.max())}
    if sde.name == "smld":
        expected["steps"] = sigmas.numel()
    wrong = {
        f"sde.{key} {getattr(sde, key):g} instead of {value:g}"
        for key, value in expected.items()
        if not abs(getattr(sde, key) - value) <= 1e-5 * value
    }
    if wrong:
        raise ConversionError(f"{where} was trained with other noise levels than the recipe's: {listed(wrong)}")
