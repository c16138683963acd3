"""What a training learns: the model it makes, the loss, and how the result is written down."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scorefield.checkpoint import save_classifier, save_model
from scorefield.convert.weights import ConversionError, load_weights
from scorefield.data import grid, save_image
from scorefield.network_model import NetworkModel
from scorefield.recipes import Recipe, load_recipe
from scorefield.recipes.build import RecipeModel, build, build_sampler
from scorefield.recipes.build_classifier import RecipeClassifier, build_classifier
from scorefield.recipes.classifier import ClassifierRecipe
from scorefield.recipes.load import load_classifier_recipe
from scorefield.training.objective import ClassObjective, Objective
from scorefield.training.report import Report

Model = TypeVar("Model", RecipeModel, RecipeClassifier)
Labels = Int64[Tensor, " batch"]

_FREE = {"steps", "log_every", "checkpoint_every", "tensorboard"}


class TrainingError(ValueError):
    """A training that cannot start or go on; one line that says why and what to do."""


class Task(ABC, Generic[Model]):
    """What is trained.

    `free` names what a resumed training may change: keys that no step before the last part of a training depends on,
    None for all of a section.
    """

    recipe: Recipe | ClassifierRecipe
    free: Mapping[str, Set[str] | None]

    @abstractmethod
    def start(self, resumes: bool) -> Model:
        """A model to begin with; its weights count unless the training `resumes`. Raises TrainingError, RecipeError."""

    @abstractmethod
    def objective(self, model: Model) -> nn.Module:
        """The loss, a function of data in model units, u of the times, noise and labels."""

    @abstractmethod
    def labels(self, labels: Labels | None, w: Float[Tensor, " batch"]) -> Labels | None:
        """What the loss is told of the labels; `w` is uniform in [0, 1)."""

    @abstractmethod
    def read(self, path: Path) -> Recipe | ClassifierRecipe:
        """The recipe that a run folder was begun with."""

    @abstractmethod
    def save(self, model: Model, folder: Path, step: int) -> None:
        """Write the averaged model."""

    def note(self, model: Model, folder: Path, step: int, report: Report) -> None:
        """Whatever else there is to write after a step."""


class ScoreMatching(Task[RecipeModel]):
    """A score model, by denoising score matching; `preview` makes the pictures of `training.sample_every`."""

    free = {  # noqa: RUF012
        "training": {*_FREE, "sample_every", "snapshot_every"},
        "sampling": None,
        "evaluation": None,
    }

    def __init__(self, recipe: Recipe, init: NetworkModel | None, preview: Callable[[RecipeModel], Tensor]) -> None:
        self.recipe: Recipe = recipe
        self.init, self.preview = init, preview

    def start(self, resumes: bool) -> RecipeModel:
        """Random weights, or those of `init`."""
        model = build(self.recipe)
        build_sampler(self.recipe, model.sde)
        if self.init is not None and not resumes:
            _start_from(self.init, model)
        return model

    def objective(self, model: RecipeModel) -> nn.Module:
        """Denoising score matching."""
        settings = self.recipe.training
        return Objective(model, settings.weighting, settings.times, settings.likelihood_share, settings.reduction)

    def labels(self, labels: Labels | None, w: Float[Tensor, " batch"]) -> Labels | None:
        """Labels, some of them left out, for a model with classes."""
        classes = self.recipe.data.classes
        if labels is None or not classes:
            return None
        return torch.where(w < self.recipe.training.label_dropout, classes, labels)

    def read(self, path: Path) -> Recipe:
        """The recipe of a YAML file."""
        return load_recipe(path)

    def save(self, model: RecipeModel, folder: Path, step: int) -> None:
        """Write a model's folder."""
        save_model(model, folder, steps=step, images_seen=step * self.recipe.training.batch_size)

    def note(self, model: RecipeModel, folder: Path, step: int, report: Report) -> None:
        """Snapshots, and a grid of samples where they are images."""
        settings = self.recipe.training
        if settings.snapshot_every and step % settings.snapshot_every == 0:
            self.save(model, folder / "snapshots" / f"{step:09d}", step)
        if settings.sample_every and step % settings.sample_every == 0:
            samples = self.preview(model)
            if samples.ndim == 4 and samples.shape[1] in (1, 3):
                picture = grid(samples)
                save_image(folder / "samples" / f"{step:09d}.png", picture)
                report.picture(step, picture)


class Classification(Task[RecipeClassifier]):
    """A noise-conditional classifier, by cross-entropy on perturbed data."""

    free = {"training": _FREE, "names": None}  # noqa: RUF012

    def __init__(self, recipe: ClassifierRecipe) -> None:
        self.recipe: ClassifierRecipe = recipe

    def start(self, resumes: bool) -> RecipeClassifier:  # noqa: ARG002
        """Random weights."""
        return build_classifier(self.recipe)

    def objective(self, model: RecipeClassifier) -> nn.Module:
        """Cross-entropy."""
        return ClassObjective(model, self.recipe.training.times)

    def labels(self, labels: Labels | None, w: Float[Tensor, " batch"]) -> Labels | None:  # noqa: ARG002
        """The labels."""
        return labels

    def read(self, path: Path) -> ClassifierRecipe:
        """The recipe of a YAML file."""
        return load_classifier_recipe(path)

    def save(self, model: RecipeClassifier, folder: Path, step: int) -> None:
        """Write a classifier's folder."""
        save_classifier(model, folder, steps=step, images_seen=step * self.recipe.training.batch_size)


def _start_from(init: NetworkModel, model: RecipeModel) -> None:
    """Copy the weights of a model that has the recipe's network, and means the same by its output and its label."""
    for what, given, expected in (
        ("parameterization", init.parameterization, model.parameterization),
        ("time label", init.time_label, model.time_label),
    ):
        if type(given) is not type(expected):
            raise TrainingError(
                f"the model to start from has the {what} {type(given).__name__}, the recipe's is "
                f"{type(expected).__name__}: give a model of the same, or change the recipe"
            )
    try:
        load_weights(model.network, init.network.state_dict(), "the model to start from")
    except ConversionError as error:
        raise TrainingError(f"{error}: give a model of the same network, or change the recipe") from None
