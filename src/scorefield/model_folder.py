"""A model as two files in a folder, `weights.safetensors` and `model.json`, written and read as one.

`model.json` holds the format's version, the resolved recipe and metadata (steps, images seen, bits per dimension …).

The two files are replaced one after the other, and a kill may come between. Both therefore carry the identity of their
save, and the new JSON is first written whole as `model.json.next`: until the weights are replaced, the old pair is
valid; from then on the new weights with `model.json.next`. A reader takes the JSON that fits the weights.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from scorefield.data import atomic_write

FORMAT = 1
"""The version of the format that this code writes; it reads all up to it."""

WEIGHTS, MODEL = "weights.safetensors", "model.json"
_NEXT = "model.json.next"


class CheckpointError(ValueError):
    """A model that is not there, damaged, or does not fit its recipe; one line that names the file and the remedy."""


def write_folder(
    network: nn.Module,
    recipe: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    dtype: torch.dtype = torch.float32,
    metadata: Mapping[str, Any],
) -> None:
    """Write a network and its recipe into `folder`, as a whole: whenever it is killed, the old or the new one is there.

    `dtype` is what parameters are stored in (buffers stay as they are); `recipe` and `metadata` must be JSON. Raises
    OSError, and CheckpointError where a weight is too large for `dtype`.
    """
    target, identity = Path(folder), secrets.token_hex(8)
    parameters = dict(network.named_parameters())
    weights = {
        name: (tensor.to(dtype) if name in parameters else tensor).detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    for name, tensor in parameters.items():
        if bool((weights[name].isinf() & tensor.detach().cpu().isfinite()).any()):
            raise CheckpointError(f"{name} has numbers beyond those of {dtype}; store it in torch.float32 or bfloat16")
    content = {"format": FORMAT, "identity": identity, "recipe": recipe, "metadata": metadata}
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    _complete(target)
    with atomic_write(target / _NEXT, "w") as file:
        file.write(text)
    with atomic_write(target / WEIGHTS) as file:
        file.write(save(weights, {"identity": identity}))
    _complete(target)


def read_weights(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `model.json` says, and the weights in float32; if a training replaces them meanwhile, of one version.

    Raises:
        CheckpointError: damaged files, a newer format, files of two saves.
    """
    with _open(folder) as file:
        identity = (file.metadata() or {}).get("identity", "")
        weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    return _content(folder, identity), weights


def read_description(folder: Path) -> dict[str, Any]:
    """What `model.json` says, without the weights; errors as in `read_weights`."""
    return _content(folder, _identity(folder))


@contextmanager
def _open(folder: Path) -> Iterator[Any]:
    path = folder / WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or not safetensors ({error}); copy or train it again") from None


def _identity(folder: Path) -> str:
    with _open(folder) as file:
        return str((file.metadata() or {}).get("identity", ""))


def _content(folder: Path, identity: str) -> dict[str, Any]:
    """The JSON that belongs to the weights of this identity."""
    for path in (folder / MODEL, folder / _NEXT):
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: damaged, not JSON ({error}); copy or train it again") from None
        if not isinstance(content, dict) or not isinstance(content.get("format"), int):
            raise CheckpointError(f"{path}: not a model's description, it has no format; copy or train it again")
        if content["format"] > FORMAT:
            raise CheckpointError(
                f"{path} has format {content['format']}, this version reads up to {FORMAT}; install a newer scorefield"
            )
        if content.get("identity") == identity:
            return content
    raise CheckpointError(
        f"{folder}: no {MODEL} that belongs to {WEIGHTS}; the two files must come from one save, copy both again"
    )


def _complete(folder: Path) -> None:
    """Finish a save whose weights are in place."""
    following = folder / _NEXT
    if not (following.is_file() and (folder / WEIGHTS).is_file()):
        return
    try:
        if json.loads(following.read_text(encoding="utf-8"))["identity"] == _identity(folder):
            following.replace(folder / MODEL)
    except (ValueError, KeyError, TypeError):
        return
