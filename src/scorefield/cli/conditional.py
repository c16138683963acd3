"""`scorefield inpaint`, `colorize`, `superres`, `deblur` and `solve`: samples that agree with what is known of data."""

from typing import Annotated

import typer

from scorefield.cli.request import Request, requested

NoiseOption = Annotated[
    float, typer.Option("--std", min=0, help="The noise of the data, as a standard deviation of values in [0, 1].")
]
DegradeOption = Annotated[bool, typer.Option("--degrade", help="Take good data and degrade them first, to try it out.")]


@requested
def inpaint(
    request: Request,
    known: Annotated[
        str | None,
        typer.Option("--known", metavar="FILE", help="A mask: white is kept, black is filled in."),
    ] = None,
    hole: Annotated[
        str | None,
        typer.Option("--hole", help="X,Y,W,H: a rectangle in pixels; or a fraction of the pixels, at random."),
    ] = None,
) -> None:
    """Fill in what is missing of images, several times each.

    A PNG shows a row for each image: what is known, with the rest grey, its samples, their mean, and twice their
    standard deviation. Elsewhere sample j of image i is number i n + j.
    """
    import torch

    import scorefield as sf
    from scorefield.cli.completions import complete, read_hole
    from scorefield.cli.session import data_for

    model = request.open()
    mask = read_hole(model.space, known, hole, request.seed)
    x = data_for(model, request.data, first=request.images, resize=request.resize, split=request.split)
    shown = torch.where(mask, model.space.to_data(model.space.to_model(x)), torch.tensor(0.5))
    complete(
        request,
        model,
        shown,
        lambda sampling: sf.inpaint(model, x, mask, **sampling),
        missing=float((~mask).float().mean()),
    )


@requested
def colorize(request: Request) -> None:
    """Colour grey images, several times each; of colour images the grey ones are taken, the mean over channels.

    A PNG shows a row for each image: the grey image, its samples, their mean, and twice their standard deviation.
    Elsewhere sample j of image i is number i n + j.
    """
    import scorefield as sf
    from scorefield.cli.completions import complete, read_grey

    model = request.open()
    grey = read_grey(model, request)
    complete(
        request,
        model,
        grey.expand(-1, *model.space.shape),
        lambda sampling: sf.colorize(model, grey, **sampling),
    )


@requested
def superres(
    request: Request,
    factor: Annotated[
        int, typer.Option("--factor", min=2, help="Pixels of the result for one of the data, each way.")
    ] = 4,
    degrade: DegradeOption = False,
    std: NoiseOption = 0.02,
) -> None:
    """Raise the resolution of small images, several times each: samples whose block averages are the data.

    A PNG shows a row for each image: the data, the samples, their mean, and twice their standard deviation. Elsewhere
    sample j of image i is number i n + j.
    """
    import scorefield as sf
    from scorefield.cli.choices import OptionError
    from scorefield.cli.completions import image_size, read_images, restore

    model = request.open()
    height, width = image_size(model)
    if height % factor or width % factor:
        raise OptionError(f"--factor {factor} with images of {height} by {width}: give a divisor of both")
    size = (height, width) if degrade else (height // factor, width // factor)
    x, operator = read_images(model, request, size), sf.Average(factor)
    y = operator.apply(x) if degrade else x
    shown = y.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    restore(request, model, operator, y, shown, std, degraded=degrade, factor=factor)


@requested
def deblur(
    request: Request,
    blur: Annotated[float, typer.Option("--blur", help="The standard deviation of the blur, in pixels.")] = 1.5,
    degrade: DegradeOption = False,
    std: NoiseOption = 0.02,
) -> None:
    """Sharpen blurred images, several times each: samples that, blurred again, are the data.

    The blur is Gaussian and goes around at the edges. A PNG shows a row for each image: the data, the samples, their
    mean, and twice their standard deviation. Elsewhere sample j of image i is number i n + j.
    """
    import scorefield as sf
    from scorefield.cli.choices import OptionError
    from scorefield.cli.completions import image_size, read_images, restore

    model = request.open()
    size = image_size(model)
    if not 0 < blur <= min(size):
        raise OptionError(f"--blur {blur:g} of images of {size[0]} by {size[1]}: give a positive number up to the side")
    x, operator = read_images(model, request, size), sf.Blur.gaussian(blur)
    y = operator.apply(x) if degrade else x
    restore(request, model, operator, y, y, std, degraded=degrade, blur=blur)


@requested
def solve(
    request: Request,
    operator: Annotated[
        str,
        typer.Option(
            "--operator",
            metavar="FILE",
            help="A matrix (.npy, .npz), or Python (.py) that defines `operator`, a linear function of a batch.",
        ),
    ],
    degrade: DegradeOption = False,
    std: NoiseOption = 0.02,
) -> None:
    """Sample data of which a linear function is known, several times each: any inverse problem.

    The data are the measurements, an array (n, *measured) in an .npy or .npz. A matrix takes flattened data. Python
    defines `operator`, a function that maps a batch of data (batch, *data) in torch to its measurements, linearly, or
    one of scorefield's operators; it is run. With --degrade the data are of the model's kind, and are measured first.

    A PNG shows a row for each measurement: the image nearest to grey that fits it, the samples, their mean, and twice
    their standard deviation. Elsewhere sample j of measurement i is number i n + j.
    """
    import torch

    from scorefield.cli.completions import nearest, restore
    from scorefield.cli.operator_file import measurements, read_operator
    from scorefield.cli.session import data_for

    model = request.open()
    chosen = read_operator(operator, model.space.shape)
    if degrade:
        x = data_for(model, request.data, first=request.images, resize=request.resize, split=request.split)
        y = chosen.apply(model.space.to_data(model.space.to_model(x)))
    else:
        y = measurements(request.data, chosen, model.space.shape, request.images)
    images = len(model.space.shape) == 3
    shown = nearest(chosen, y, torch.full((1, *model.space.shape), 0.5)) if images else y
    restore(request, model, chosen, y, shown, std, degraded=degrade, file=operator)
