"""Files that are whole or not there.

A run may be killed, and a disk may fill, in the middle of a write. A file is therefore written under a temporary
name in the folder where it shall be, forced to the disk, and renamed: on POSIX systems and on Windows a rename within
one folder replaces the old file at once, so that a reader sees the old content or the new one, never a part of it.
A failure removes the temporary file, leaves the old file as it was, and surfaces as the ``OSError`` that it is.

A folder cannot replace another folder in one rename. :func:`atomic_folder` takes two, and keeps the old folder as
``.NAME.previous`` between them; :func:`recover_folder` undoes the first where a crash prevented the second.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

__all__ = ["atomic_folder", "atomic_write", "recover_folder"]


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """Open ``path`` for writing; it appears, or is replaced, when the block ends without an error.

    Missing parent folders are made; a symbolic link is followed. Text (``mode="w"``) is UTF-8 with ``\\n`` line ends.
    Raises ``OSError`` when the file cannot be written, or is there and is not a regular file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "runs" / "note.txt"
    ...     with atomic_write(path, "w") as file:
    ...         _ = file.write("whole")
    ...     path.read_text(), [entry.name for entry in path.parent.iterdir()]
    ('whole', ['note.txt'])
    """
    target = Path(path).resolve()
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder is in the place of the file to write", str(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "not a regular file, so it cannot be replaced", str(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    binary = mode == "wb"
    encoding, newline = (None, None) if binary else ("utf-8", "\n")
    try:
        with temporary.open("xb" if binary else "x", encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; it becomes ``path`` when the block ends without an error.

    A folder with something in it is replaced as a whole only where ``replace`` says so, else ``FileExistsError``:
    what it holds may be more than what this program put there.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_folder(Path(folder) / "state") as new:
    ...         _ = (new / "step").write_text("7")
    ...     (Path(folder) / "state" / "step").read_text()
    '7'
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file is in the place of the folder to write", str(path))
    recover_folder(target)
    if not replace and target.is_dir() and any(target.iterdir()):
        raise FileExistsError(errno.EEXIST, "the folder is not empty; remove it or write to another one", str(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    temporary.mkdir()
    try:
        yield temporary
        _sync_tree(temporary)
        _exchange(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync_folder(target.parent)


def recover_folder(path: str | os.PathLike[str]) -> bool:
    """Put back the folder that a crash in the middle of :func:`atomic_folder` left aside; whether there was one.

    Call it before reading a folder that is written with ``replace=True``.
    """
    target = Path(path).resolve()
    previous = _previous(target)
    if target.exists() or not previous.is_dir():
        return False
    previous.rename(target)
    return True


def _temporary(target: Path) -> Path:
    return target.with_name(f".scorefield-{secrets.token_hex(6)}.tmp")


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")


def _exchange(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    previous = _previous(target)
    if previous.exists():
        shutil.rmtree(previous)
    target.rename(previous)
    try:
        new.rename(target)
    except OSError:
        previous.rename(target)
        raise
    shutil.rmtree(previous)


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            with (Path(parent) / name).open("rb+") as file:
                os.fsync(file.fileno())
        _sync_folder(Path(parent))


def _sync_folder(folder: Path) -> None:
    """Force a rename to the disk; only POSIX systems can open a folder for this."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
