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
    figure = Figure(figsize=(7.2, 2.9), dpi=200, facecolor=paper)
    axes = figure.add_axes((0.02, 0.2, 0.96, 0.78), facecolor=paper)
    rows = range(len(bits) - 1, -1, -1)
    for row, (name, values), colour in zip(rows, bits.items(), COLOURS, strict=True):
        height = row - 0.13 + 0.26 * np.linspace(0, 1, len(values))
        axes.errorbar(
            values, height, xerr=errors[name], fmt="o", color=colour, markersize=3.2, elinewidth=1, alpha=0.75
        )
        mean, spread = float(values.mean()), float(values.std())
        axes.plot([mean - spread, mean + spread], [row - 0.24] * 2, color=colour, linewidth=3, solid_capstyle="round")
        axes.plot([mean], [row - 0.24], "|", color=colour, markersize=11, markeredgewidth=2)
        label = f"{name}   {mean:.2f} ± {spread:.2f}"
        align = "left" if mean < 6 else "right"
        at = float(values.min()) if align == "left" else float(values.max())
        axes.text(at, row + 0.25, label, color=colour, fontsize=10, ha=align)
    axes.axvline(8, color=ink, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.text(8, -0.52, " 8: stored as it is", color=ink, fontsize=8, alpha=0.7)
    axes.set_ylim(-0.6, len(bits) - 0.4)
    axes.set_xlim(left=0)
    axes.set_yticks([])
    axes.set_xlabel("bits per dimension", color=ink, fontsize=9)
    axes.tick_params(colors=ink, labelsize=9, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(ink)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=paper)
    return np.asarray(Image.open(file).convert("RGB"))
