"""From a model's recipe to a classifier's, and from that to a classifier."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from scorefield.classifier import NetworkClassifier
from scorefield.model_folder import write_folder
from scorefield.network_model import TIME_LABELS
from scorefield.nn import Encoder, PerceptronClassifier, WideResNet
from scorefield.recipes.build import build_sde, data_space
from scorefield.recipes.classifier import ClassifierRecipe
from scorefield.recipes.load import RecipeError, parse
from scorefield.recipes.schema import Recipe

_TOLD = ("network", "data_std", "time_label")


class RecipeClassifier(NetworkClassifier):
    """A network classifier that knows the recipe it was made from, and what was noted of it."""

    recipe: ClassifierRecipe
    metadata: Mapping[str, Any]

    def save_pretrained(self, folder: str | os.PathLike[str], **metadata: Any) -> None:
        """Write the classifier into `folder`, as a whole. `metadata` (JSON) is added. Raises OSError."""
        recipe = self.recipe.model_dump(mode="json")
        write_folder(self.network, recipe, folder, metadata={**self.metadata, **metadata})


def classifier_recipe(
    model: Recipe, classes: int, *, names: Sequence[str] = (), overrides: Iterable[str] = ()
) -> ClassifierRecipe:
    """The recipe of a classifier for a model: an encoder for images, a perceptron for vectors, unless overridden.

    Overrides are of its sections model and training, like "model.channels=64". Raises RecipeError.

    >>> from scorefield.recipes import load_recipe
    >>> classifier_recipe(load_recipe("mnist"), 10).model.network
    'encoder'
    """
    changes = list(overrides)
    for change in changes:
        if change.partition(".")[0] not in ("model", "training"):
            raise RecipeError(f"override {change!r}, expected one of model.… or training.…: the rest is the model's")
    data = model.data.model_dump() | {"classes": classes, "dequantize": False}
    network = "perceptron" if len(model.data.shape) < 2 else "encoder"
    tree = {"data": data, "sde": model.sde.model_dump(), "model": {"network": network}, "names": tuple(names)}
    return parse(ClassifierRecipe, tree, "of the classifier", changes)


def build_classifier(recipe: ClassifierRecipe) -> RecipeClassifier:
    """A classifier with fresh weights, as the recipe says. Raises RecipeError where its options do not fit together.

    >>> build_classifier(ClassifierRecipe()).classes
    10
    """
    model = recipe.model
    try:
        built = RecipeClassifier(
            _network(recipe),
            build_sde(recipe.sde),
            data_space(recipe.data),
            TIME_LABELS[model.time_label](),
            data_std=model.data_std,
            names=recipe.names,
        )
    except (ValueError, OverflowError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise RecipeError(f"a classifier {model.network} cannot be made: {reason}") from error
    built.recipe, built.metadata = recipe, {}
    return built


def _network(recipe: ClassifierRecipe) -> nn.Module:
    """The network of the model section, whose remaining keys are its options."""
    data, options = recipe.data, recipe.model.model_dump(exclude=set(_TOLD))
    if recipe.model.network == "perceptron":
        return PerceptronClassifier(data.shape, classes=data.classes, **options)
    dims: Any = len(data.shape) - 1
    if dims not in (1, 2, 3):
        raise RecipeError(
            f"data of shape {list(data.shape)}, and a {recipe.model.network} takes series, images and volumes; set "
            "model.network=perceptron"
        )
    if recipe.model.network == "wide_resnet":
        return WideResNet(data.shape[0], classes=data.classes, dims=dims, **options)
    return Encoder(data.shape[0], classes=data.classes, dims=dims, size=data.shape[1], **options)
