"""The page: one HTML file with its style in it and pictures beside it, and nothing from elsewhere."""

import html
import json
import textwrap
from collections.abc import Sequence
from importlib.resources import files

from scorefield.cli.demo.chapter import Chapter, Picture, Stage
from scorefield.counting import Evaluations


def page(
    digits: Stage, photographs: Stage, chapters: Sequence[Chapter], evaluations: Evaluations, seconds: float
) -> str:
    """The HTML of the chapters, between a heading and what it all took."""
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    parameters = sum(parameter.numel() for parameter in digits.model.parameters())
    load = f"""\
import torch
import scorefield as sf
from scorefield.data import open_data

model = sf.load({json.dumps(digits.name)})
digits = open_data("example:mnist").tensor()[:4]"""
    body = "\n".join(_chapter(chapter) for chapter in chapters)
    backward = f" and {evaluations.backward:,} backward" if evaluations.backward else ""
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>scorefield: what one score is good for</title>
<style>
{style}</style>
</head>
<body>
<header>
<p class="name">scorefield</p>
<h1>What one score is good for</h1>
<p class="lead">A network of {parameters / 1e6:.1f} million parameters has learned one thing: at every level of noise,
in which direction digits become more likely. From it come samples, exact likelihoods, codes and completions; and from a
second network, of photographs, the same in colour. The method is that of <a
href="https://arxiv.org/abs/2011.13456">Song et al. (2021)</a>; no digit or photograph shown here was trained on.</p>
{_code(load)}
</header>
<main>
{body}
</main>
<footer>
<p>{evaluations.forward:,} evaluations of the networks{backward}, {seconds:.0f} s. Made by <code>scorefield demo --model
{html.escape(digits.name)} --colour {html.escape(photographs.name)} --seed {digits.seed}</code>; the same command makes
the same pictures.</p>
</footer>
</body>
</html>
"""


def _chapter(chapter: Chapter) -> str:
    pictures = "\n".join(_picture(picture) for picture in chapter.pictures)
    return f"""\
<section>
<h2>{html.escape(chapter.title)}</h2>
{textwrap.dedent(chapter.text)}
{_code(chapter.code)}
<div class="pictures">
{pictures}
</div>
</section>"""


def _code(code: str) -> str:
    return f"<pre><code>{html.escape(code)}</code></pre>"


def _picture(picture: Picture) -> str:
    shown, *dark = picture.files
    height, width = picture.files[shown].shape[:2]
    source = f'<source srcset="{dark[0]}" media="(prefers-color-scheme: dark)">' if dark else ""
    names = "".join(
        f'<span style="grid-column: span {span}">{html.escape(name)}</span>' for name, span in picture.columns
    )
    count = sum(span for _, span in picture.columns)
    head = f'<div class="columns" style="grid-template-columns: repeat({count}, 1fr)">{names}</div>' if names else ""
    caption = f"<figcaption>{html.escape(picture.caption)}</figcaption>" if picture.caption else ""
    image = f'<img src="{shown}" width="{width}" height="{height}" alt="{html.escape(picture.alt)}">'
    wide = ' class="wide"' if width > 1.5 * height else ""
    return f"<figure{wide}>{head}<picture>{source}{image}</picture>{caption}</figure>"
