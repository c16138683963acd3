"""The demo's page is written, whole, by itself, and its code runs."""

import html
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import scorefield as sf
from scorefield.cli.demo import chapter
from scorefield.cli.demo.chapter import Effort

SMALL = Effort(
    samples=4,
    steps=4,
    tol=0.5,
    rows=2,
    frames=3,
    likelihoods=3,
    probes=2,
    codes=2,
    code_tol=0.1,
    between=3,
    completions=3,
    budget=12,
    photographs=4,
    colour_steps=3,
)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(chapter, "Effort", lambda: SMALL)


@pytest.fixture
def page(cli, bundled, small):
    outcome = cli("demo", "--json")
    assert outcome.status == 0, outcome.err
    return json.loads(outcome.out), Path("demo/index.html").read_text(encoding="utf-8")


def test_the_page_stands_alone_and_its_code_runs(page, here):
    facts, text = page
    pictures = re.findall(r'(?:src|srcset)="([^"]*)"', text)
    assert {path.name for path in Path("demo").iterdir()} == {*pictures, "index.html"}
    assert re.findall(r'(?:href|url\()="?([^">)]*)', text) == ["https://arxiv.org/abs/2011.13456"]
    assert not re.search(r"<(script|link|iframe)|@import", text)
    for name, width, height in re.findall(r'<img src="([^"]*)" width="(\d+)" height="(\d+)" alt="[^"]', text):
        image = Image.open(Path("demo") / name)
        assert image.size == (int(width), int(height))
        assert np.asarray(image).std() > 1
    assert all(math.isfinite(value) for value in facts.values() if isinstance(value, float))
    assert not re.search(r"\b(nan|inf)\b", text)
    assert facts["evaluations"] > 0 < facts["evaluations_backward"]
    assert facts["kept_error_half"] == facts["kept_error_pixels"] == 0
    assert facts["kept_error_grey"] < 0.2
    namespace: dict[str, object] = {}
    for code in re.findall(r"<pre><code>(.*?)</code></pre>", text, re.DOTALL):
        exec(html.unescape(code), namespace)
    assert namespace["spread"].shape == (4, 1, 28, 28)


def test_a_seed_makes_the_same_pictures_over_and_over(page, cli):
    facts, _ = page
    before = {path.name: path.read_bytes() for path in Path("demo").glob("*.png")}
    (Path("demo") / "mine.txt").write_text("stays")
    again = json.loads(cli("demo", "--json").out)
    assert {path.name: path.read_bytes() for path in Path("demo").glob("*.png")} == before
    assert (Path("demo") / "mine.txt").read_text() == "stays"
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in facts.items() if k != "seconds"}
    cli("demo", "--seed", "1")
    assert (Path("demo") / "samples_ode.png").read_bytes() != before["samples_ode.png"]


def test_what_cannot_be_shown_is_said_at_once(cli, bundled, here, monkeypatch):
    assert "8, 8" in cli("demo", model="./grey").error
    assert "8, 8" in cli("demo", colour="./colour").error
    Path("file").touch()
    assert "file" in cli("demo", out="file/demo").error
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "scorefield[demo]" in cli("demo").error
    assert not Path("demo").exists()


def test_digits_take_turns_of_classes(here):
    images = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1)
    stage = chapter.Stage(sf.load("./grey"), "", images, torch.tensor([1, 1, 0, 2, 0, 0]))
    assert stage.take(6).flatten().tolist() == [2, 0, 3, 4, 1, 5]
    assert replace(stage, labels=None).take(2, 1).flatten().tolist() == [1, 2]
