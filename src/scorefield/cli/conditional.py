"""`scorefield inpaint` and `scorefield colorize`: samples that agree with what is known of an image."""

from typing import Annotated

import typer

from scorefield.cli.options import (
    BatchOption,
    CompileOption,
    CorrectorOption,
    CountOption,
    DataOption,
    DeviceOption,
    GridOption,
    ImagesOption,
    JsonOption,
    LabelOption,
    ModelArgument,
    PrecisionOption,
    PredictorOption,
    ResizeOption,
    SamplesOption,
    SeedOption,
    SnrOption,
    SplitOption,
    StepsOption,
)


def inpaint(
    model: ModelArgument,
    data: DataOption,
    out: SamplesOption,
    known: Annotated[
        str | None,
        typer.Option("--known", metavar="FILE", help="A mask: white is kept, black is filled in."),
    ] = None,
    hole: Annotated[
        str | None,
        typer.Option("--hole", help="X,Y,W,H: a rectangle in pixels; or a fraction of the pixels, at random."),
    ] = None,
    n: CountOption = 4,
    images: ImagesOption = None,
    seed: SeedOption = 0,
    sampler: PredictorOption = "ancestral",
    steps: StepsOption = 400,
    corrector: CorrectorOption = None,
    snr: SnrOption = None,
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
    """Fill in what is missing of images, several times each.

    A PNG shows a row for each image: what is known, with the rest grey, its samples, their mean, and twice their
    standard deviation. Elsewhere sample j of image i is number i n + j.
    """
    import torch

    import scorefield as sf
    from scorefield.cli.choices import predictor_corrector
    from scorefield.cli.completions import complete, read_hole
    from scorefield.cli.session import data_for, open_model
    from scorefield.data import check_samples_path

    grid = grid or "logsnr"
    chosen = predictor_corrector(sampler, corrector, snr)
    scored = open_model(model, device, label, precision, compiled)
    check_samples_path(out, scored.space.shape)
    mask = read_hole(scored.space, known, hole, seed)
    x = data_for(scored, data, first=images, resize=resize, split=split)
    shown = torch.where(mask, scored.space.to_data(scored.space.to_model(x)), torch.tensor(0.5))
    complete(
        scored,
        shown,
        lambda callback: sf.inpaint(
            scored,
            x,
            mask,
            n=n,
            seed=seed,
            sampler=chosen,
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
        sampler=str(chosen),
        grid=grid,
        missing=float((~mask).float().mean()),
    )


def colorize(
    model: ModelArgument,
    data: DataOption,
    out: SamplesOption,
    n: CountOption = 4,
    images: ImagesOption = None,
    seed: SeedOption = 0,
    sampler: PredictorOption = "ancestral",
    steps: StepsOption = 400,
    corrector: CorrectorOption = None,
    snr: SnrOption = None,
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
    """Colour grey images, several times each; of colour images the grey ones are taken, the mean over channels.

    A PNG shows a row for each image: the grey image, its samples, their mean, and twice their standard deviation.
    Elsewhere sample j of image i is number i n + j.
    """
    import scorefield as sf
    from scorefield.cli.choices import predictor_corrector
    from scorefield.cli.completions import complete, read_grey
    from scorefield.cli.session import open_model
    from scorefield.data import check_samples_path

    grid = grid or "logsnr"
    chosen = predictor_corrector(sampler, corrector, snr)
    scored = open_model(model, device, label, precision, compiled)
    check_samples_path(out, scored.space.shape)
    grey = read_grey(scored, data, first=images, resize=resize, split=split)
    complete(
        scored,
        grey.expand(-1, *scored.space.shape),
        lambda callback: sf.colorize(
            scored,
            grey,
            n=n,
            seed=seed,
            sampler=chosen,
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
        sampler=str(chosen),
        grid=grid,
    )
