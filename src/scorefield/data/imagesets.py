"""Image files: one, a folder of them, or a zip of them.

The zip is what ``dataset_tool.py`` of StyleGAN3 and EDM writes: images in numbered folders and ``dataset.json``,
``{"labels": [["00000/img00000000.png", 6], …]}`` or ``{"labels": null}``. A folder may hold the same file; without
it, a folder whose images all lie in sub-folders has a class per sub-folder, numbered in the order of their names.
Images are ordered by name. They are read when asked for, so a bad image or one of another size is found then, or by
``source.tensor()``.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from .base import DataError, Source
from .decode import IMAGE_ENDINGS, Expected, decode, describe, read_image

__all__ = ["ImageSource", "open_folder", "open_image", "open_zip"]

_BROKEN_ZIP = (
    OSError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
    KeyError,
)
_LABELS = "dataset.json"


class ImageSource(Source):
    """Images that ``load(i)`` reads; ``names[i]`` is what the i-th is called in messages."""

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        load: Callable[[int], Image.Image],
        labels: Sequence[int] | None,
        expected: Expected,
    ) -> None:
        """Read the first image for the shape. ``labels``: one per image, 0 … classes − 1."""
        self.name = name
        self.levels = 256
        self.classes = max(labels) + 1 if labels else 0
        self._names = names
        self._load = load
        self._class_of = labels or ()
        self._expected = expected
        self.shape = tuple(expected.fit(load(0), names[0]).shape)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._names)

    def item(self, index: int) -> UInt8[Tensor, "channels height width"]:
        """Image ``index``; DataError naming it where it is unreadable or not of the shape of the first."""
        x = self._expected.fit(self._load(index), self._names[index])
        if tuple(x.shape) != self.shape:
            raise DataError(
                f"{self._names[index]}: {describe(tuple(x.shape))} given, {describe(self.shape)} expected as in "
                f"{self._names[0]}; pass size=, channels= and resize=True, or make the images alike"
            )
        return x

    def label(self, index: int) -> int:
        """The class of image ``index``."""
        return self._class_of[index]


def open_image(path: Path, expected: Expected) -> Source:
    """A source of one image."""
    return ImageSource(str(path), [str(path)], partial(_from_files, [path]), None, expected)


def open_folder(path: Path, expected: Expected) -> Source:
    """All images in a folder and its sub-folders, hidden ones excepted."""
    names = sorted(
        (Path(parent) / name).relative_to(path).as_posix()
        for parent, _, files in os.walk(path, followlinks=True)
        for name in files
    )
    images = [name for name in names if _is_image(name)]
    if not images:
        raise DataError(f"{path}: no images in this folder; expected files that end in {_endings()}")
    if _LABELS in names:
        labels = _labels((path / _LABELS).read_bytes(), images, str(path / _LABELS))
    else:
        labels = _folder_classes(images)
    paths = [path / name for name in images]
    return ImageSource(str(path), [str(p) for p in paths], partial(_from_files, paths), labels, expected)


def open_zip(path: Path, expected: Expected) -> Source:
    """All images in a zip; classes from its ``dataset.json``, if any."""
    archive = _Zip(path)
    names = archive.names()
    images = sorted(name for name in names if _is_image(name))
    if not images:
        raise DataError(f"{path}: no images in this zip; expected entries that end in {_endings()}")
    labels = None
    if _LABELS in names:
        labels = _labels(archive.read(_LABELS), images, f"{path}:{_LABELS}")
    load = partial(_from_zip, archive, images)
    return ImageSource(str(path), [f"{path}:{name}" for name in images], load, labels, expected)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not hidden and path.suffix.lower() in IMAGE_ENDINGS


def _endings() -> str:
    return ", ".join(sorted(IMAGE_ENDINGS))


def _folder_classes(images: Sequence[str]) -> list[int] | None:
    folders = [PurePosixPath(name).parts[0] if "/" in name else None for name in images]
    if None in folders:
        return None
    number = {folder: k for k, folder in enumerate(sorted({str(folder) for folder in folders}))}
    return [number[str(folder)] for folder in folders]


def _labels(content: bytes, images: Sequence[str], where: str) -> list[int] | None:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error}); write it anew or remove it") from error
    if isinstance(document, dict) and not document.get("labels"):
        return None
    pairs = document.get("labels") if isinstance(document, dict) else None
    form = 'expected {"labels": [["NAME", CLASS], …]} with classes 0, 1, …'
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise DataError(f"{where}: not a list of names and classes; {form}")
    given = {str(name).replace("\\", "/"): label for name, label in pairs}
    for name in images:
        label = given.get(name)
        if type(label) is not int or label < 0:
            what = f"label {json.dumps(label)}" if name in given else "no label"
            raise DataError(f"{where}: {what} for {name}; {form}")
    return [given[name] for name in images]


def _from_files(paths: Sequence[Path], index: int) -> Image.Image:
    return read_image(paths[index])


def _from_zip(archive: _Zip, names: Sequence[str], index: int) -> Image.Image:
    return decode(archive.read(names[index]), f"{archive.path}:{names[index]}")


class _Zip:
    """A zip that each process opens for itself: two processes that share a file share its position."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: zipfile.ZipFile | None = None
        self._process = -1

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_handle": None, "_process": -1}

    def names(self) -> list[str]:
        return self._open().namelist()

    def read(self, name: str) -> bytes:
        try:
            return self._open().read(name)
        except _BROKEN_ZIP as error:
            raise DataError(f"{self.path}:{name}: cannot be read ({error}); copy or make the zip again") from error

    def _open(self) -> zipfile.ZipFile:
        if self._handle is None or self._process != os.getpid():
            try:
                self._handle = zipfile.ZipFile(self.path)
            except _BROKEN_ZIP as error:
                raise DataError(f"{self.path}: not a readable zip ({error}); copy or make it again") from error
            self._process = os.getpid()
        return self._handle
