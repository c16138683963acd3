"""docs/posteriors.md says what the code does: each method against a known Gaussian posterior."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

import scorefield as sf
from scorefield.conditional import Method

ROOT = Path(__file__).parent.parent.parent
posteriors = SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / "posteriors.py")))
NAMES = [type(sde).__name__ for sde in posteriors.SDES]


def cells_of(section, method):
    page = posteriors.PAGE.read_text("utf-8")
    table = re.search(rf"^{section}\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)[1]
    return re.search(rf"^\| `{method}` \| (.*) \|$", table, re.MULTILINE)[1].split(" | ")


def test_no_method_is_missing():
    assert set(posteriors.METHODS) == set(get_args(Method))


@pytest.mark.parametrize(
    ("method", "std"),
    [*((method, 0.2) for method in posteriors.METHODS), *((m, 0.0) for m in ("dps", "ddrm", "replacement", "repaint"))],
)
def test_the_page(method, std):
    """As written; of particles, as far as so many samples tell."""
    cell = cells_of("### With noise" if std else "### Without", method)[NAMES.index("VP")]
    if posteriors.missing(method, std):
        assert cell == "refused"
        return
    found = posteriors.errors(method, sf.VP(), std)
    numbers = [float(number) for number in re.split("; |–", cell)]
    assert numbers == pytest.approx(found, abs=0.08 if method == "smc" else 0.006)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("mmps", "Average"),
        ("tmpd", "Mask"),
        ("pigdm", "Grey"),
        ("dps", "Linear"),
        ("diffpir", "Fourier"),
        ("ddrm", "Blur"),
        ("replacement", "Matrix"),
        ("repaint", "Matrix"),
    ],
)
def test_every_operator(method, name):
    """Each method, but for particles, with one of the operators."""
    cells = cells_of("## Every operator", method)
    found = posteriors.operated(method, name)
    assert cells[list(posteriors.OPERATORS).index(name)] == posteriors.cell(found)
    if method == "mmps":
        assert found[0] < 0.02


@pytest.mark.parametrize(
    ("method", "name"), [("mmps", "Grey"), ("diffpir", "Mask"), ("ddrm", "Average"), ("replacement", "Fourier")]
)
def test_two_modes(method, name):
    """The shares of the modes, as far as chance allows from one machine to another."""
    cell = cells_of("And images with every operator.*?\n", method)[list(posteriors.OPERATORS).index(name)]
    assert [float(number) for number in cell.split("; ")] == pytest.approx(
        posteriors.two_images(method, name), abs=0.02
    )


def test_what_is_exact_is_exact():
    """Full covariance has the law of the posterior up to its steps; the others do not."""
    off, least, greatest = posteriors.errors("mmps", sf.VE(), 0.2)
    assert off < 0.02
    assert 0.96 < least <= greatest < 1.02
    assert posteriors.errors("replacement", sf.VE(), 0.2)[0] > 0.5
