"""A recipe and weights as a model.

Every reader of a checkpoint, of this library's format or of a public one, ends here. A file of a few bytes can describe
a network of any size: the network is first built without memory, and with it once all weights are there and fit.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from scorefield.convert.weights import check_weights
from scorefield.nn.weightless import weightless
from scorefield.recipes import Recipe
from scorefield.recipes.build import RecipeModel, build
from scorefield.recipes.build_classifier import RecipeClassifier

Made = TypeVar("Made", RecipeModel, RecipeClassifier)


def model_with(recipe: Recipe, weights: Callable[[nn.Module], Mapping[str, Tensor]], where: str) -> RecipeModel:
    """The model of a recipe in float32 and evaluation mode, its weights frozen.

    `weights` is called with the recipe's network, which has no memory, and returns its weights by the names of its
    `state_dict()`; `where` is what the message calls their origin.

    Raises:
        ConversionError: weights that do not fit the network.
        RecipeError: a recipe whose options do not fit together.
    """
    return filled(lambda: build(recipe), weights, where)


def filled(make: Callable[[], Made], weights: Callable[[nn.Module], Mapping[str, Tensor]], where: str) -> Made:
    """What `make` makes, a model or a classifier, with the weights of its network; all else as in `model_with`."""
    with weightless():
        empty = make().network
    named = weights(empty)
    check_weights(empty, named, where)
    with torch.random.fork_rng(devices=[]):
        model = make()
    model.network.load_state_dict(named)
    return model.eval().requires_grad_(False)
