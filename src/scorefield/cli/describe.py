"""`scorefield info` and `scorefield recipes`: what there is, without running it."""

from itertools import groupby, zip_longest
from typing import Annotated

import typer

from scorefield.cli.options import JsonOption, ModelArgument


def info(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Describe a model: network, SDE, data, how it was trained."""
    from rich.table import Table

    from scorefield.cli.result import tell
    from scorefield.cli.session import describe_model
    from scorefield.nn.weightless import weightless
    from scorefield.recipes.build import build
    from scorefield.recipes.load import unknown_sections

    folder, recipe, metadata = describe_model(model)
    with weightless():
        parameters = sum(parameter.numel() for parameter in build(recipe).network.parameters())
    table = Table(show_header=False, box=None, title=model, title_justify="left")
    table.add_row("folder", folder)
    table.add_row("parameters", f"{parameters:,}")
    sections = recipe.model_dump(mode="json", exclude=unknown_sections(metadata))
    for section, values in sections.items():
        table.add_row(section, ", ".join(f"{key} {value}" for key, value in values.items()))
    for name, value in metadata.items():
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    tell(
        as_json,
        table,
        model=model,
        folder=folder,
        parameters=parameters,
        recipe=sections,
        metadata=metadata,
    )


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="The one to print in full.", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Changes to it.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the recipes, or print one with all its values, as YAML.

    The list says data, SDE, network, the number of weights, and what was published of the model: Frechet Inception
    distance (FID) and Inception score (IS) of its samples, both by the probability flow (ODE), and bits/dim.
    """
    from scorefield.recipes import describe, load_recipe, preset_names, to_yaml

    if name is not None:
        recipe = load_recipe(name, overrides or ())
        typer.echo(recipe.model_dump_json() if as_json else to_yaml(recipe).rstrip("\n"))
        return
    known = {preset: describe(preset) for preset in preset_names()}
    if as_json:
        import json

        typer.echo(json.dumps(known))
        return
    rows = [(preset, *description.split(" · ")) for preset, description in known.items()]
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    for folder, group in groupby(sorted(rows, key=lambda row: folder_of(row[0])), key=lambda row: folder_of(row[0])):
        if folder:
            typer.echo()
        for row in group:
            typer.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)).rstrip())


def folder_of(preset: str) -> str:
    """The part of a preset's name before its last slash, its SDE; empty for the package's own.

    >>> folder_of("ve/ncsn/cifar10"), folder_of("mnist")
    ('ve/ncsn', '')
    """
    return preset.rpartition("/")[0]
