"""`scorefield train-classifier`: a model and labelled data to a classifier of noisy data."""

from typing import TYPE_CHECKING, Annotated

import typer

from scorefield.cli.options import DataOption, JsonOption, ModelArgument, ResizeOption, SplitOption

if TYPE_CHECKING:
    from rich.table import Table

    from scorefield.training.accuracy import Accuracy


def train_classifier(
    model: ModelArgument,
    data: DataOption,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="RUN", help="The run folder.", show_default="beside the model, MODEL/classifier"),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Of model and training.", show_default=False),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option("--names", metavar="A,B,…", help="What the classes are called, in order.", show_default=False),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option("--test", metavar="DATA", help="Labelled data to measure it on.", show_default=False),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="The same as training.steps=N.", show_default="5000")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="The same as training.batch_size=N.", show_default="64")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="The same as training.seed=N.", show_default="0")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with a run that is there, or refuse to.")
    ] = True,
    split: SplitOption = "train",
    resize: ResizeOption = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda; auto takes a GPU if any.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a classifier of a model's noisy data, with which the model makes data of one class.

    Beside the model it is found by sample --label; elsewhere it is named by --classifier RUN.
    The same command goes on with a training that was stopped or killed. Ctrl-C stops it after a checkpoint.
    """
    from pathlib import Path

    from rich.console import Console

    from scorefield.checkpoint import bundled_models
    from scorefield.cli.choices import OptionError
    from scorefield.cli.errors import INTERRUPTED
    from scorefield.cli.processes import group_ended, speaks
    from scorefield.cli.result import stopwatch, tell
    from scorefield.cli.session import choose_device, describe_model
    from scorefield.data import Source, check_writable, open_data
    from scorefield.recipes.build import BESIDE
    from scorefield.recipes.build_classifier import classifier_recipe
    from scorefield.recipes.data import open_images
    from scorefield.training import train_classifier as run_training
    from scorefield.training.accuracy import accuracy

    folder, of_model, _ = describe_model(model)
    if out is None and (model in bundled_models() or not Path(folder).is_dir()):
        raise OptionError(f"{model} is no folder of yours, beside which a classifier could lie: give --out")
    run = str(Path(folder) / BESIDE) if out is None else out

    def labelled(name: str) -> Source:
        shape = of_model.data.shape
        if len(shape) == 3:
            source = open_images(of_model.data, name, channels=shape[0], resize=resize, split=split)
        else:
            source = open_data(name, split=split)
        if not source.classes:
            raise OptionError(f"{name} has no class labels: add a dataset.json, a folder for each class, or labels")
        return source

    source = labelled(data)
    held_out = None if test is None else labelled(test)
    options = {"steps": steps, "batch_size": batch_size, "seed": seed}
    given = [f"training.{name}={value}" for name, value in options.items() if value is not None]
    called = () if names is None else tuple(name.strip() for name in names.split(","))
    recipe = classifier_recipe(of_model, source.classes, names=called, overrides=[*(overrides or ()), *given])
    place = choose_device(device).type
    check_writable(f"{run}/recipe.yaml")
    elapsed = stopwatch()
    with group_ended():
        trained = run_training(recipe, source, run, resume=resume, device=place, console=Console(stderr=True))
    again = "" if trained.finished else ", stopped: give the same command to go on"
    if speaks():
        measured = None if held_out is None else accuracy(trained.model, held_out)
        tell(
            as_json,
            f"{run}: {trained.steps} of {recipe.training.steps} steps in {elapsed():.0f} s{again}",
            out=run,
            steps=trained.steps,
            finished=trained.finished,
            images_seen=trained.steps * recipe.training.batch_size,
            accuracy=None if measured is None else {f"{row.ratio:g}": row.accuracy for row in measured},
            cross_entropy=None if measured is None else {f"{row.ratio:g}": row.cross_entropy for row in measured},
            seconds=elapsed(),
        )
        if measured is not None and not as_json:
            Console().print(_table(measured))
    if not trained.finished:
        raise typer.Exit(INTERRUPTED)


def _table(rows: "list[Accuracy]") -> "Table":
    from rich.table import Table

    table = Table("noise/data", "accuracy", "cross-entropy, nats", box=None)
    for row in rows:
        table.add_row(f"{row.ratio:g}", f"{row.accuracy:.3f}", f"{row.cross_entropy:.3f}")
    return table
