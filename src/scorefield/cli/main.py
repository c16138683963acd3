"""The commands together, and what becomes of their errors.

A command prints its result on stdout, a table or with `--json` one object; progress and errors go to stderr. What the
user can mend is one line, `error: …`, and exit status 2; an interrupted command exits with 130. What nobody foresaw
keeps its traceback.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from scorefield.cli.calibrate import calibrate
from scorefield.cli.conditional import colorize, deblur, inpaint, solve, superres
from scorefield.cli.convert import convert
from scorefield.cli.demo import demo
from scorefield.cli.describe import info, recipes
from scorefield.cli.errors import INTERRUPTED, USAGE, explain
from scorefield.cli.examples import EXAMPLES, epilog
from scorefield.cli.latents import decode, encode
from scorefield.cli.likelihood import likelihood
from scorefield.cli.sample import sample
from scorefield.cli.train import train
from scorefield.cli.train_classifier import train_classifier

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

for _command in (
    train,
    train_classifier,
    sample,
    likelihood,
    encode,
    decode,
    inpaint,
    colorize,
    superres,
    deblur,
    solve,
    calibrate,
    convert,
    info,
    recipes,
    demo,
):
    _name = _command.__name__.replace("_", "-")
    app.command(_name, epilog=epilog(EXAMPLES[_name]))(_command)


_TOLD = (
    typer.TyperException,
    KeyboardInterrupt,
    MemoryError,
    RuntimeError,
    OSError,
    ValueError,
    TypeError,
    ImportError,
)


def _version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        typer.echo(f"scorefield {version('scorefield')}")
        raise typer.Exit
    return asked


@app.callback(epilog=epilog(EXAMPLES["scorefield"]))
def scorefield(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Score-based generative models: samples, exact likelihoods, latent codes and conditional samples of one model."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, `sys.argv` unless given, and without a command the help; the exit status."""
    command = get_command(app)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with command.make_context("scorefield", given or ["--help"]) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as leave:
        return leave.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return USAGE
    except _TOLD as error:
        line = explain(error)
        if line is None:
            raise
        typer.echo(f"error: {line}", err=True)
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
