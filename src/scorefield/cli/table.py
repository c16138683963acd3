"""A table of numbers in a file: a row for each datum, `.json`, `.csv` or `.npz` by the name's ending."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from scorefield.cli.result import finite
from scorefield.data import atomic_write, check_writable

Columns = Mapping[str, Sequence[float]]


class TableError(ValueError):
    """A table that cannot be written under that name."""


def check_table_path(path: str) -> None:
    """Raise now the TableError or OSError that writing would meet later."""
    ending = Path(path).suffix.lower()
    if ending not in _WRITERS:
        raise TableError(f"{path}: cannot write {ending or 'a folder'}; expected .json, .csv or .npz")
    check_writable(path)


def write_table(path: str, columns: Columns) -> None:
    """Write columns of one length; what is not finite is null in JSON."""
    check_table_path(path)
    mode, write = _WRITERS[Path(path).suffix.lower()]
    with atomic_write(path, mode) as file:
        write(file, columns)


def _json(file: IO[Any], columns: Columns) -> None:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    json.dump(finite(rows), file, indent=1, allow_nan=False)


def _csv(file: IO[Any], columns: Columns) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))


def _npz(file: IO[Any], columns: Columns) -> None:
    arrays: dict[str, Any] = {name: np.asarray(column) for name, column in columns.items()}
    np.savez(file, **arrays)


_WRITERS: dict[str, tuple[Literal["w", "wb"], Callable[[IO[Any], Columns], None]]] = {
    ".json": ("w", _json),
    ".csv": ("w", _csv),
    ".npz": ("wb", _npz),
}
