"""The pictures of docs/transport.md: they can be drawn, are small, and show what the page says."""

import re
import runpy
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image

DOCS = Path(__file__).parent.parent / "docs"
NAMES = ["transport_1d.png", "transport_2d.png"]


def test_both_are_drawn_and_the_laws_are_those_of_the_marginals(tmp_path, capsys):
    mpl.use("agg")
    runpy.run_path(str(DOCS / "pictures.py"))["main"](tmp_path, count=4000, steps=50, law_steps=200, paths=12)
    for name in NAMES:
        with Image.open(DOCS / "pictures" / name) as shown, Image.open(tmp_path / name) as drawn:
            assert drawn.size == shown.size
            assert drawn.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    rows = re.findall(r"^\| (0\.\d+|1\.000) \| (\S+) \| (\S+) \|$", capsys.readouterr().out, re.MULTILINE)
    assert len(rows) == 6
    assert all(float(off) < 0.035 for row in rows for off in row[1:]), rows
    flow = [float(row[2]) for row in rows]
    assert max(flow) - min(flow) < 1e-3, "on a line the flow keeps ranks"


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_small(name):
    assert (DOCS / "pictures" / name).stat().st_size < 300_000


def test_the_table_is_what_50000_samples_allow():
    rows = re.findall(
        r"^\| ([01]\.\d+) \| (\S+) \| (\S+) \|$", (DOCS / "transport.md").read_text("utf-8"), re.MULTILINE
    )
    assert [row[0] for row in rows] == ["1.000", "0.800", "0.600", "0.401", "0.201", "0.001"]
    assert all(float(off) < 0.008 for row in rows for off in row[1:])
