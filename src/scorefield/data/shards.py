"""A folder of samples that grows batch by batch, and goes on where it was killed.

Batch k holds the indices k · ``batch_size`` to (k + 1) · ``batch_size`` − 1, the last one up to n − 1, whoever makes
it: what a sample's batch mates are, and hence its last bit, does not depend on how many processes share the work or
on where it was interrupted. A batch is made whole or again, also the short one at the end of a folder that shall hold
more.

Images are a PNG each (``00000012.png``), other data an ``.npz`` a batch, named by its first index. ``sampling.json`` is
written before any of them, and says how many there shall be and what they were made with: samples of anything else are
refused. Everything appears under its name when it is whole, and a batch's images in order, so that a batch whose files
are all there is done.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .base import DataError
from .files import _sync, atomic_write, check_writable
from .images import Samples, _write_png, grid, is_image, save_samples, to_uint8

__all__ = ["MANIFEST", "Shards", "prepare_shards"]

MANIFEST = "sampling.json"
FORMAT = 1
"""The version of the folder's form that this code writes and goes on with."""

_TEMPORARY = ".scorefield-*.tmp"
_THREADS = 8
_BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Shards:
    """The batches of samples 0 to n − 1 of ``seed`` in a folder; ``shape`` is that of a sample.

    >>> Shards(Path("samples"), n=5, batch_size=2, seed=0, shape=(1, 8, 8)).parts
    [range(0, 2), range(2, 4), range(4, 5)]
    """

    folder: Path
    n: int
    batch_size: int
    seed: int
    shape: tuple[int, ...]

    @property
    def parts(self) -> list[range]:
        """The indices of each batch."""
        return [range(i, min(i + self.batch_size, self.n)) for i in range(0, self.n, self.batch_size)]

    def pending(self) -> list[range]:
        """The batches that are not done."""
        if not is_image(self.shape):
            return [part for part in self.parts if not self.done(part)]
        there = {path.name for path in self.folder.iterdir()}
        return [part for part in self.parts if not there.issuperset(map(_png, part))]

    def done(self, part: range) -> bool:
        """Whether all samples of a batch are there."""
        if is_image(self.shape):
            return all((self.folder / _png(i)).exists() for i in part)
        try:
            with np.load(self.folder / _npz(part), allow_pickle=False) as arrays:
                return bool(np.array_equal(arrays["indices"], part))
        except _BROKEN:
            return False

    def write(self, part: range, samples: Samples) -> None:
        """Write a batch. Raises OSError, and ValueError at NaN in images; the batch is then not done."""
        if not is_image(self.shape):
            save_samples(self.folder / _npz(part), samples, self.seed, part)
            return
        pixels = to_uint8(samples).cpu()
        with _staging(self.folder) as staging:

            def write(row: int) -> None:
                with (staging / _png(part[row])).open("xb") as file:
                    _write_png(file, grid(pixels[row : row + 1], padding=0))
                    file.flush()
                    os.fsync(file.fileno())

            with ThreadPoolExecutor(_THREADS) as threads:
                list(threads.map(write, range(len(part))))
            for i in part:
                (staging / _png(i)).replace(self.folder / _png(i))
        _sync(self.folder)


def prepare_shards(path: str | os.PathLike[str], n: int, settings: Mapping[str, Any], **notes: Any) -> bool:
    """Make a folder ready for n samples that are made with these settings; whether it holds some already.

    ``settings`` are all that determines the samples; ``notes`` are written beside them and never compared. What a
    killed run left half-written is removed.

    Raises:
        DataError: for a folder of other samples, or of more than n.
        OSError: for a folder with anything else in it, or one that cannot be written to.
    """
    folder = Path(path)
    if not (folder / MANIFEST).is_file():
        _begin(folder, {"format": FORMAT, "n": n, **notes, **settings})
        return False
    there = _read(folder / MANIFEST)
    _check_same(folder, there, settings)
    if n < there["n"]:
        raise DataError(
            f"{folder} is a folder of {there['n']} samples, {n} were asked for: ask for {there['n']} or more, or "
            "give another folder"
        )
    check_writable(folder / MANIFEST)
    _sweep(folder)
    if n > there["n"]:
        _write(folder, {**there, "n": n})
    return True


def _begin(folder: Path, manifest: Mapping[str, Any]) -> None:
    made = not folder.exists()
    if folder.is_dir() and all(path.match(_TEMPORARY) for path in folder.iterdir()):
        _sweep(folder)
    check_writable(folder, folder=True)
    try:
        _write(folder, manifest)
    except OSError:
        if made and folder.is_dir():
            folder.rmdir()
        raise


def _write(folder: Path, manifest: Mapping[str, Any]) -> None:
    with atomic_write(folder / MANIFEST, "w") as file:
        file.write(json.dumps(manifest, indent=2, allow_nan=False) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, count = content["format"], content["n"]
    except (ValueError, KeyError, TypeError, RecursionError):
        version = count = None
    if not isinstance(version, int) or not isinstance(count, int):
        raise DataError(f"{path}: damaged, so its folder cannot be gone on with; give another folder")
    if version != FORMAT:
        raise DataError(
            f"{path} has format {version}, this version goes on with {FORMAT}; use the scorefield that made it, or "
            "give another folder"
        )
    return dict(content)


def _check_same(folder: Path, there: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    different = [key for key in settings if key not in there or there[key] != settings[key]]
    if different:
        was, given = (_words(different, values) for values in (there, settings))
        raise DataError(f"{folder} holds samples of {was}; {given} given: give the same to go on, or another folder")


def _words(keys: Sequence[str], values: Mapping[str, Any]) -> str:
    said = (values.get(key) for key in keys)
    return ", ".join(f"{key.replace('_', ' ')} {'none' if v is None else v}" for key, v in zip(keys, said, strict=True))


def _sweep(folder: Path) -> None:
    for leftover in folder.glob(_TEMPORARY):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    staging = folder / _TEMPORARY.replace("*", secrets.token_hex(6))
    staging.mkdir()
    try:
        yield staging
    except OSError as error:
        error.filename = str(folder) if error.filename is None else error.filename
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _png(index: int) -> str:
    return f"{index:08d}.png"


def _npz(part: range) -> str:
    return f"{part.start:08d}.npz"
