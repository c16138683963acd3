"""What a noise-conditional classifier is and how it was trained: a recipe of four sections.

The data's space and the SDE are those of the model that it stands beside, `data.classes` is the number of classes.
"""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from scorefield.recipes.schema import (
    SDE,
    VP,
    Count,
    Data,
    Nonlinearity,
    NonNegativeInt,
    Optimization,
    Section,
    Share,
    TimeLabel,
)


class ClassifierNetwork(Section):
    """What every classifier has: data of standard deviation `data_std`, and the number by which it is told the time."""

    data_std: PositiveFloat = 0.5
    time_label: TimeLabel = "quarter_logsnr"
    fourier_scale: PositiveFloat = 1.0
    dropout: Share = 0.0


class Encoder(ClassifierNetwork):
    """The encoder of a U-Net and a pooling, for series, images and volumes."""

    network: Literal["encoder"] = "encoder"
    patch: PositiveInt = 1
    channels: PositiveInt = 32
    multipliers: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 4)
    blocks: Count | tuple[Count, ...] = 1
    attention: tuple[PositiveInt, ...] = ()
    head_channels: NonNegativeInt = 0
    pooling: Literal["mean", "attention"] = "mean"
    embedding: Literal["positional", "fourier", "none"] = "fourier"
    nonlinearity: Nonlinearity = "silu"


class WideResNet(ClassifierNetwork):
    """The classifier of Song et al. 2021: depth 28 and width 10 in the paper."""

    network: Literal["wide_resnet"] = "wide_resnet"
    depth: PositiveInt = 28
    width: PositiveInt = 10
    embedding: Literal["positional", "fourier", "none"] = "fourier"
    nonlinearity: Nonlinearity = "relu"


class Perceptron(ClassifierNetwork):
    """A residual perceptron for data of any shape."""

    network: Literal["perceptron"] = "perceptron"
    width: PositiveInt = 128
    depth: Count = 2


class ClassifierTraining(Optimization):
    """Cross-entropy on perturbed data, and how it is optimized."""

    steps: PositiveInt = 5000
    batch_size: PositiveInt = 64
    lr: PositiveFloat = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.99)
    warmup: NonNegativeInt = 100
    decay: Annotated[float, Field(ge=0, le=1)] = 0.4
    ema: Share = 0.999
    checkpoint_every: PositiveInt = 200


class ClassifierRecipe(Section):
    """All of a classifier. `names` are what its classes are called."""

    data: Data = Data(classes=10)
    sde: SDE = VP()
    model: Annotated[Encoder | WideResNet | Perceptron, Field(discriminator="network")] = Encoder()
    training: ClassifierTraining = ClassifierTraining()
    names: tuple[str, ...] = ()
