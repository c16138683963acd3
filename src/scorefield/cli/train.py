"""`scorefield train`: a recipe and data to a model."""

from typing import Annotated

import typer

from scorefield.cli.options import DataOption, JsonOption, ResizeOption, SplitOption


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A name that `scorefield recipes` lists, or a YAML.")],
    data: DataOption,
    out: Annotated[str, typer.Option("--out", metavar="RUN", help="The run folder; it is a MODEL for other commands.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Changes to the recipe.", show_default=False),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="The same as training.steps=N.", show_default="the recipe's")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="The same as training.batch_size=N.", show_default="the recipe's"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="The same as training.seed=N.", show_default="the recipe's")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option("--init", metavar="MODEL", help="Start from its weights.", show_default="random weights"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with a run that is there, or refuse to.")
    ] = True,
    split: SplitOption = "train",
    resize: ResizeOption = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda; auto takes a GPU if any.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a model, or go on with a training.

    A run that was stopped or killed goes on where it was when the same command is given again, and ends with the same
    weights. Ctrl-C stops it after a checkpoint.
    """
    from rich.console import Console

    import scorefield as sf
    from scorefield.cli.errors import INTERRUPTED
    from scorefield.cli.processes import group_ended, speaks
    from scorefield.cli.result import stopwatch, tell
    from scorefield.cli.session import choose_device
    from scorefield.data import check_writable, open_data
    from scorefield.recipes import load_recipe
    from scorefield.recipes.data import open_images
    from scorefield.training import train as run_training

    options = {"steps": steps, "batch_size": batch_size, "seed": seed}
    given = [f"training.{name}={value}" for name, value in options.items() if value is not None]
    chosen = load_recipe(recipe, [*(overrides or ()), *given])
    place = choose_device(device).type
    check_writable(f"{out}/recipe.yaml")
    prepared = resize or chosen.data.crop != "none" or chosen.data.resize != "none"
    if prepared and len(chosen.data.shape) == 3:
        source = open_images(chosen.data, data, channels=chosen.data.shape[0], resize=resize, split=split)
    else:
        source = open_data(data, split=split)
    start = None if init is None else sf.load(init, device="cpu")
    elapsed, console = stopwatch(), Console(stderr=True)
    with group_ended():
        trained = run_training(chosen, source, out, init=start, resume=resume, device=place, console=console)
    again = "" if trained.finished else ", stopped: give the same command to go on"
    if speaks():
        tell(
            as_json,
            f"{out}: {trained.steps} of {chosen.training.steps} steps in {elapsed():.0f} s{again}",
            out=out,
            steps=trained.steps,
            finished=trained.finished,
            images_seen=trained.steps * chosen.training.batch_size,
            seconds=elapsed(),
        )
    if not trained.finished:
        raise typer.Exit(INTERRUPTED)
