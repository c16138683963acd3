"""What a model is and how it was trained, as one frozen record: the recipe.

Six sections: the data's space, the SDE, the network with what it predicts, the training, the default sampler and what
is measured. Each has defaults, those of the paper's CIFAR-10 models where there is such a thing, and refuses keys that
it does not know. The options of `sde` depend on its `name`, those of `model` on its `network`.

Nothing here needs torch: recipes are listed and checked at once.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

NonNegativeInt = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(gt=0, le=1000)]
"""Of what is built one by one."""
Rows = Annotated[int, Field(gt=0, le=1_000_000)]
"""Of a table."""


class Section(BaseModel):
    """A frozen record that refuses unknown keys and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Data(Section):
    """The data's space, data = shift + scale · model, and how items become training data.

    Images are in [0, 1]: shift and scale 0.5 make model units of [-1, 1] of them, 0 and 1 leave them. An image of
    another size than `shape` is refused unless `crop` or `resize` say how it is made to fit: its centre is cropped to a
    square of `crop` pixels, or to the largest; then it is resized until its shorter side fits and what stands over is
    cropped.
    """

    name: str = ""
    """What the data set is called that the recipe is made for."""
    shape: tuple[PositiveInt, ...] = (3, 32, 32)
    shift: tuple[float, ...] = (0.5,)
    scale: tuple[PositiveFloat, ...] = (0.5,)
    levels: Annotated[int, Field(ge=2, le=256)] | None = 256
    classes: NonNegativeInt = 0
    crop: PositiveInt | Literal["none", "square"] = "none"
    resize: Literal["none", "box", "bilinear", "bicubic"] = "none"
    dequantize: bool = False
    flip: bool = False


class VP(Section):
    """Variance preserving."""

    name: Literal["vp"] = "vp"
    beta_min: PositiveFloat = 0.1
    beta_max: PositiveFloat = 20.0
    t_min: PositiveFloat = 1e-5
    t_sample: PositiveFloat = 1e-3


class SubVP(Section):
    """Sub-variance preserving."""

    name: Literal["subvp"] = "subvp"
    beta_min: PositiveFloat = 0.1
    beta_max: PositiveFloat = 20.0
    t_min: PositiveFloat = 1e-5
    t_sample: PositiveFloat = 1e-3


class VE(Section):
    """Variance exploding."""

    name: Literal["ve"] = "ve"
    sigma_min: PositiveFloat = 0.01
    sigma_max: PositiveFloat = 50.0
    t_min: PositiveFloat = 1e-5


class EDM(Section):
    """sigma(t) = t."""

    name: Literal["edm"] = "edm"
    sigma_min: PositiveFloat = 0.002
    sigma_max: PositiveFloat = 80.0


class RectifiedFlow(Section):
    """The straight path from data to noise."""

    name: Literal["rectified_flow"] = "rectified_flow"
    t_min: PositiveFloat = 1e-5


class Cosine(Section):
    """alpha = cos(πt/2)."""

    name: Literal["cosine"] = "cosine"
    t_min: PositiveFloat = 1e-5


class DDPM(Section):
    """The table of DDPM."""

    name: Literal["ddpm"] = "ddpm"
    steps: Rows = 1000
    beta_min: PositiveFloat = 0.1
    beta_max: PositiveFloat = 20.0


class SMLD(Section):
    """The table of NCSN."""

    name: Literal["smld"] = "smld"
    steps: Rows = 1000
    sigma_min: PositiveFloat = 0.01
    sigma_max: PositiveFloat = 50.0


SDE = Annotated[VP | SubVP | VE | EDM | RectifiedFlow | Cosine | DDPM | SMLD, Field(discriminator="name")]


Parameterization = Literal["noise", "score", "scaled_score", "data", "v", "velocity", "edm"]
TimeLabel = Literal[
    "continuous",
    "log_continuous",
    "log_sigma",
    "quarter_log_sigma",
    "quarter_logsnr",
    "ascending_index",
    "descending_index",
]
Nonlinearity = Literal["silu", "relu", "leaky_relu", "elu"]


class Network(Section):
    """What every network has: what it predicts and the number by which it is told the time."""

    parameterization: Parameterization = "noise"
    data_std: PositiveFloat = 0.5
    """The standard deviation of the data for the edm parameterization."""
    time_label: TimeLabel = "continuous"


class UNet(Network):
    """The U-Net of DDPM, NCSN++ and DDPM++, for series, images and volumes."""

    network: Literal["unet"] = "unet"
    channels: PositiveInt = 128
    multipliers: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 2, 2)
    blocks: Count | tuple[Count, ...] = 4
    attention: tuple[PositiveInt, ...] = (16,)
    decoder_attention: Literal["last", "every"] = "last"
    head_channels: NonNegativeInt = 0
    residual: Literal["biggan", "ddpm"] = "biggan"
    resample: Literal["fir", "box"] = "box"
    fir_taps: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
    resample_with_conv: bool = True
    dropout: Share = 0.1
    embedding: Literal["positional", "fourier", "none"] = "positional"
    fourier_scale: PositiveFloat = 16.0
    rescale: bool = True
    progressive: Literal["none", "output_skip", "residual"] = "none"
    progressive_input: Literal["none", "input_skip", "residual"] = "none"
    combine: Literal["sum", "cat"] = "sum"
    nonlinearity: Nonlinearity = "silu"
    group_channels: PositiveInt = 4
    init_scale: Annotated[float, Field(ge=0)] = 0.0
    centered: bool = True
    checkpointing: bool = False


class MLP(Network):
    """A residual perceptron for data of any shape."""

    network: Literal["mlp"] = "mlp"
    width: PositiveInt = 256
    depth: Count = 4
    time_scale: PositiveFloat = 1.0
    fourier_scale: PositiveFloat = 1.0
    dropout: Share = 0.0


class NCSN(Network):
    """The network of Song & Ermon 2019, which predicts the score and is told the row of the SDE's table."""

    network: Literal["ncsn"] = "ncsn"
    parameterization: Parameterization = "score"
    time_label: TimeLabel = "descending_index"
    channels: PositiveInt = 128
    nonlinearity: Nonlinearity = "elu"
    centered: bool = False


class NCSNv2(Network):
    """The network of Song & Ermon 2020, which predicts the score over its size and is told no time."""

    network: Literal["ncsnv2"] = "ncsnv2"
    parameterization: Parameterization = "scaled_score"
    time_label: TimeLabel = "log_sigma"
    channels: PositiveInt = 128
    stages: Literal[4, 5, 6] = 4
    nonlinearity: Nonlinearity = "elu"
    centered: bool = False


Model = Annotated[UNet | MLP | NCSN | NCSNv2, Field(discriminator="network")]


class Optimization(Section):
    """The optimizer (Adam), the average of the weights, the times, and when to write what.

    A batch goes through the network in so many `parts`, one after the other, to save memory: the step is the same.
    `times` are uniform, on the rows of the SDE's table, or uniform in log-SNR. `decay` is the fraction of the steps
    at the end over which the learning rate falls to 0. `ema` 0 means no average, `clip` 0 no clipping.
    """

    steps: PositiveInt = 1_300_000
    batch_size: PositiveInt = 128
    parts: PositiveInt = 1
    lr: PositiveFloat = 2e-4
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup: NonNegativeInt = 5000
    decay: Fraction = 0.0
    clip: Annotated[float, Field(ge=0)] = 1.0
    ema: Share = 0.9999
    times: Literal["uniform", "table", "logsnr"] = "uniform"
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: NonNegativeInt = 0
    log_every: PositiveInt = 50
    checkpoint_every: PositiveInt = 10_000
    tensorboard: bool = False


class Training(Optimization):
    """The objective, and how it is optimized.

    `reduction` makes a sample's loss the mean over its coordinates or half their sum, which matters to `clip` only.
    `likelihood_share` is the part of a batch whose times are uniform in log-SNR with weight 1, the likelihood weighting
    up to a constant, whatever `weighting` and `times` say of the others. `label_dropout` is the part of the labels of a
    model with classes that is left out, so that it also learns what it is asked for without a label: data of all
    classes together. `sample_every` 0 means no pictures, `snapshot_every` 0 no snapshots, which are copies of the
    averaged model that are kept.
    """

    weighting: Literal["simple", "likelihood"] = "simple"
    reduction: Literal["mean", "sum"] = "mean"
    likelihood_share: Fraction = 0.0
    label_dropout: Share = 0.1
    sample_every: NonNegativeInt = 50_000
    snapshot_every: NonNegativeInt = 0


class Sampling(Section):
    """The sampler of the pictures that a training makes of itself, and of its evaluation.

    `langevin` takes its step from each sample's own score, with signal-to-noise ratio `snr`; `annealed_langevin` takes
    it from the noise level, and is a sampler of its own with the predictor `none`. `denoise` ends the walk with the
    mean of the data given the last x.
    """

    predictor: Literal["none", "euler_maruyama", "reverse_diffusion", "ancestral"] = "ancestral"
    corrector: Literal["none", "langevin", "annealed_langevin"] = "none"
    snr: Annotated[float, Field(gt=0, lt=1)] = 0.16
    corrector_steps: PositiveInt = 1
    steps: PositiveInt = 1000
    grid: Literal["uniform", "quadratic", "logsnr", "edm"] = "uniform"
    probability_flow: bool = False
    denoise: bool = True


class Evaluation(Section):
    """What is measured of a trained model.

    `snapshots` are the first and the last that are compared: number k is that of k · `training.snapshot_every` steps.
    `samples` are drawn for FID and Inception score; bits per dimension are those of the data set's part `split`.
    """

    snapshots: tuple[PositiveInt, PositiveInt] | None = None
    batch_size: PositiveInt = 1024
    samples: NonNegativeInt = 50_000
    split: Literal["train", "test"] = "test"


class Recipe(Section):
    """All of a model."""

    data: Data = Data()
    sde: SDE = VP()
    model: Model = UNet()
    training: Training = Training()
    sampling: Sampling = Sampling()
    evaluation: Evaluation = Evaluation()
