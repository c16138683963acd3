"""The pictures of transport.md, from scores in closed form: python docs/pictures.py

Writes docs/pictures/transport_1d.png and transport_2d.png, and prints how far the laws of SDE and ODE are from p_t.
"""

import io
import math
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from torch import Tensor

import scorefield as sf
from scorefield.noise import Noise
from scorefield.samplers import Progress, Sampler, run
from scorefield.times import Grid, logsnr, uniform

FOLDER = Path(__file__).parent / "pictures"
INK, FAINT = "#22303c", "#8a97a3"
SDE_COLOUR, ODE_COLOUR = "#d55e00", "#0b2a4a"
DENSITY = LinearSegmentedColormap.from_list("density", ["#ffffff", "#d9e8f5", "#9cc4e4", "#5b9bd0", "#2f74b5"])
STYLE = {
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "cm",
    "font.size": 10,
    "axes.titlesize": 12,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.6,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
}
SDE, ODE = sf.EulerMaruyama(), sf.Heun()
SAMPLERS: dict[str, Sampler] = {"SDE": SDE, "ODE": ODE}


def bimodal() -> sf.GaussianMixture:
    """Two bumps on a line."""
    means = torch.tensor([[-1.2], [0.9]], dtype=torch.float64)
    deviations = torch.tensor([[0.22], [0.3]], dtype=torch.float64)
    return sf.GaussianMixture(means, variances=deviations**2, weights=means.new_tensor([0.4, 0.6]))


def moons(count: int = 28) -> sf.GaussianMixture:
    """Two interleaved half circles, each a string of small Gaussians."""
    angle = torch.linspace(0, math.pi, count, dtype=torch.float64)
    upper = torch.stack([torch.cos(angle) - 0.5, torch.sin(angle) - 0.25], 1)
    means = 1.05 * torch.cat([upper, -upper])
    return sf.GaussianMixture(means, variances=torch.full_like(means, 0.1**2))


def walk(model: sf.ExactModel, sampler: Sampler, x: Tensor, times: Grid, *, seed: int = 7, every: int = 1) -> Tensor:
    """x at the first and every so many of `times`, (time, sample, dim)."""
    path, noise = [x], Noise(seed, range(len(x)))

    def keep(at: Progress) -> None:
        if at.step % every == 0:
            path.append(at.x)

    run(sampler, model, x, times, noise=noise, denoise=False, callback=keep)
    return torch.stack(path)


def forward(model: sf.ExactModel, x: Tensor, times: Grid) -> Tensor:
    """Paths of the forward SDE from `x`, along ascending `times`."""
    noise, path = Noise(2, range(len(x))), [x]
    for s, t in pairwise(times):
        a, v = model.sde.transition(s, t)
        path.append(a * path[-1] + v.sqrt() * noise.normal(x.shape[1:], x.dtype))
    return torch.stack(path)


def cdf(law: sf.GaussianMixture, x: Tensor) -> Tensor:
    """The distribution function of a mixture on a line."""
    z = (x.reshape(-1, 1) - law.means.T) / (2 * law.variances.T).sqrt()
    return 0.5 * (1 + torch.erf(z)) @ law.log_weights.exp()


def distance(x: Tensor, law: sf.GaussianMixture) -> float:
    """The largest difference of the distribution function of the samples `x` and that of their law (Kolmogorov)."""
    at = x.flatten().sort()[0]
    return float((cdf(law, at) - (torch.arange(len(at)) + 0.5) / len(at)).abs().max())


def ends(count: int, steps: int) -> tuple[Grid, dict[str, Tensor]]:
    """`count` draws of the prior of VP taken to the data by SDE and by ODE, at six times of a uniform grid."""
    model, times = sf.ExactModel(sf.VP(), bimodal()), uniform(sf.VP(), steps)
    start = Noise(3, range(count)).normal((1,), torch.float64)
    walks = {name: walk(model, sampler, start, times, every=steps // 5) for name, sampler in SAMPLERS.items()}
    return times[:: steps // 5], walks


def bare(axes: Axes) -> None:
    """No frame, no ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def heat(axes: Axes, model: sf.ExactModel, times: Grid, x: Tensor, mirrored: bool) -> None:
    """p_t(x) over time, its root, so that the prior is seen beside the data."""
    density = torch.stack([model.marginal(t).log_prob(x[:, None]).exp() for t in times], 1).sqrt()
    extent = (0, 1, float(x[0]), float(x[-1]))
    image = density.flip(1) if mirrored else density
    axes.imshow(image, origin="lower", aspect="auto", extent=extent, cmap=DENSITY, interpolation="bilinear", vmin=0)
    axes.set_xticks([0, 1], ["$t = T$", "$t = 0$"] if mirrored else ["$t = 0$", "$t = T$"])
    axes.tick_params(length=0, pad=5)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def profile(axes: Axes, x: Tensor, density: Tensor, title: str, leftward: bool = False) -> None:
    """A density drawn sideways."""
    axes.fill_betweenx(x, density, color=DENSITY(0.45), linewidth=0)
    axes.plot(density, x, color=ODE_COLOUR, linewidth=1.2)
    axes.set_xlim((1.12 * float(density.max()), 0) if leftward else (0, 1.12 * float(density.max())))
    axes.set_title(title, pad=8)
    bare(axes)


def line(count: int, steps: int, law_steps: int) -> tuple[Figure, list[str]]:
    """A bimodal law on a line, to the prior and back; and the distances of the laws of SDE and ODE from p_t."""
    model = sf.ExactModel(sf.VP(), bimodal())
    x = torch.linspace(-3.5, 3.5, 400, dtype=torch.float64)
    down = uniform(sf.VP(), steps)
    quantiles = torch.tensor([0.03, 0.1, 0.2, 0.3, 0.375, 0.425, 0.5, 0.65, 0.8, 0.92, 0.98], dtype=torch.float64)
    flow = walk(model, ODE, math.sqrt(2) * torch.erfinv(2 * quantiles[:, None] - 1), down)[..., 0]
    start = torch.tensor([[-1.15], [1.0], [0.6]], dtype=torch.float64)
    there = forward(model, start, down.flip(0))[..., 0]
    back = walk(model, SDE, torch.tensor([[-1.5], [0.1], [1.3]], dtype=torch.float64), down)[..., 0]

    figure = plt.figure(figsize=(11, 3.9))
    grid = figure.add_gridspec(1, 5, width_ratios=[0.55, 2.6, 0.5, 2.6, 0.75], wspace=0.05)
    data, out, prior, home, samples = (figure.add_subplot(cell) for cell in grid)
    for axes, paths, ode, mirrored in ((out, there, flow.flip(0), False), (home, back, flow, True)):
        heat(axes, model, down.flip(0), x, mirrored)
        time = 1 - down if mirrored else down.flip(0)
        axes.plot(time, ode, color=ODE_COLOUR, linewidth=1.1)
        axes.plot(time, paths, color=SDE_COLOUR, linewidth=0.8)
        axes.set_xlim(0, 1)
    density = {t: model.marginal(down[i]).log_prob(x[:, None]).exp() for i, t in ((-1, 0), (0, 1))}
    profile(data, x, density[0], "$p_0(x)$", leftward=True)
    profile(prior, x, density[1], "$p_T(x)$")
    out.set_title(r"forward:  $\mathrm{d}x = f\,\mathrm{d}t + g\,\mathrm{d}w$", pad=8)
    home.set_title(
        r"reverse:  $\mathrm{d}x = [f - g^2\,\nabla_x\log p_t(x)]\,\mathrm{d}t + g\,\mathrm{d}\bar w$", pad=8
    )

    kept, walks = ends(count, law_steps)
    bins = np.linspace(-3.5, 3.5, 81)
    samples.fill_betweenx(x, density[0], color=DENSITY(0.45), linewidth=0)
    for (_, path), colour in zip(walks.items(), (SDE_COLOUR, ODE_COLOUR), strict=True):
        heights = np.histogram(path[-1].flatten(), bins, density=True)[0]
        samples.stairs(heights, bins, orientation="horizontal", color=colour, linewidth=1)
    samples.set_xlim(0, 1.12 * float(density[0].max()))
    samples.set_title("samples", pad=8)
    bare(samples)
    for axes in (data, out, prior, home, samples):
        axes.set_ylim(-3.5, 3.5)
    handles = [Line2D([], [], color=SDE_COLOUR, lw=1.6), Line2D([], [], color=ODE_COLOUR, lw=1.6)]
    figure.legend(handles, ["SDE", "probability-flow ODE"], loc="lower center", ncols=2, frameon=False)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.88, bottom=0.15)

    rows = []
    for i, t in enumerate(kept):
        off = [distance(path[i], model.marginal(t)) for path in walks.values()]
        rows.append(f"| {float(t):.3f} | {off[0]:.4f} | {off[1]:.4f} |")
    return figure, rows


def plane(paths: int, steps: int) -> Figure:
    """Two moons from p_T, by paths of the SDE and curves of the ODE, for VE, VP and sub-VP.

    Along a path colour grows with the signal's share of the variance, alpha² V/(alpha² V + sigma²).
    """
    law, sdes = moons(), {"VE": sf.VE(sigma_max=1.5), "VP": sf.VP(), "sub-VP": sf.SubVP()}
    figure, rows = plt.subplots(2, 3, figsize=(10, 6.1))
    for column, (name, sde) in enumerate(sdes.items()):
        model, times = sf.ExactModel(sde, law), logsnr(sde, steps)
        start = model.marginal(times[0]).sample(paths, torch.Generator().manual_seed(24))
        half = 3.9 if name == "VE" else 3.15
        signal = float(law.covariance.trace() / 2) * torch.exp(sde.logsnr(times[:-1]))
        for axes, sampler, colour, shown in (
            (rows[0][column], SDE, SDE_COLOUR, 6),
            (rows[1][column], ODE, ODE_COLOUR, paths // 2),
        ):
            law_map(axes, model.marginal(times[-1]), half)
            path = walk(model, sampler, start, times, seed=2)
            segments = torch.stack([path[:-1, :shown], path[1:, :shown]], 2).transpose(0, 1).reshape(-1, 2, 2)
            fade = LinearSegmentedColormap.from_list("fade", ["#d6dce1", colour])
            share = (signal / (1 + signal)).repeat(shown)
            axes.add_collection(
                LineCollection(list(segments.numpy()), array=share, cmap=fade, linewidths=0.8, capstyle="round")
            )
            axes.scatter(*path[0, :shown].T, s=14, facecolors="white", edgecolors=FAINT, linewidths=0.8, zorder=3)
            axes.scatter(*path[-1].T, s=4, color=colour, linewidths=0, zorder=4)
            axes.set(xlim=(-half, half), ylim=(-0.85 * half, 0.85 * half))
            bare(axes)
        rows[0][column].set_title(name, pad=6)
    for row, label in enumerate(("reverse SDE", "probability-flow ODE")):
        rows[row][0].set_ylabel(label, fontsize=12)
    figure.subplots_adjust(left=0.035, right=0.995, top=0.95, bottom=0.01, wspace=0.03, hspace=0.03)
    return figure


def law_map(axes: Axes, law: sf.GaussianMixture, half: float, count: int = 240) -> None:
    """A density in the plane."""
    side = torch.linspace(-half, half, count, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)
    density = law.log_prob(points).exp().reshape(count, count)
    axes.imshow(
        density,
        origin="lower",
        extent=(-half, half, -half, half),
        cmap=DENSITY,
        vmax=1.5 * float(density.max()),
        interpolation="bilinear",
    )


def save(figure: Figure, file: Path) -> None:
    """As a PNG of 256 colours, dithered, on white."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150, facecolor="white")
    plt.close(figure)
    image = Image.open(drawn).convert("RGB")
    few = image.quantize(palette=image.quantize(256))
    colours = np.array(few.getpalette()).reshape(-1, 3)
    colours[few.getpixel((0, 0))] = 255
    few.putpalette(colours.flatten().tolist())
    few.save(file, optimize=True)


def main(folder: Path = FOLDER, count: int = 50_000, steps: int = 400, law_steps: int = 1000, paths: int = 120) -> None:
    """Draw both and print the distances."""
    with plt.rc_context(STYLE):
        figure, rows = line(count, steps, law_steps)
        save(figure, folder / "transport_1d.png")
        save(plane(paths, steps), folder / "transport_2d.png")
    print("| t | SDE | ODE |\n|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
