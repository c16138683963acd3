"""What a command has to show: its files, even when it is cut short, and its last words."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import typer
from rich.console import Console, RenderableType
from torch import Tensor


def stopwatch() -> Callable[[], float]:
    """The seconds since it was made.

    >>> elapsed = stopwatch()
    >>> 0 <= elapsed() < 60
    True
    """
    start = time.perf_counter()
    return lambda: time.perf_counter() - start


@contextmanager
def kept(write: Callable[[Tensor], None], n: int, out: str) -> Iterator[list[Tensor]]:
    """A list for batches of results, `n` in all, that are written at the end, and also if they are cut short."""
    done: list[Tensor] = []
    try:
        yield done
    except (KeyboardInterrupt, RuntimeError, MemoryError, ValueError) as error:
        if done:
            write(torch.cat(done))
            error.add_note(f"the {sum(map(len, done))} of {n} that were done are in {out}")
        raise
    write(torch.cat(done))


def tell(as_json: bool, shown: RenderableType, **facts: Any) -> None:
    """Print the result: what is to be shown and the cost, or the facts as one JSON object with null for NaN."""
    if as_json:
        typer.echo(json.dumps(finite(facts), allow_nan=False))
        return
    if isinstance(shown, str):
        typer.echo(shown)
    else:
        Console(markup=False, emoji=False).print(shown)
    if facts.get("nfe") is not None:
        backward = f" and {facts['nfe_backward']:.0f} backward" if facts.get("nfe_backward") else ""
        typer.echo(
            f"{facts['nfe']:.0f} network evaluations{backward} each, {facts['seconds']:.1f} s on {facts['device']}"
        )


def finite(value: Any) -> Any:
    """Nested facts with None for what JSON has no number for.

    >>> finite({"error": float("nan"), "n": [1, 2.5]})
    {'error': None, 'n': [1, 2.5]}
    """
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
