"""Models on disk: a folder with `weights.safetensors` and `model.json`.

`model.json` holds the format's version, the resolved recipe and metadata (steps, images seen, bits per dimension …).
Weights may be stored in 16 bits; they are loaded as float32.

The two files are replaced one after the other, and a kill may come between. Both therefore carry the identity of their
save, and the new JSON is first written whole as `model.json.next`: until the weights are replaced, the old pair is
valid; from then on the new weights with `model.json.next`. A reader takes the JSON that fits the weights.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from scorefield.convert.weights import ConversionError, load_weights
from scorefield.data import atomic_write
from scorefield.recipes import Recipe, RecipeError, parse_recipe
from scorefield.recipes.build import RecipeModel, build

FORMAT = 1
"""The version of the format that this code writes; it reads all up to it."""

_WEIGHTS, _MODEL, _NEXT = "weights.safetensors", "model.json", "model.json.next"


class CheckpointError(ValueError):
    """A model that is not there, damaged, or does not fit its recipe; one line that names the file and the remedy."""


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk, without its weights: where it is, its recipe, and what was noted when it was saved."""

    folder: Path
    recipe: Recipe
    metadata: Mapping[str, Any]


def bundled_models() -> tuple[str, ...]:
    """The names of the models that come with the package."""
    return tuple(sorted(path.parent.name for path in _bundle().glob(f"*/{_MODEL}")))


def save_model(
    model: RecipeModel, folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32, **metadata: Any
) -> None:
    """Write a model into `folder`, as a whole: whenever it is killed, the old or the new one is there.

    `dtype` is what parameters are stored in (buffers stay as they are); `metadata` must be JSON. Raises OSError.
    """
    target, identity = Path(folder), secrets.token_hex(8)
    parameters = dict(model.network.named_parameters())
    weights = {
        name: (tensor.to(dtype) if name in parameters else tensor).detach().cpu().contiguous()
        for name, tensor in model.network.state_dict().items()
    }
    content = {
        "format": FORMAT,
        "identity": identity,
        "recipe": model.recipe.model_dump(mode="json"),
        "metadata": metadata,
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    _complete(target)
    with atomic_write(target / _NEXT, "w") as file:
        file.write(text)
    with atomic_write(target / _WEIGHTS) as file:
        file.write(save(weights, {"identity": identity}))
    _complete(target)


def load_model(name: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> RecipeModel:
    """The model of a bundled name, a checkpoint folder or a run folder, in float32 and evaluation mode.

    A bundled name wins over a folder of that name; `./name` is the folder.

    Raises:
        CheckpointError: no such model, damaged files, a newer format, weights that do not fit the recipe.
    """
    checkpoint, weights = _read(name)
    with torch.random.fork_rng(devices=[]):
        model = build(checkpoint.recipe)
    try:
        load_weights(model.network, weights, str(checkpoint.folder / _WEIGHTS))
    except ConversionError as error:
        raise CheckpointError(str(error)) from None
    return model.to(device).eval().requires_grad_(False)


def read_checkpoint(name: str | os.PathLike[str]) -> Checkpoint:
    """What is known of a model without building it; names and errors as in `load_model`."""
    folder = _folder(name)
    return _checkpoint(folder, _content(folder, _identity(folder)))


def _read(name: str | os.PathLike[str]) -> tuple[Checkpoint, dict[str, Tensor]]:
    """A checkpoint and its weights; if a training replaces it meanwhile, one of the two versions."""
    folder = _folder(name)
    with _open(folder) as file:
        identity = (file.metadata() or {}).get("identity", "")
        weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    return _checkpoint(folder, _content(folder, identity)), weights


def _folder(name: str | os.PathLike[str]) -> Path:
    if isinstance(name, str) and name in bundled_models():
        return _bundle() / name
    path = Path(name)
    if (path / _WEIGHTS).is_file():
        return path
    models = ", ".join(bundled_models()) or "none"
    problem = "is not there" if not path.exists() else f"has no {_WEIGHTS}"
    raise CheckpointError(f"no model {name}: it {problem}; give a checkpoint folder, a run folder or one of: {models}")


def _bundle() -> Path:
    return Path(__file__).parent / "models"


@contextmanager
def _open(folder: Path) -> Iterator[Any]:
    path = folder / _WEIGHTS
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
    for path in (folder / _MODEL, folder / _NEXT):
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
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
        f"{folder}: no {_MODEL} that belongs to {_WEIGHTS}; the two files must come from one save, copy both again"
    )


def _checkpoint(folder: Path, content: Mapping[str, Any]) -> Checkpoint:
    try:
        recipe = parse_recipe(content.get("recipe", {}), str(folder / _MODEL))
    except RecipeError as error:
        raise CheckpointError(str(error)) from None
    return Checkpoint(folder, recipe, content.get("metadata", {}))


def _complete(folder: Path) -> None:
    """Finish a save whose weights are in place."""
    following = folder / _NEXT
    if not (following.is_file() and (folder / _WEIGHTS).is_file()):
        return
    try:
        if json.loads(following.read_text(encoding="utf-8"))["identity"] == _identity(folder):
            following.replace(folder / _MODEL)
    except (ValueError, KeyError, TypeError):
        return
