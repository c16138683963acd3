"""What lies at a path, and which reader it is for.

- `.pth`, written with `torch.save` by the PyTorch code that was published with Song et al. (2021): weights without a
  description, which need their recipe or configuration;
- `.pkl`, a pickle of networks by the code that was published with Karras et al. (2022, EDM);
- a folder with `config.json` or `model_index.json`, by Hugging Face diffusers.

Endings of names do not count: a file says by its first bytes what it is.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefield.convert.weights import ConversionError

if TYPE_CHECKING:
    from scorefield.recipes import Recipe
    from scorefield.recipes.build import RecipeModel

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The beginnings of a file of `torch.save`, of any pickle, and of one that `torch.save` wrote before PyTorch 1.6."""

_DIFFUSERS = ("model_index.json", "config.json", "unet/config.json")
"""What a folder of diffusers may hold."""


def is_public(path: str | os.PathLike[str]) -> bool:
    """Whether a file or a folder of another program lies at the path; this library's own models are folders.

    >>> is_public("nowhere.pth")
    False
    """
    place = Path(path)
    return place.is_file() or (
        (any((place / name).exists() for name in _DIFFUSERS) or is_in_cache(place))
        and not (place / "weights.safetensors").is_file()
    )


def is_in_cache(place: Path) -> bool:
    """Whether a folder is a repository in the hub's cache; that of a training has snapshots as well."""
    known = place.name.startswith("models--") or (place / "refs").is_dir()
    return known and (place / "snapshots").is_dir()


def load_public(
    path: str | os.PathLike[str],
    *,
    recipe: "Recipe | str | os.PathLike[str] | None" = None,
    config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    ema: bool = True,
) -> "RecipeModel":
    """The model that another program wrote, in float32 and evaluation mode.

    `recipe` or `config` is for files that do not say what their weights belong to (see
    :func:`scorefield.convert.reference.read_reference`), and refused elsewhere; `ema` chooses the moving average of the
    weights where a file has both.

    Raises:
        ConversionError: for files that are none of these, damaged, or ask for more than data.
        OSError: where the path cannot be read.
    """
    place = Path(path)
    if not place.is_dir() and _is_torch(place):
        from scorefield.convert.reference import read_reference

        return read_reference(place, recipe=recipe, config=config, ema=ema)
    if recipe is not None or config is not None:
        given = "recipe" if recipe is not None else "config"
        raise ConversionError(f"{path} says itself what it is, and a {given} came with it; leave out the {given}")
    if place.is_dir():
        from scorefield.convert.diffusers import read_diffusers

        if not ema:
            raise ConversionError(
                f"{path} has one kind of weights, and raw ones were asked for; leave out ema=False (--raw)"
            )
        return read_diffusers(place)
    from scorefield.convert.edm import read_edm

    return read_edm(place, ema=ema)


def _is_torch(path: Path) -> bool:
    """Whether `torch.save` wrote a file; False for other pickles."""
    with path.open("rb") as file:
        start = file.read(len(_LEGACY))
    if start.startswith(_ZIP) or start == _LEGACY:
        return True
    if start.startswith(_PICKLE):
        return False
    raise ConversionError(
        f"{path} is no checkpoint that can be read; expected a .pth or .pkl file, or a model's folder"
    )
