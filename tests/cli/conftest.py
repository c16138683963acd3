"""The command line run in this process, and tiny models of random weights to run it on."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tiny import tiny_classifier, tiny_model

from scorefield import checkpoint
from scorefield.checkpoint import save_model
from scorefield.cli import main
from scorefield.recipes import load_recipe
from scorefield.recipes.build import build


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a failed command."""
        assert self.status == 2
        assert self.out == ""
        assert self.err.startswith("error: ")
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("error: ").rstrip("\n")


Cli = Callable[..., Outcome]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`grey`, `colour` and `classes` make images of 8 x 8 pixels, `vectors` pairs of numbers."""
    folder = tmp_path_factory.mktemp("models")
    tiny_model(folder / "grey", (1, 8, 8))
    tiny_model(folder / "colour", (3, 8, 8))
    tiny_model(folder / "classes", (1, 8, 8), "data.classes=10")
    torch.manual_seed(0)
    save_model(build(load_recipe("table", ["model.width=8", "model.depth=1"])), folder / "vectors")
    return folder


@pytest.fixture
def here(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh working folder with the models in it."""
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(here: Path, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line: `cli("sample", "grey", n=4)` is `scorefield sample grey --n 4`."""

    def run(*arguments: str, **options: object) -> Outcome:
        named = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        capfd.readouterr()
        status = main([*arguments, *named])
        return Outcome(status, *capfd.readouterr())

    return run


@pytest.fixture
def bundled(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models in the place of the bundled ones."""
    tiny_model(here / "bundle" / "mnist", (1, 28, 28))
    tiny_model(here / "bundle" / "cifar10", (3, 32, 32))
    tiny_classifier(here / "bundle" / "mnist")
    monkeypatch.setattr(checkpoint, "_bundle", lambda: here / "bundle")
