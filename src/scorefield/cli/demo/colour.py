"""The chapter of the second model: photographs."""

import json
import math

import torch

import scorefield as sf
from scorefield.cli.demo.chapter import Chapter, Picture, Stage, plate


def in_colour(stage: Stage) -> Chapter:
    """Samples in colour, how likely photographs are, and colours for grey photographs."""
    model, effort = stage.model, stage.effort
    drawn = sf.sample(model, effort.photographs, steps=effort.colour_steps, seed=stage.seed, batch_size=36)
    photos = stage.take(4)
    scored = sf.log_likelihood(
        model, stage.take(effort.likelihoods), probes=effort.probes, tol=effort.tol, seed=stage.seed
    )
    if scored.bits_per_dim is None:
        raise TypeError("a likelihood without bits per dimension, expected one of 8-bit images")
    bits, spread = float(scored.bits_per_dim.mean()), float(scored.bits_per_dim.std())
    grey = photos.float().mean(1, keepdim=True) / 255
    n, shown = effort.completions, min(effort.completions, 6)
    y = sf.colorize(model, grey, n=n, budget=effort.budget, seed=stage.seed).cpu()
    mean, std = y.mean(1), y.std(1)
    columns = [grey[:, None].expand_as(y[:, :1]), y[:, :shown], mean[:, None], 4 * std[:, None], photos[:, None] / 255]
    kept = float((y.mean(2, keepdim=True) - grey[:, None]).abs().mean())
    return Chapter(
        "In colour",
        f"""<p>A second model, of {sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters, has learned
        photographs of 32 × 32 pixels on two processor cores: enough for light, colour and texture, and for the shape of
        some things. A held-out photograph takes <b>{bits:.2f} ± {spread:.2f} bits per dimension</b> (mean and spread of
        {effort.likelihoods}).</p>
        <p>It has never seen a grey photograph either. Brightness, the mean of the three channels, is known as half of a
        digit was, and what is left to the model is colour: each colouring is its own, and
        the spread is bright where the grey photograph does not say which colour it had.</p>""",
        f"""\
colour, photos = sf.load({json.dumps(stage.name)}), open_data("example:cifar10").tensor()[:4]
x = sf.sample(colour, {effort.photographs}, steps={effort.colour_steps}, seed={stage.seed})
grey = photos.float().mean(1, keepdim=True) / 255
y = sf.colorize(colour, grey, n={n}, budget={effort.budget}, seed={stage.seed})""",
        (
            Picture(
                {"colour_samples.png": plate(drawn, math.isqrt(effort.photographs))},
                f"{effort.photographs} colour images sampled with the reverse SDE",
                f"Ancestral sampling: {effort.colour_steps} steps.",
            ),
            Picture(
                {"colourization.png": plate(torch.cat(columns, 1).flatten(0, 1), shown + 4)},
                f"Grey photographs, {shown} colourings of each, their mean and standard deviation",
                "Colour is added, brightness is kept.",
                (("grey", 1), (f"{shown} of {n} colourings", shown), ("mean", 1), ("spread", 1), ("truth", 1)),
            ),
        ),
        {"bits_per_dim_photographs": bits, "kept_error_grey": kept},
    )
