"""What README and documentation say runs: Python blocks with a tiny model, command lines as far as they are parsed."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from scorefield import checkpoint
from scorefield.checkpoint import save_model
from scorefield.cli.main import app
from scorefield.recipes import load_recipe
from scorefield.recipes.build import build

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def pages_with(language):
    return [pytest.param(page, id=page.stem) for page in PAGES if blocks(page, language)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A tiny model that stands for the bundled one."""
    folder = tmp_path_factory.mktemp("bundle")
    torch.manual_seed(0)
    small = ["model.channels=8", "model.multipliers=[1,2]", "training.steps=1"]
    save_model(build(load_recipe("mnist", small)), folder / "mnist")
    return folder


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_blocks_run(page, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_bundle", lambda: bundle)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    for code in blocks(page, "python"):
        exec(re.sub(r"(?<=, )steps=\d+", "steps=20", code), namespace)


@pytest.mark.parametrize("page", pages_with("bash"))
def test_command_lines_are_right(page):
    for line in "".join(blocks(page, "bash")).splitlines():
        program, *arguments = shlex.split(line)
        if program == "scorefield":
            commands = get_command(app).commands
            commands[arguments[0]].make_context(arguments[0], arguments[1:])
        elif program == "make":
            assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        else:
            assert program == "pip"


@pytest.mark.parametrize("code", blocks(ROOT / "docs/recipes.md", "yaml"))
def test_recipes_are_right(code, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(code, encoding="utf-8")
    build(load_recipe(path))


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).is_file(), (page.name, target)


def test_every_page_is_in_the_index():
    listed = re.search(r"```\{toctree\}.*?\n\n(.*?)```", (ROOT / "docs/index.md").read_text(), re.DOTALL)[1].split()
    assert sorted(listed) == sorted(page.stem for page in PAGES if page.stem not in ("README", "index"))
