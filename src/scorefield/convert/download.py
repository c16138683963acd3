"""Models of the Hugging Face hub by name: `hub:ORG/NAME`, or `hub:ORG/NAME@REVISION`.

Nothing is downloaded for any other name. What is downloaded lies in the hub's own cache, and is read like any folder.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from scorefield.convert.diffusers import WEIGHTS
from scorefield.convert.weights import ConversionError
from scorefield.recipes.build import BESIDE
from scorefield.recipes.hub import hub_api, hub_errors

PREFIX = "hub:"

_OWN = ("model.json", "weights.safetensors")
_CLASSIFIER = tuple(f"{BESIDE}/{file}" for file in _OWN)
_CONFIGURATIONS = (
    "model_index.json",
    "config.json",
    "scheduler_config.json",
    "unet/config.json",
    "scheduler/scheduler_config.json",
)


def download(name: str) -> Path:
    """The folder of a model of the hub, downloaded if it is not in the cache; without a network, as it is there.

    Only a model's own files are taken, of several files with the same weights one.

    Raises:
        ConversionError: a name of another form, or a repository without a model that can be read.
        OSError: no such repository, or no network and nothing in the cache.
    """
    found = re.fullmatch(rf"{PREFIX}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if found is None:
        raise ConversionError(f"{name!r} is no name of the hub, expected {PREFIX}ORG/NAME or {PREFIX}ORG/NAME@REVISION")
    repository, revision = found.groups()
    api = hub_api()
    try:
        with hub_errors(f"{name} cannot be downloaded"):
            files = api.list_repo_files(repository, revision=revision)
    except OSError as error:
        try:
            with hub_errors(f"{name} is not in the cache"):
                return Path(str(api.snapshot_download(repository, revision=revision, local_files_only=True)))
        except OSError:
            raise error from None
    wanted = wanted_files(files)
    if not wanted:
        raise ConversionError(
            f"{name} holds no model that can be read; expected {' and '.join(_OWN)}, or a diffusers UNet2DModel"
        )
    with hub_errors(f"{name} cannot be downloaded"):
        return Path(str(api.snapshot_download(repository, revision=revision, allow_patterns=wanted)))


def wanted_files(files: Sequence[str]) -> list[str]:
    """The files of a model among those of a repository; none where there is no model.

    >>> wanted_files(["README.md", "config.json", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"])
    ['config.json', 'diffusion_pytorch_model.safetensors']
    """
    if set(_OWN) <= set(files):
        return [*_OWN, *(file for file in _CLASSIFIER if file in files)]
    place = "unet/" if "unet/config.json" in files else ""
    weights = [place + name for name in WEIGHTS if place + name in files]
    return [name for name in _CONFIGURATIONS if name in files] + weights[:1] if weights else []
