"""Models, devices, data and latent codes by the names of the command line."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

import scorefield as sf
from scorefield.checkpoint import bundled_models, load_classifier, read_checkpoint
from scorefield.cli.choices import OptionError
from scorefield.cli.options import PrecisionName, Split
from scorefield.convert import is_public
from scorefield.data import DataError, Source, atomic_write, check_writable, open_data
from scorefield.recipes import Recipe
from scorefield.recipes.build import BESIDE, recipe_of
from scorefield.recipes.data import open_images
from scorefield.recipes.schema import Data
from scorefield.score import Denoiser, ScoreModel
from scorefield.space import DataSpace


class DeviceError(ValueError):
    """A device that does not exist or is not here."""


def open_model(
    name: str,
    device: str,
    label: str | None = None,
    precision: PrecisionName = "fp32",
    compiled: bool = False,
    *,
    scale: float | None = None,
    interval: str | None = None,
    classifier: str | None = None,
) -> Denoiser:
    """The model of a name, on a device, prepared for evaluation and bound to a class where one is given.

    Raises OptionError for options of guidance without a label.
    """
    guidance = {"guidance-scale": scale, "guidance-interval": interval, "classifier": classifier}
    for option, value in guidance.items():
        if label is None and value is not None:
            raise OptionError(f"--{option} {value} without --label, which it is for: give one")
    condition: dict[str, Any] = {}
    if scale is not None:
        condition["scale"] = scale
    if interval is not None:
        condition["interval"] = read_interval(interval)
    if classifier is not None:
        condition["classifier"] = load_classifier(classifier)
    model = sf.load(name, device=choose_device(device), precision=precision, compiled=compiled)
    return model if label is None else model.given(label=label, **condition)


def read_interval(text: str) -> tuple[float, float]:
    """The two ratios of `--guidance-interval`. Raises OptionError.

    >>> read_interval("0.2,5")
    (0.2, 5.0)
    """
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise OptionError(f"--guidance-interval {text}, expected two ratios LOW,HIGH of noise to data: 0.2,5") from None
    return low, high


def describe_model(name: str) -> tuple[str, Recipe, dict[str, Any]]:
    """Where a model lies, its recipe and what was noted of it; a public checkpoint is read for that."""
    if name not in bundled_models() and (name.startswith("hub:") or is_public(name)):
        model = sf.load(name, device="cpu")
        return name, model.recipe, dict(model.metadata)
    checkpoint = read_checkpoint(name)
    noted = dict(checkpoint.metadata)
    if checkpoint.plans:
        noted["budgets"] = ", ".join(f"{budget} {plan.solver}" for budget, plan in sorted(checkpoint.plans.items()))
    if (checkpoint.folder / BESIDE).is_dir():
        classifier = load_classifier(checkpoint.folder / BESIDE)
        noted["classifier"] = ", ".join(classifier.names) or f"{classifier.classes} classes"
    return str(checkpoint.folder), checkpoint.recipe, noted


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` is a GPU where there is one. Raises DeviceError where it cannot be used.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"device {name!r} cannot be used ({reason}): give cpu or auto") from None
    if device.type == "meta":
        raise DeviceError("device 'meta' computes nothing: give cpu or auto")
    return device


def images_for(
    model: ScoreModel, name: str, *, channels: int | None, resize: bool = False, split: Split = "train"
) -> Source:
    """Images of the model's size and of `channels`, None for any, prepared as those that it was trained on."""
    recipe = recipe_of(model)
    data = Data(shape=model.space.shape) if recipe is None else recipe.data
    return open_images(data, name, channels=channels, resize=resize, split=split)


def data_for(
    model: ScoreModel, name: str, *, first: int | None, resize: bool = False, split: Split = "train"
) -> Shaped[Tensor, "n *data"]:
    """The data of a name, the `first` so many of them, of the shape that the model takes."""
    space = model.space
    if len(space.shape) == 3:
        return take(images_for(model, name, channels=space.shape[0], resize=resize, split=split), first)
    source = open_data(name, split=split)
    space.check(torch.empty(0, *source.shape))
    return take(source, first)


def take(source: Source, first: int | None) -> Shaped[Tensor, "n *data"]:
    """The first items of a source, or all."""
    if first is None or first >= len(source):
        return source.tensor()
    return torch.stack([source.item(i) for i in range(first)])


def check_latents_path(out: str) -> None:
    """Raise now what `write_latents` would raise later."""
    if Path(out).suffix.lower() != ".npz":
        raise DataError(f"{out}: latent codes are written as .npz; expected a name that ends in it")
    check_writable(out)


def write_latents(out: str, z: Float[Tensor, "n *data"]) -> None:
    """Write latent codes as the array `latents` of an .npz."""
    arrays: dict[str, Any] = {"latents": z.cpu().numpy()}
    with atomic_write(out) as file:
        np.savez(file, **arrays)


def read_latents(name: str, space: DataSpace, *, first: int | None) -> Float[Tensor, "n *data"]:
    """Latent codes of the shape that a model takes."""
    source = open_data(name)
    if source.levels is not None:
        raise DataError(f"{name}: 8-bit data given, expected latent codes in floating point, as encode writes them")
    space.check(torch.empty(0, *source.shape))
    return take(source, first)
