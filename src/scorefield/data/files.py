"""Files that are whole or not there.

A run may be killed, and a disk may fill, in the middle of a write. A file is therefore written under a temporary
name in the folder where it shall be, forced to the disk, and renamed: a rename within one folder replaces the old
file at once, so that a reader sees the old content or the new one, never a part of it. A failure removes the
temporary file, leaves the old file as it was, and surfaces as the error that it is.

A folder with something in it cannot be replaced by a rename. Who writes folders again and again gives each a new
name (``state/00001000``, ``state/00002000``) and removes the older ones afterwards.
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

__all__ = ["atomic_folder", "atomic_write", "check_writable"]


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """Open ``path`` for writing; it appears, or is replaced, when the block ends without an error.

    Missing parent folders are made; a symbolic link is followed. Text (``mode="w"``) is UTF-8 with ``\\n`` line ends.
    Raises ``OSError``, naming the file, when it cannot be written, or is there and is not a regular file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "runs" / "note.txt"
    ...     with atomic_write(path, "w") as file:
    ...         _ = file.write("whole")
    ...     path.read_text(), [entry.name for entry in path.parent.iterdir()]
    ('whole', ['note.txt'])
    """
    target = _file(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    encoding, newline = ("utf-8", "\n") if mode == "w" else (None, None)
    try:
        with temporary.open(mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        error.filename = str(path) if error.filename is None else error.filename
        raise
    finally:
        temporary.unlink(missing_ok=True)
    _sync(target.parent)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; it becomes ``path`` when the block ends without an error.

    Raises ``FileExistsError`` where ``path`` is there already, unless it is an empty folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_folder(Path(folder) / "state") as new:
    ...         _ = (new / "step").write_text("7")
    ...     (Path(folder) / "state" / "step").read_text()
    '7'
    """
    target = _folder(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    temporary.mkdir()
    try:
        yield temporary
        for entry in temporary.rglob("*"):
            _sync(entry)
        _sync(temporary)
        temporary.rename(target)
    except OSError as error:
        error.filename = str(path) if error.filename is None else error.filename
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync(target.parent)


def check_writable(path: str | os.PathLike[str], *, folder: bool = False) -> None:
    """Raise now the ``OSError`` that writing a file, or a new ``folder``, would meet later; a full disk apart."""
    target = _folder(path) if folder else _file(path)
    above = next(parent for parent in target.parents if parent.exists())
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{above} is not a folder; choose another name", str(path))
    if not os.access(above, os.W_OK):
        raise PermissionError(errno.EACCES, f"{above} cannot be written to; choose another folder", str(path))


def _file(path: str | os.PathLike[str]) -> Path:
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise OSError(errno.EEXIST, "not a regular file, so it cannot be replaced; choose another name", str(path))
    return target


def _folder(path: str | os.PathLike[str]) -> Path:
    target = Path(path).resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(errno.EEXIST, "there already and not an empty folder; choose another name", str(path))
    return target


def _temporary(target: Path) -> Path:
    return target.with_name(f".scorefield-{secrets.token_hex(6)}.tmp")


def _sync(path: Path) -> None:
    """Force a file's content, or the names in a folder, to the disk; only POSIX systems can open a folder for this."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
