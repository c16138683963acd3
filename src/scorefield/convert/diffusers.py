"""Folders of the diffusers library with models of the DDPM and score-SDE families, both ways.

Such a folder has a network, `unet/config.json` and its weights `unet/diffusion_pytorch_model.safetensors` (or `.bin`),
and a scheduler, `scheduler/scheduler_config.json`, which tells the noise levels that the network was trained with;
older ones have these files side by side. A folder of the hub's cache is `models--ORG--NAME/snapshots/COMMIT`.

Everything is read with JSON and safetensors alone: diffusers need not be installed. A `.bin` is a pickle, of which only
tensors and containers are accepted. Which configurations are possible is said in
:mod:`scorefield.convert.diffusers_recipe`.
"""

import json
import os
from pathlib import Path
from typing import cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scorefield.convert.diffusers_config import documents, scheduler_of, unet_of, with_groups
from scorefield.convert.diffusers_names import exported, group_counts, imported
from scorefield.convert.diffusers_recipe import recipe_of
from scorefield.convert.diffusers_schema import SCHEDULERS, Process, UNet2D, parse, read_json
from scorefield.convert.model import model_with
from scorefield.convert.public import is_in_cache
from scorefield.convert.reference_file import DAMAGED, is_state, load_tensors, reason
from scorefield.convert.weights import ConversionError
from scorefield.data import atomic_folder
from scorefield.nn import UNet
from scorefield.recipes.build import RecipeModel

WEIGHTS = tuple(f"diffusion_pytorch_model.{kind}" for kind in ("safetensors", "bin", "fp16.safetensors", "fp16.bin"))
"""The names of weight files, the first that is there is read."""


def read_diffusers(folder: str | os.PathLike[str]) -> RecipeModel:
    """The model of a diffusers folder or of one in the hub's cache, in float32 and evaluation mode.

    Raises:
        ConversionError: files that are missing or damaged, a configuration that no UNet here has (with the key, its
            value and what is possible), weights that do not fit it, a pickle that asks for more than data.
    """
    try:
        return _read(_snapshot(Path(folder)))
    except ConversionError:
        raise
    except DAMAGED as error:
        raise ConversionError(f"{folder} is damaged, no network can be made of it: {reason(error)}") from None


def _read(root: Path) -> RecipeModel:
    """The model in a folder with `unet/config.json` or `config.json`."""
    place = next((path for path in (root / "unet", root) if (path / "config.json").is_file()), None)
    if place is None:
        raise ConversionError(f"{root} has no unet/config.json and no config.json; give a folder that diffusers wrote")
    content = read_json(place / "config.json")
    kind = content.get("_class_name")
    if kind != "UNet2DModel":
        raise ConversionError(f"{place / 'config.json'} describes a {kind}; only a UNet2DModel can be read")
    for key in ("down_block_types", "up_block_types"):
        if isinstance(content.get(key), list):
            content[key] = [str(name).removeprefix("UNetRes") for name in content[key]]
    unet = parse(UNet2D, content, str(place / "config.json"))
    recipe = recipe_of(unet, _scheduler(root, place), str(root))
    weights = _weights(place)
    model = model_with(recipe, lambda network: imported(weights, cast(UNet, network)), str(place))
    model.metadata = {"training": "unknown"}
    return model


def write_diffusers(model: RecipeModel, folder: str | os.PathLike[str]) -> None:
    """Write a model as a folder that diffusers' `UNet2DModel` and, but for the VP SDE, `DiffusionPipeline` load.

    The folder appears whole or not at all.

    Raises:
        ConversionError: the option that diffusers cannot express, its value and what is possible.
        FileExistsError: the folder is there and not empty.
    """
    unet = unet_of(model.recipe)
    scheduler, options = scheduler_of(model.recipe)
    network = model.network
    assert isinstance(network, UNet)
    groups = {name: layer.num_groups for name, layer in network.named_modules() if isinstance(layer, nn.GroupNorm)}
    unet = with_groups(unet, groups, group_counts(unet, network))
    with atomic_folder(folder) as new:
        for name, content in documents(unet, scheduler, options).items():
            (new / name).parent.mkdir(exist_ok=True)
            (new / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        save_file(exported(network), new / "unet" / WEIGHTS[0], metadata={"format": "pt"})


def _snapshot(path: Path) -> Path:
    """The folder with the files: of a repository in the hub's cache, the commit that was downloaded last as `main`."""
    if not is_in_cache(path):
        return path
    snapshots = path / "snapshots"
    commits = [folder for folder in snapshots.iterdir() if folder.is_dir()]
    head = path / "refs" / "main"
    if head.is_file():
        name = head.read_text(encoding="utf-8", errors="replace").strip()
        commits = [commit for commit in commits if commit.name == name]
    if len(commits) != 1:
        raise ConversionError(f"{path} has no single commit to read; give one of the folders in {snapshots}")
    return commits[0]


def _scheduler(root: Path, place: Path) -> Process:
    """The configuration of the scheduler beside a network."""
    above = root.parent if root.name == "unet" else root
    places = (root / "scheduler", above / "scheduler", place)
    path = next(
        (folder / "scheduler_config.json" for folder in places if (folder / "scheduler_config.json").is_file()), None
    )
    if path is None:
        raise ConversionError(
            f"{root} has no scheduler_config.json, which tells the noise levels of the training; add it in scheduler/"
        )
    content = read_json(path)
    kind = str(content.get("_class_name"))
    if kind not in SCHEDULERS:
        raise ConversionError(f"{path} describes a {kind}, possible: {', '.join(SCHEDULERS)}")
    return parse(SCHEDULERS[kind], content, str(path))


def _weights(place: Path) -> dict[str, Tensor]:
    """The weights in a folder, by diffusers' names."""
    path = next((place / name for name in WEIGHTS if (place / name).is_file()), None)
    if path is None:
        raise ConversionError(f"{place} has no {WEIGHTS[0]} or {WEIGHTS[1]}; save the weights in one file")
    if path.suffix == ".bin":
        weights = load_tensors(path, str(path))
    else:
        try:
            weights = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ConversionError(f"{path}: damaged or not safetensors ({error}); download it again") from None
    if not isinstance(weights, dict) or not is_state(weights):
        raise ConversionError(f"{path} holds something else than weights by name; give the state dict of a UNet2DModel")
    return weights
