"""Files of the PyTorch code that was published with Song et al. (2021): named weights out of a `.pth`.

Its training program saves a dictionary: `model` is a state dict, `ema` holds the moving average of the weights, as a
list without names in the order of the trainable weights, `optimizer` and `step` are of no use here. A file that holds
nothing but a state dict is read as well.
"""

import os
import struct
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor

from scorefield.convert.weights import ConversionError, listed

DAMAGED = (
    UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AssertionError,
    TypeError,
    OverflowError,
    BadZipFile,
    struct.error,
)
"""What reading raises for a file that is damaged, of another kind, or asks for more than data."""


def read_checkpoint(path: str | Path, *, ema: bool = True) -> dict[str, Tensor]:
    """The named weights in a checkpoint file of the reference's training program, or in a bare state dict.

    Only tensors, containers and NumPy scalars are unpickled: a file that asks for anything else is refused.

    Args:
        path: a ``.pth`` file.
        ema: the moving average of the weights instead of the raw weights; a bare state dict has one kind only.

    Raises:
        ConversionError: where the file is not such a checkpoint.
    """
    content = load_tensors(path, str(path))
    if isinstance(content, Mapping) and is_state(content):
        return dict(content)
    state = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not is_state(state):
        raise ConversionError(f"{path} has no 'model' entry; expected a checkpoint of the reference's training program")
    if not ema:
        return dict(state)
    trainable = [name for name, value in state.items() if not _is_constant(name, value)]
    average = content.get("ema")
    shadow = average.get("shadow_params") if isinstance(average, Mapping) else None
    if not isinstance(shadow, list) or len(shadow) != len(trainable):
        found = f"{len(shadow)} averaged weights" if isinstance(shadow, list) else "no averaged weights"
        raise ConversionError(
            f"{path} has {found} for {len(trainable)} trainable ones; read the raw weights with ema=False (--raw)"
        )
    pairs = list(zip(trainable, shadow, strict=True))
    misfits = [name for name, value in pairs if not torch.is_tensor(value) or value.shape != state[name].shape]
    if misfits:
        raise ConversionError(
            f"{path}: averaged weights of another shape for {listed(misfits)}; read the raw ones with ema=False (--raw)"
        )
    return {**state, **dict(pairs)}


def load_tensors(file: str | Path | BytesIO, where: str) -> Any:
    """What `torch.save` wrote to a path or an open file, if it is tensors, containers and NumPy scalars only.

    Raises:
        ConversionError: for damaged files and for those that ask for anything else; `where` is what it calls the file.
    """
    try:
        _check_parts(file)
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise ConversionError(f"{where} is not a checkpoint that can be read safely: {reason(error)}") from None


def _check_parts(file: str | Path | BytesIO) -> None:
    """Refuse a zip file whose parts are larger than it is: `torch.save` compresses nothing."""
    with nullcontext(file) if isinstance(file, BytesIO) else Path(file).open("rb") as opened:
        if opened.read(4) == b"PK\x03\x04":
            with ZipFile(opened) as archive:
                parts = sum(part.file_size for part in archive.infolist())
            if parts > opened.seek(0, os.SEEK_END):
                raise ValueError(f"it is compressed, to be unpacked to {parts} bytes; save it with torch.save")
        opened.seek(0)


def reason(error: BaseException) -> str:
    """What an error of unpickling says, as one short line, without PyTorch's advice to trust the file.

    >>> reason(EOFError())
    'EOFError'
    """
    text = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    told = (line.strip() for line in text.splitlines())
    told = (line for line in told if line and not line.startswith(("Weights only", "Please", "Check", "(1)", "(2)")))
    sentences = (part for part in next(told, "").split(". ") if "weights_only" not in part and "Please" not in part)
    return ". ".join(sentences)[:200].rstrip(" .") or type(error).__name__


def is_state(content: Mapping[Any, Any]) -> bool:
    """Whether a mapping is a state dict: names and tensors."""
    return bool(content) and all(isinstance(name, str) and torch.is_tensor(value) for name, value in content.items())


def _is_constant(name: str, value: Tensor) -> bool:
    """Whether an entry of a reference state dict is not trained: the noise levels and the Fourier frequencies."""
    return name.endswith("sigmas") or (name.endswith("all_modules.0.W") and value.ndim == 1)


def _numpy_scalars() -> list[Any]:
    """What unpickling a NumPy float needs, under the module names of NumPy 1 and of NumPy 2."""
    scalar = np.float64(0.0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [np.dtype, type(np.dtype(np.float64)), *((scalar, name) for name in names)]
