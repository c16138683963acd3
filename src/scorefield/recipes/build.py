"""From a recipe to a model."""

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from scorefield.classifier import NetworkClassifier, class_index
from scorefield.guidance import ClassifierGuidance, Contrast, Guided, Interval
from scorefield.model_folder import write_folder
from scorefield.network_model import TIME_LABELS, NetworkModel
from scorefield.nn import MLP, NCSN, NCSNv2, UNet
from scorefield.recipes import schema
from scorefield.recipes.hub import push
from scorefield.recipes.load import RecipeError
from scorefield.recipes.schema import Network, Recipe
from scorefield.samplers import (
    DDIM,
    Ancestral,
    CorrectorOnly,
    EulerMaruyama,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
    Sampler,
)
from scorefield.score import PARAMETERIZATIONS, Denoiser, Parameterization, ScoreModel
from scorefield.sde import DDPM, EDM, SMLD, VE, VP, Cosine, LinearSDE, RectifiedFlow, SubVP
from scorefield.space import DataSpace
from scorefield.times import GRIDS, Grid

if TYPE_CHECKING:
    from scorefield.recipes.build_classifier import RecipeClassifier

BESIDE = "classifier"
"""The folder beside a model's files where its classifier lies."""

SDES: dict[str, type[LinearSDE]] = {
    "vp": VP,
    "subvp": SubVP,
    "ve": VE,
    "edm": EDM,
    "rectified_flow": RectifiedFlow,
    "cosine": Cosine,
    "ddpm": DDPM,
    "smld": SMLD,
}


class RecipeModel(NetworkModel):
    """A network model that knows the recipe it was made from, and what was noted of it, and can therefore be saved."""

    recipe: Recipe
    metadata: Mapping[str, Any]
    find_classifier: "Callable[[], RecipeClassifier] | None" = None
    """Loads the classifier that lies beside the model."""

    @cached_property
    def classifier(self) -> "RecipeClassifier | None":
        """The noise-conditional classifier that lies beside the model, None where there is none."""
        return None if self.find_classifier is None else self.find_classifier()

    def given(self, **condition: Any) -> Denoiser:
        """This model with a class: `label=`, a number, a name that its classifier knows, or (batch,) int64.

        A model of all classes is guided by `classifier=`, or by the one beside it. A model that was trained with labels
        is its own; with another `scale=` than 1 it is guided away from what it says without a label. `interval=` keeps
        guidance to noise-to-signal ratios (low, high). See :mod:`scorefield.guidance`.

        Raises ValueError where the label is none, and where nobody knows of classes.
        """
        unknown = condition.keys() - {"label", "scale", "interval", "classifier"}
        if unknown or "label" not in condition:
            raise ValueError(
                f"condition {', '.join(condition)} given, expected label=…, and with it scale, interval or classifier"
            )
        label, scale, classifier = condition["label"], condition.get("scale", 1.0), condition.get("classifier")
        interval = Interval(*condition.get("interval", ()))
        if classifier is None and not self.space.classes:
            classifier = self.classifier
        if classifier is not None:
            if isinstance(classifier, NetworkClassifier) and classifier.space.shape != self.space.shape:
                raise ValueError(
                    f"a classifier of data {classifier.space.shape} with a model of data {self.space.shape}: take one "
                    "of the same data"
                )
            weight = next(self.parameters())
            return ClassifierGuidance(self, classifier.to(weight.device, weight.dtype), label, scale, interval)
        if not self.space.classes:
            raise ValueError(
                f"label {label} given to a model without classes, and no classifier lies beside it: make one with "
                "scorefield train-classifier, or take a model that was trained with labels"
            )
        number = label if isinstance(label, Tensor) else class_index(label, self.space.classes)
        labelled = super().given(label=number)
        if scale == 1:
            return labelled
        return Contrast(labelled, self.labelled(self.space.classes), scale, interval)

    def save_pretrained(self, folder: str | os.PathLike[str], **metadata: Any) -> None:
        """Write the model into `folder`, as a whole, for `scorefield.load`, with the classifier beside it if any.

        `metadata` (JSON) is added to what is known already. Raises OSError.
        """
        recipe = self.recipe.model_dump(mode="json")
        write_folder(self.network, recipe, folder, metadata={**self.metadata, **metadata})
        if self.classifier is not None:
            self.classifier.save_pretrained(Path(folder) / BESIDE)

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None, **metadata: Any) -> str:
        """Upload the model with a model card to the repository `ORG/NAME` of the Hugging Face hub.

        The repository is made if it is not there; its address is returned. Others load `hub:ORG/NAME`. Needs the `hub`
        extra. Raises OSError where the hub refuses.
        """
        return push(self, repo_id, private=private, token=token, **metadata)


def recipe_of(model: ScoreModel) -> Recipe | None:
    """The recipe of a model, or of the model that it guides; None where it has none."""
    while isinstance(model, Guided):
        model = model.model
    return model.recipe if isinstance(model, RecipeModel) else None


def build(recipe: Recipe) -> RecipeModel:
    """A model with fresh weights, as the recipe says. Raises RecipeError where its options do not fit together.

    >>> from scorefield.recipes import load_recipe
    >>> build(load_recipe("table", ["data.shape=[2]"])).space.shape
    (2,)
    """
    model = recipe.model
    try:
        built = RecipeModel(
            _network(recipe),
            build_sde(recipe.sde),
            data_space(recipe.data),
            _parameterization(model),
            TIME_LABELS[model.time_label](),
        )
    except ValueError as error:
        raise RecipeError(f"recipe with sde {recipe.sde.name} and network {model.network}: {error}") from error
    except (OverflowError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise RecipeError(
            f"a network {model.network} of these sizes cannot be made ({reason}); make it smaller"
        ) from error
    if built.singular:
        raise RecipeError(
            f"model.parameterization = {model.parameterization} with sde.name = {recipe.sde.name}, where nothing of "
            "the data is left at T: take velocity, v, data or edm"
        )
    built.recipe, built.metadata = recipe, {}
    return built


def build_sde(section: schema.SDE) -> LinearSDE:
    """The SDE of a recipe's section. Raises ValueError where its options do not fit together."""
    return SDES[section.name](**section.model_dump(exclude={"name"}))


def data_space(section: schema.Data) -> DataSpace:
    """The data space of a recipe's section. Raises ValueError."""
    return DataSpace(section.shape, section.shift, section.scale, section.levels, section.classes)


def build_sampler(recipe: Recipe, sde: LinearSDE) -> tuple[Sampler, Grid]:
    """The sampler and the time grid that the recipe's sampling section names. RecipeError where it names none."""
    sampling = recipe.sampling
    rules: dict[str, Literal["norm", "sigma"]] = {"langevin": "norm", "annealed_langevin": "sigma"}
    flow = sampling.probability_flow
    predictors: dict[str, Callable[[], Sampler]] = {
        "euler_maruyama": lambda: EulerMaruyama(flow),
        "reverse_diffusion": lambda: ReverseDiffusion(flow),
        "ancestral": DDIM if flow else Ancestral,
    }
    times = GRIDS[sampling.grid](sde, sampling.steps)
    if sampling.predictor == "none":
        if sampling.corrector == "none":
            raise RecipeError("sampling.predictor and sampling.corrector are both none: x would stay noise; name one")
        if float(sde.alpha(times[0])) != 1:
            raise RecipeError(
                f"sampling.predictor = none with sde.name = {recipe.sde.name}, which shrinks the data: correctors "
                "alone sample where it does not (smld, ve, edm); name a predictor"
            )
        return CorrectorOnly(Langevin(sampling.snr, sampling.corrector_steps, rules[sampling.corrector])), times
    predictor = predictors[sampling.predictor]()
    if sampling.corrector == "none":
        return predictor, times
    corrector = Langevin(sampling.snr, sampling.corrector_steps, rules[sampling.corrector])
    return PredictorCorrector(predictor, corrector), times


def _network(recipe: Recipe) -> nn.Module:
    """The network of the model section, whose remaining keys are its options."""
    options: dict[str, Any] = recipe.model.model_dump(exclude={"network", *Network.model_fields})
    data = recipe.data
    if recipe.model.network == "mlp":
        return MLP(data.shape, classes=data.classes, **options)
    if recipe.model.network != "unet":
        return _ncsn(recipe, options)
    match data.shape:
        case (channels, size):
            return UNet(channels, dims=1, size=size, classes=data.classes, **options)
        case (channels, size, _):
            return UNet(channels, dims=2, size=size, classes=data.classes, **options)
        case (channels, size, _, _):
            return UNet(channels, dims=3, size=size, classes=data.classes, **options)
    raise RecipeError(
        f"data.shape = {list(data.shape)}, and a unet takes [channels, length], [channels, height, width] or "
        "[channels, depth, height, width]; use mlp"
    )


def _ncsn(recipe: Recipe, options: dict[str, Any]) -> NCSN | NCSNv2:
    """NCSN or NCSNv2: for images without classes; an NCSN has as many noise levels as the SDE's table has rows."""
    name, shape = recipe.model.network, recipe.data.shape
    if len(shape) != 3:
        raise RecipeError(f"data.shape = {list(shape)}, and an {name} takes [channels, height, width]; use unet or mlp")
    if recipe.data.classes:
        raise RecipeError(f"data.classes = {recipe.data.classes}, and an {name} takes no labels: set 0 or use unet")
    network: NCSN | NCSNv2
    if name == "ncsnv2":
        network = NCSNv2(shape[0], **options)
    elif recipe.sde.name not in ("ddpm", "smld") or recipe.model.time_label != "descending_index":
        raise RecipeError(
            f"sde.name = {recipe.sde.name} with model.time_label = {recipe.model.time_label}, and an ncsn is told the "
            "row of a table: use smld with descending_index"
        )
    else:
        network = NCSN(shape[0], levels=recipe.sde.steps, **options)
    network.refinenet.check_shape(shape)
    return network


def _parameterization(model: Network) -> Parameterization:
    kind: Any = PARAMETERIZATIONS[model.parameterization]
    return kind(model.data_std) if model.parameterization == "edm" else kind()  # type: ignore[no-any-return]
