"""`scorefield superres` and `scorefield deblur`: samples of what an image may have been."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scorefield.cli.options import (
    BatchOption,
    CompileOption,
    CountOption,
    DataOption,
    DeviceOption,
    GridOption,
    ImagesOption,
    JsonOption,
    LabelOption,
    MethodName,
    ModelArgument,
    PrecisionOption,
    ResizeOption,
    SamplesOption,
    SeedOption,
    SplitOption,
    StepsOption,
)

if TYPE_CHECKING:
    from torch import Tensor

    from scorefield.guidance import Operator
    from scorefield.score import Denoiser

MethodOption = Annotated[
    MethodName, typer.Option("--method", help="How the posterior is sampled; see the documentation.")
]
NoiseOption = Annotated[
    float, typer.Option("--std", min=0, help="The noise of the data, as a standard deviation of values in [0, 1].")
]
DegradeOption = Annotated[
    bool, typer.Option("--degrade", help="Take good images and degrade them first, to try it out.")
]


def superres(
    model: ModelArgument,
    data: DataOption,
    out: SamplesOption,
    factor: Annotated[
        int, typer.Option("--factor", min=2, help="Pixels of the result for one of the data, each way.")
    ] = 4,
    degrade: DegradeOption = False,
    std: NoiseOption = 0.02,
    method: MethodOption = "mmps",
    n: CountOption = 4,
    images: ImagesOption = None,
    seed: SeedOption = 0,
    steps: StepsOption = 50,
    grid: GridOption = None,
    split: SplitOption = "train",
    resize: ResizeOption = False,
    label: LabelOption = None,
    batch_size: BatchOption = 64,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    compiled: CompileOption = False,
    as_json: JsonOption = False,
) -> None:
    """Raise the resolution of small images, several times each: samples whose block averages are the data.

    A PNG shows a row for each image: the data, the samples, their mean, and twice their standard deviation. Elsewhere
    sample j of image i is number i n + j.
    """
    import scorefield as sf
    from scorefield.cli.choices import OptionError
    from scorefield.cli.completions import read_images
    from scorefield.cli.session import open_model

    scored = open_model(model, device, label, precision, compiled)
    if len(scored.space.shape) != 3:
        raise OptionError(f"the model makes data of shape {scored.space.shape}, expected a model of images")
    _, height, width = scored.space.shape
    if height % factor or width % factor:
        raise OptionError(f"--factor {factor} with images of {height} by {width}: give a divisor of both")
    size = (height, width) if degrade else (height // factor, width // factor)
    x = read_images(scored, data, size, first=images, resize=resize, split=split)
    operator = sf.Average(factor)
    y = operator.apply(x) if degrade else x
    shown = y.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    _restore(
        scored, operator, y, shown, degrade, std, method, n, seed, steps, grid, batch_size, out, as_json, factor=factor
    )


def deblur(
    model: ModelArgument,
    data: DataOption,
    out: SamplesOption,
    blur: Annotated[float, typer.Option("--blur", help="The standard deviation of the blur, in pixels.")] = 1.5,
    degrade: DegradeOption = False,
    std: NoiseOption = 0.02,
    method: MethodOption = "mmps",
    n: CountOption = 4,
    images: ImagesOption = None,
    seed: SeedOption = 0,
    steps: StepsOption = 50,
    grid: GridOption = None,
    split: SplitOption = "train",
    resize: ResizeOption = False,
    label: LabelOption = None,
    batch_size: BatchOption = 64,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    compiled: CompileOption = False,
    as_json: JsonOption = False,
) -> None:
    """Sharpen blurred images, several times each: samples that, blurred again, are the data.

    The blur is Gaussian and goes around at the edges. A PNG shows a row for each image: the data, the samples, their
    mean, and twice their standard deviation. Elsewhere sample j of image i is number i n + j.
    """
    import scorefield as sf
    from scorefield.cli.choices import OptionError
    from scorefield.cli.completions import read_images
    from scorefield.cli.session import open_model

    scored = open_model(model, device, label, precision, compiled)
    if len(scored.space.shape) != 3:
        raise OptionError(f"the model makes data of shape {scored.space.shape}, expected a model of images")
    x = read_images(scored, data, scored.space.shape[1:], first=images, resize=resize, split=split)
    operator = sf.Blur.gaussian(blur)
    y = operator.apply(x)
    y = y if degrade else x
    _restore(scored, operator, y, y, degrade, std, method, n, seed, steps, grid, batch_size, out, as_json, blur=blur)


def _restore(
    model: "Denoiser",
    operator: "Operator",
    y: "Tensor",
    shown: "Tensor",
    degrade: bool,
    std: float,
    method: MethodName,
    n: int,
    seed: int,
    steps: int,
    grid: Literal["logsnr", "uniform", "quadratic", "edm"] | None,
    batch_size: int,
    out: str,
    as_json: bool,
    **facts: float,
) -> None:
    """Sample, with noise added to what was degraded, and write."""
    import scorefield as sf
    from scorefield.cli.completions import complete
    from scorefield.data import check_samples_path

    check_samples_path(out, model.space.shape)
    if degrade:
        y = y + std * sf.Noise(seed, range(len(y)), stream="measurement").normal(y.shape[1:], y.dtype)
    complete(
        model,
        shown.clamp(0, 1),
        lambda callback: sf.posterior(
            model,
            operator,
            y,
            std=std,
            method=method,
            n=n,
            seed=seed,
            steps=steps,
            grid=grid,
            batch_size=batch_size,
            callback=callback,
        ),
        out=out,
        n=n,
        seed=seed,
        steps=steps,
        batch_size=batch_size,
        as_json=as_json,
        method=method,
        std=std,
        **facts,
    )
