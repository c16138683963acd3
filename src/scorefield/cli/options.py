"""Options that several commands share: one name, one meaning, one help text."""

from typing import Annotated, Literal

import typer

Split = Literal["train", "test"]
PredictorName = Literal[
    "ancestral",
    "ddim",
    "reverse-diffusion",
    "euler-maruyama",
    "heun",
    "stochastic-heun",
    "dpmpp-2m",
    "dpmpp-2m-sde",
    "dpmpp-2s",
    "dpmpp-3m",
    "unipc",
    "unipc-velocity",
    "deis",
    "adams-bashforth",
    "pc",
]
AdaptiveName = Literal["ode", "adaptive-sde"]
SamplerName = Literal["best", PredictorName, AdaptiveName, "recipe"]
CorrectorName = Literal["none", "langevin"]
GridName = Literal["logsnr", "uniform", "quadratic", "edm"]
PrecisionName = Literal["fp32", "bf16"]
MethodName = Literal["mmps", "tmpd", "pigdm", "dps", "diffpir", "ddrm", "smc", "replacement", "repaint"]

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A bundled name such as mnist, a checkpoint, run or diffusers folder, or a .pkl of EDM."
    ),
]
DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="DATA",
        help="An image, a folder or zip of images, .npy or .npz, torchvision:NAME, example:mnist or example:cifar10.",
    ),
]
SamplesOption = Annotated[
    str,
    typer.Option("--out", metavar="FILE", help="A .png (grid), .npz or .npy, or a new folder for a PNG each."),
]
SeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, max=2**32 - 1, help="Sample i of a seed is always the same.")
]
CountOption = Annotated[int, typer.Option("--n", "-n", min=1, help="How many samples for each image.")]
BatchOption = Annotated[
    int, typer.Option("--batch-size", metavar="N", min=1, help="How many at a time; the results do not change.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps …; auto takes a GPU if any.")]
PrecisionOption = Annotated[
    PrecisionName, typer.Option("--precision", help="bf16 takes about half the time; norms and embeddings stay fp32.")
]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="Compile the network first: a minute, for long work; needs a C++ compiler.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
LabelOption = Annotated[
    str | None,
    typer.Option(
        "--label", metavar="CLASS", help="A class by number or name, if the model knows of classes.", show_default=False
    ),
]
ScaleOption = Annotated[
    float | None,
    typer.Option(
        "--guidance-scale",
        metavar="W",
        help="How far towards the class of --label; more is less varied.",
        show_default="1",
    ),
]
IntervalOption = Annotated[
    str | None,
    typer.Option(
        "--guidance-interval",
        metavar="LOW,HIGH",
        help="The ratios of noise to data between which the class guides.",
        show_default="all",
    ),
]
ClassifierOption = Annotated[
    str | None,
    typer.Option(
        "--classifier",
        metavar="FOLDER",
        help="What train-classifier has made.",
        show_default="the one beside the model",
    ),
]
SplitOption = Annotated[Split, typer.Option("--split", help="The part of a torchvision data set.")]
ResizeOption = Annotated[bool, typer.Option("--resize", help="Make images fit the model: crop, resize, convert.")]
FirstOption = Annotated[
    int | None,
    typer.Option("--n", "-n", metavar="N", min=1, help="Only the first so many of the data.", show_default="all"),
]
ImagesOption = Annotated[
    int | None,
    typer.Option("--images", metavar="N", min=1, help="Only the first so many of the images.", show_default="all"),
]
TolOption = Annotated[float, typer.Option("--tol", help="The error that the ODE solver may make along its way.")]
CorrectorOption = Annotated[
    CorrectorName | None,
    typer.Option("--corrector", help="What runs before each predictor step.", show_default="none, langevin in pc"),
]
SnrOption = Annotated[
    float | None,
    typer.Option("--snr", help="The signal-to-noise ratio of Langevin correction.", show_default="0.16"),
]
GridOption = Annotated[
    GridName | None,
    typer.Option(
        "--grid", help="Steps that are equal in log-SNR, time, root of time, or as in EDM.", show_default="logsnr"
    ),
]
