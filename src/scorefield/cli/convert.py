"""`scorefield convert`: a public checkpoint to a model folder, or a model to a folder of diffusers."""

from typing import Annotated, Literal

import typer

from scorefield.cli.options import JsonOption

Precision = Literal["float32", "float16", "bfloat16"]
Format = Literal["scorefield", "diffusers"]


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A .pth, a .pkl of EDM, a folder of diffusers, or any MODEL.")
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new folder; it is a MODEL for other commands.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="RECIPE",
            help="What a .pth is: a name such as ve/cifar10_ncsnpp_continuous, or a YAML.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="What a .pth is: the configuration of the published code, as JSON.",
            show_default=False,
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The weights of a .pth as trained, not their average.")] = False,
    dtype: Annotated[Precision, typer.Option("--dtype", help="What weights are stored in.")] = "float32",
    to: Annotated[Format, typer.Option("--to", help="The format of OUT.")] = "scorefield",
    as_json: JsonOption = False,
) -> None:
    """Read a checkpoint that another program wrote, and write it as a model folder.

    Only numbers are read, and no code in a file is run. Every weight's name and shape is checked.
    """
    from pathlib import Path

    import torch

    import scorefield as sf
    from scorefield.cli.choices import OptionError
    from scorefield.cli.result import stopwatch, tell
    from scorefield.data import atomic_folder
    from scorefield.model_folder import write_folder

    folder = Path(out)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OptionError(f"{out} is there already: give the name of a new folder")
    if to == "diffusers" and dtype != "float32":
        raise OptionError(f"--dtype {dtype} with --to diffusers, which is written in float32: leave out --dtype")
    elapsed = stopwatch()
    model = sf.load(source, recipe=recipe, config=config, ema=not raw, device="cpu")
    if to == "diffusers":
        from scorefield.convert.diffusers import write_diffusers

        write_diffusers(model, folder)
    else:
        with atomic_folder(folder) as new:
            noted = {**model.metadata, "source": Path(source).name}
            recipe_now = model.recipe.model_dump(mode="json")
            write_folder(model.network, recipe_now, new, dtype=getattr(torch, dtype), metadata=noted)
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    tell(
        as_json,
        f"{out}: {parameters:,} parameters of {source}",
        out=out,
        source=source,
        format=to,
        parameters=parameters,
        dtype=dtype,
        sde=model.recipe.sde.name,
        shape=list(model.recipe.data.shape),
        seconds=elapsed(),
    )
