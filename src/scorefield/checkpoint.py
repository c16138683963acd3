"""Models by name: those that come with the package, checkpoint folders and run folders.

What such a folder holds is said in :mod:`scorefield.model_folder`. Weights may be stored in 16 bits; they are loaded
as float32.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scorefield.convert.model import filled, model_with
from scorefield.convert.weights import ConversionError
from scorefield.data import atomic_write
from scorefield.model_folder import MODEL, WEIGHTS, CheckpointError, read_description, read_weights, write_folder
from scorefield.plan import Plan, read_plans, write_plans
from scorefield.recipes import Recipe, RecipeError, parse_recipe
from scorefield.recipes.build import BESIDE, RecipeModel
from scorefield.recipes.build_classifier import RecipeClassifier, build_classifier
from scorefield.recipes.classifier import ClassifierRecipe
from scorefield.recipes.load import parse

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "bundled_models",
    "load_classifier",
    "load_model",
    "read_checkpoint",
    "save_classifier",
    "save_model",
    "save_plans",
]

PLANS = "calibration.json"


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk, without its weights: where it is, its recipe, what was noted when it was saved, its plans."""

    folder: Path
    recipe: Recipe
    metadata: Mapping[str, Any]
    plans: Mapping[int, Plan]


def bundled_models() -> tuple[str, ...]:
    """The names of the models that come with the package."""
    return tuple(sorted(path.parent.name for path in _bundle().glob(f"*/{MODEL}")))


def save_model(
    model: RecipeModel, folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32, **metadata: Any
) -> None:
    """Write a model into `folder`, as a whole: whenever it is killed, the old or the new one is there.

    `dtype` is what parameters are stored in (buffers stay as they are); `metadata` must be JSON. Raises OSError,
    and CheckpointError where a weight is too large for `dtype`.
    """
    write_folder(model.network, model.recipe.model_dump(mode="json"), folder, dtype=dtype, metadata=metadata)


def load_model(name: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> RecipeModel:
    """The model of a bundled name, a checkpoint folder or a run folder, in float32 and evaluation mode.

    A bundled name wins over a folder of that name; `./name` is the folder.

    Raises:
        CheckpointError: no such model, damaged files, a newer format, weights that do not fit the recipe.
    """
    folder = _folder(name)
    content, weights = read_weights(folder)
    checkpoint = _checkpoint(folder, content)
    try:
        model = model_with(checkpoint.recipe, lambda _: weights, str(folder / WEIGHTS))
    except ConversionError as error:
        raise CheckpointError(str(error)) from None
    model.metadata, model.plans = checkpoint.metadata, checkpoint.plans
    if (folder / BESIDE / WEIGHTS).is_file():
        model.find_classifier = partial(load_classifier, folder / BESIDE)
    return model.to(device)


def save_classifier(
    classifier: RecipeClassifier,
    folder: str | os.PathLike[str],
    *,
    dtype: torch.dtype = torch.float32,
    **metadata: Any,
) -> None:
    """Write a classifier into `folder`, as a whole, as `save_model` writes a model."""
    recipe = classifier.recipe.model_dump(mode="json")
    write_folder(classifier.network, recipe, folder, dtype=dtype, metadata=metadata)


def load_classifier(folder: str | os.PathLike[str]) -> RecipeClassifier:
    """The classifier of a folder or run folder, in float32 and evaluation mode. Raises CheckpointError."""
    path = Path(folder)
    if not (path / WEIGHTS).is_file():
        raise CheckpointError(f"no classifier {folder}: it has no {WEIGHTS}; give what train-classifier has made")
    content, weights = read_weights(path)
    where = str(path / MODEL)
    try:
        recipe = parse(ClassifierRecipe, _object(content, "recipe", where), where)
        classifier = filled(lambda: build_classifier(recipe), lambda _: weights, str(path / WEIGHTS))
    except (RecipeError, ConversionError) as error:
        raise CheckpointError(str(error)) from None
    classifier.metadata = _object(content, "metadata", where)
    return classifier


def save_plans(plans: Mapping[int, Plan], folder: str | os.PathLike[str]) -> None:
    """Write plans beside the model in `folder`, for the budgets of `sf.sample`."""
    with atomic_write(Path(folder) / PLANS, "w") as file:
        file.write(write_plans(plans))


def _plans(folder: Path) -> dict[int, Plan]:
    path = folder / PLANS
    if not path.is_file():
        return {}
    try:
        return read_plans(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); delete it, or calibrate the model again") from None


def read_checkpoint(name: str | os.PathLike[str]) -> Checkpoint:
    """What is known of a model without building it; names and errors as in `load_model`."""
    folder = _folder(name)
    return _checkpoint(folder, read_description(folder))


def _folder(name: str | os.PathLike[str]) -> Path:
    if isinstance(name, str) and name in bundled_models():
        return _bundle() / name
    path = Path(name)
    if (path / WEIGHTS).is_file():
        return path
    models = ", ".join(bundled_models()) or "none"
    problem = "is not there" if not path.exists() else f"has no {WEIGHTS}"
    raise CheckpointError(f"no model {name}: it {problem}; give a checkpoint folder, a run folder or one of: {models}")


def _bundle() -> Path:
    return Path(__file__).parent / "models"


def _checkpoint(folder: Path, content: Mapping[str, Any]) -> Checkpoint:
    where = str(folder / MODEL)
    recipe, metadata = _object(content, "recipe", where), _object(content, "metadata", where)
    try:
        return Checkpoint(folder, parse_recipe(recipe, where), metadata, _plans(folder))
    except RecipeError as error:
        raise CheckpointError(str(error)) from None


def _object(content: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: its {key} is {value!r:.50}, expected an object; copy it again")
    return value
