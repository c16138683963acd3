"""The chart of likelihoods."""

import io
from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np
from PIL import Image
from torch import Tensor

from scorefield.cli.demo.chapter import Pixels

COLOURS = ("#3b7dd8", "#d8863b", "#9a6fc9")


def check_matplotlib() -> None:
    """Raise an ImportError now rather than after all the sampling."""
    if find_spec("matplotlib") is None:
        raise ImportError("the demo draws with matplotlib, which is not installed: pip install 'scorefield[demo]'")


def bits_chart(bits: Mapping[str, Tensor], errors: Mapping[str, Tensor], *, dark: bool) -> Pixels:
    """A row for each group: a dot for each image with its probes' standard error, the mean and the spread."""
    from matplotlib.figure import Figure

    ink, paper = ("#e4e4e7", "#18181b") if dark else ("#27272a", "#fbfaf8")
    figure = Figure(figsize=(5.6, 3), dpi=256, facecolor=paper)
    axes = figure.add_axes((0.02, 0.17, 0.96, 0.82), facecolor=paper)
    rows = range(len(bits) - 1, -1, -1)
    for row, (name, values), colour in zip(rows, bits.items(), COLOURS, strict=True):
        height = row - 0.16 + 0.3 * np.linspace(0, 1, len(values))
        axes.errorbar(
            values, height, xerr=errors[name], fmt="o", color=colour, markersize=2.6, elinewidth=1, alpha=0.75
        )
        mean, spread = float(values.mean()), float(values.std())
        axes.plot([mean - spread, mean + spread], [row - 0.28] * 2, color=colour, linewidth=2.5, solid_capstyle="round")
        axes.plot([mean], [row - 0.28], "|", color=colour, markersize=9, markeredgewidth=2)
        axes.text(0.05, row + 0.27, f"{name}   {mean:.2f} ± {spread:.2f}", color=colour, fontsize=9.5)
    axes.axvline(8, color=ink, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.text(7.9, -0.53, "stored as they are", color=ink, fontsize=8, alpha=0.7, ha="right")
    axes.set_ylim(-0.62, len(bits) - 0.5)
    axes.set_xlim(left=0)
    axes.set_yticks([])
    axes.set_xlabel("bits per dimension", color=ink, fontsize=8.5)
    axes.tick_params(colors=ink, labelsize=8.5, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(ink)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=paper)
    return np.asarray(Image.open(file).convert("RGB"))
