"""The chapters of the demo, each a function of the stage."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

import scorefield as sf
from scorefield.cli.demo.chapter import Chapter, Picture, Pixels, Stage, plate
from scorefield.cli.demo.chart import bits_chart
from scorefield.cli.result import stopwatch
from scorefield.cli.trajectory import visible
from scorefield.data import hole, permutation
from scorefield.samplers import Progress
from scorefield.times import logsnr


def process(stage: Stage) -> Chapter:
    """The SDE from data to noise, and its reverse from that noise to other data."""
    model, effort = stage.model, stage.effort
    sde, space, device = model.sde, model.space, sf.api.device_of(model)
    sampler, times = _predictor_corrector(), logsnr(model.sde, 2 * effort.steps)
    wanted = sde.T * torch.linspace(1, 0, effort.frames, dtype=torch.float64) ** 2
    shown = sorted({int((times - t).abs().argmin()) for t in wanted[:-1]})
    noise = sf.Noise(stage.seed, range(effort.rows), device, "process")
    digits = stage.take(effort.rows)
    x, s = space.to_model(digits.to(device)), times.new_zeros(())
    forward = [visible(model, x, s)]
    for t in reversed([times[step] for step in shown]):
        a, v = sde.transition(s, t)
        x, s = a * x + torch.sqrt(v) * noise.normal(space.shape), t
        forward.append(visible(model, x, t))
    reverse = [visible(model, x, times[0])]

    def keep(progress: Progress) -> None:
        if progress.step in shown:
            reverse.append(visible(model, progress.x, progress.t))

    y = sf.run(sampler, model, x, times, noise=noise, callback=keep)
    reverse.append(space.to_data(y))
    return Chapter(
        "Data to noise, and back",
        f"""<p>A stochastic differential equation carries five handwritten digits to pure noise: nothing is learned
        here. Its reverse needs one function, the <em>score</em>, the gradient of the log-density of the perturbed
        digits at every time; this is what the network has learned. A predictor–corrector of {2 * effort.steps} steps
        starts from the very noise in which the first strip ends. It arrives at digits, but not at the same ones: a
        noise process forgets.</p>""",
        """\
x, t = model.space.to_model(digits), torch.tensor(0.4)
a, v = model.sde.transition(torch.tensor(0.0), t)
x = a * x + v.sqrt() * torch.randn_like(x)""",
        (
            Picture({"forward.png": _strip(forward)}, "Digits dissolve into noise", "The forward SDE, left to right."),
            Picture({"reverse.png": _strip(reverse)}, "Digits appear out of noise", "The reverse SDE, left to right."),
        ),
    )


def samples(stage: Stage) -> Chapter:
    """Samples of the reverse SDE and of the probability flow."""
    model, effort = stage.model, stage.effort
    count, size = effort.samples, min(effort.samples, 32)
    elapsed = stopwatch()
    with sf.count_evaluations(model) as pc:
        first = sf.sample(
            model, count, sampler=_predictor_corrector(), steps=effort.steps, seed=stage.seed, batch_size=size
        )
    pc_seconds = elapsed()
    with sf.count_evaluations(model) as ode:
        second = sf.sample(model, count, sampler=sf.ProbabilityFlow(effort.tol), seed=stage.seed, batch_size=size)
    ode_seconds, columns = elapsed() - pc_seconds, math.isqrt(count)
    return Chapter(
        "Samples",
        """<p>The same model makes new digits in two ways. The reverse SDE adds fresh noise at every step, and a
        Langevin corrector pulls the sample towards its law. The <em>probability flow</em> is an ordinary differential
        equation with the same marginals: the noise it starts from decides everything, and an adaptive solver chooses
        its steps for each sample. Sample&nbsp;<i>i</i> of a seed is the same at every batch size.</p>""",
        f"""\
pc = sf.PredictorCorrector(sf.ReverseDiffusion(), sf.Langevin(snr=0.16))
x = sf.sample(model, {count}, sampler=pc, steps={effort.steps}, seed={stage.seed})
y = sf.sample(model, {count}, sampler=sf.ProbabilityFlow(tol={effort.tol:g}), seed={stage.seed})""",
        (
            Picture(
                {"samples_pc.png": plate(first, columns)},
                f"{count} digits sampled with the reverse SDE",
                f"Predictor–corrector: {pc.forward / count:.0f} evaluations a digit, {pc_seconds:.0f} s in all.",
            ),
            Picture(
                {"samples_ode.png": plate(second, columns)},
                f"{count} digits sampled with the probability flow",
                f"Probability flow: {ode.forward / count:.0f} evaluations a digit, {ode_seconds:.0f} s in all.",
            ),
        ),
        {"nfe_pc": pc.forward / count, "nfe_ode": ode.forward / count},
    )


def likelihood(stage: Stage) -> Chapter:
    """Bits per dimension of digits, of the same pixels shuffled, and of noise."""
    model, effort = stage.model, stage.effort
    digits = stage.take(effort.likelihoods)
    orders = [permutation(model.space.dim, stage.seed, image) for image in range(len(digits))]
    shuffled = torch.stack(
        [image.flatten()[order].reshape(image.shape) for image, order in zip(digits, orders, strict=True)]
    )
    uniform = sf.Noise(stage.seed, range(len(digits)), stream="pixels").uniform(model.space.shape)
    groups = {
        "held-out digits": digits,
        "their pixels, shuffled": shuffled,
        "uniform noise": (256 * uniform).to(torch.uint8),
    }
    results = {
        name: sf.log_likelihood(model, x, probes=effort.probes, tol=effort.tol, seed=stage.seed)
        for name, x in groups.items()
    }
    bits = {name: _known(r.bits_per_dim) for name, r in results.items()}
    errors = {name: _known(r.bits_per_dim_error) for name, r in results.items()}
    means = {name: float(value.mean()) for name, value in bits.items()}
    spreads = {name: float(value.std()) for name, value in bits.items()}
    probe = float(errors["held-out digits"].mean())
    spaced = torch.linspace(0, len(digits) - 1, min(8, len(digits))).round().long()
    ranked = torch.argsort(bits["held-out digits"])[spaced]
    names = tuple((f"{float(bits['held-out digits'][i]):.2f}", 1) for i in ranked)
    light, dark = (bits_chart(bits, errors, dark=dark) for dark in (False, True))
    digit, jumbled, noise = means.values()
    return Chapter(
        "How likely is an image?",
        f"""<p>Along the probability flow, the change of volume gives the probability of every image. A held-out digit
        takes <b>{digit:.2f} ± {spreads["held-out digits"]:.2f} bits per pixel</b> (mean and spread of {len(digits)}),
        out of 8 that it takes to store it. The same pixels shuffled take {jumbled:.2f}: it is their order that the
        model knows. Uniform noise takes {noise:.2f}, worse than 8, for it is nothing like a digit.</p>
        <p>The divergence along the flow is estimated with {effort.probes} random probes for each image. For a digit
        their standard error is {probe:.3f} bits per pixel, less than the width of a dot.</p>""",
        f"""\
r = sf.log_likelihood(model, digits, probes={effort.probes}, tol={effort.tol:g}, seed={stage.seed})
r.bits_per_dim, r.bits_per_dim_error""",
        (
            Picture(
                {"likelihood.png": light, "likelihood_dark.png": dark},
                "; ".join(f"{name}: {mean:.2f} bits per dimension" for name, mean in means.items()),
                "A dot is an image, with the standard error of its probes; below are mean and spread.",
            ),
            Picture(
                {"likelihood_images.png": plate(torch.cat([x[ranked] for x in groups.values()]), len(ranked))},
                "Rows of digits, of their shuffled pixels, and of noise",
                "Digits with the bits per pixel that each takes, their shuffled pixels, and noise.",
                names,
            ),
        ),
        {
            f"bits_per_dim_{key}{suffix}": value
            for key, name in zip(("digits", "shuffled", "noise"), groups, strict=True)
            for suffix, value in (
                ("", means[name]),
                ("_spread", spreads[name]),
                ("_error_probes", float(errors[name].mean())),
            )
        },
    )


def codes(stage: Stage) -> Chapter:
    """Encoding and decoding, and what can be done in between."""
    model, effort = stage.model, stage.effort
    digits = stage.take(effort.codes)
    grain = sf.Noise(stage.seed, range(len(digits)), stream="grain").uniform(model.space.shape)
    original = model.space.dequantize(digits, grain)
    latent = sf.encode(model, original, tol=effort.code_tol)
    decoded = sf.decode(model, latent, tol=effort.code_tol).cpu()
    error = float((decoded - original).abs().max())
    scale = float(latent.std())
    angles = torch.linspace(0, math.pi / 2, effort.between, device=latent.device).reshape(-1, 1, 1, 1)
    pairs = [(latent[2 * i], latent[2 * i + 1]) for i in range(len(latent) // 2)][:3]
    path = torch.cat([angles.cos() * z0 + angles.sin() * z1 for z0, z1 in pairs])
    heats = torch.linspace(0.6, 1.2, effort.between, device=latent.device).reshape(-1, 1, 1, 1)
    warm = torch.cat([heats * z for z in latent[:2]])
    moved = sf.decode(model, torch.cat([path, warm]), tol=effort.tol)
    return Chapter(
        "Codes",
        f"""<p>Run towards the noise, the same flow encodes an image as noise of the same shape; over these codes it has
        a standard deviation of {scale:.2f}. Run back, it decodes, and nothing is lost: no pixel differs by more than
        <b>{_scientific(error)}</b>, with brightness between 0 and 1. Between two codes lies an arc on which every point
        is as long as noise is, so every point decodes to something like a digit. Codes shrunk towards zero decode to
        what is smoother than the digit itself, codes made larger to what is stranger.</p>""",
        f"""\
x = model.space.dequantize(digits, torch.rand(digits.shape))
z = sf.encode(model, x, tol={effort.code_tol:g})
y = sf.decode(model, z, tol={effort.code_tol:g})
a = torch.linspace(0, torch.pi / 2, {effort.between}).reshape(-1, 1, 1, 1)
between = sf.decode(model, a.cos() * z[0] + a.sin() * z[1], tol={effort.tol:g})""",
        (
            Picture(
                {"codes.png": plate(torch.cat([original, _noise(latent), decoded]), len(digits))},
                "Digits, their codes, and the decoded digits",
                "Digits, their codes, and what the codes decode to.",
            ),
            Picture(
                {"interpolation.png": plate(moved[: len(path)], effort.between)},
                "Digits that turn into other digits",
                "Decoded arcs between the codes of two digits, which are at the ends.",
            ),
            Picture(
                {"temperature.png": plate(moved[len(path) :], effort.between)},
                "Two digits decoded from codes of growing norm",
                "Codes of two digits, times 0.6 on the left to 1.2 on the right.",
            ),
        ),
        {"max_error": error, "latent_std": scale},
    )


def inpainting(stage: Stage) -> Chapter:
    """Completions of half-hidden digits and of digits of which few pixels are known."""
    model, effort = stage.model, stage.effort
    height, width = model.space.shape[1:]
    n, shown = effort.completions, min(effort.completions, 6)
    halves = hole(f"0,{height // 2},{width},{height - height // 2}", (height, width))
    sparse = hole("0.75", (height, width), stage.seed)
    pictures, facts = [], {}
    for name, known, first, caption in (
        ("half", halves, 2, "The lower half is hidden."),
        ("pixels", sparse, 20, "Three of four pixels are hidden."),
    ):
        digits = stage.take(4, first)
        y = sf.inpaint(model, digits, known, n=n, budget=effort.budget, seed=stage.seed, batch_size=32).cpu()
        truth = digits / 255
        mean, std = y.mean(1), y.std(1)
        rows = torch.cat(
            [torch.where(known, truth, 0.5)[:, None], y[:, :shown], mean[:, None], 2 * std[:, None], truth[:, None]], 1
        )
        pictures.append(
            Picture(
                {f"inpainting_{name}.png": plate(rows.flatten(0, 1), shown + 4)},
                f"Digits of which something is hidden, {shown} completions of each, their mean and standard deviation",
                caption,
                (("known", 1), (f"{shown} of {n} completions", shown), ("mean", 1), ("spread", 1), ("truth", 1)),
            )
        )
        facts[f"kept_error_{name}"] = float(((y - truth[:, None]).abs() * known).max())
        facts[f"spread_{name}"] = float(std[..., ~known[0]].mean())
    return Chapter(
        "What is hidden",
        f"""<p>The model was never trained to fill in anything. At every step, what it expects is corrected by what is
        known, and the derivative of the network says what one pixel tells of another. Where the known half leaves room,
        completions differ: a hidden pixel has a standard deviation of {facts["spread_half"]:.2f} over {n} completions,
        and the picture of it shows where the model is unsure. What was known comes back as it was (largest difference:
        {max(facts["kept_error_half"], facts["kept_error_pixels"]):.0g}).</p>""",
        f"""\
known = torch.ones({height}, {width}, dtype=torch.bool)
known[{height // 2}:] = False
y = sf.inpaint(model, digits, known, n={n}, budget={effort.budget}, seed={stage.seed})
mean, spread = y.mean(1), y.std(1)""",
        pictures,
        facts,
    )


CHAPTERS: tuple[Callable[[Stage], Chapter], ...] = (process, samples, likelihood, codes, inpainting)


def _predictor_corrector() -> sf.PredictorCorrector:
    return sf.PredictorCorrector(sf.ReverseDiffusion(), sf.Langevin(snr=0.16))


def _noise(z: Tensor) -> Tensor:
    """Standard normal numbers as brightness."""
    return (0.5 + 0.2 * z).clamp(0, 1).cpu()


def _strip(frames: list[Tensor]) -> Pixels:
    return plate(torch.stack([frame.cpu() for frame in frames], 1).flatten(0, 1), len(frames))


def _known(value: Tensor | None) -> Tensor:
    if value is None:
        raise TypeError("a likelihood without bits per dimension, expected one of 8-bit images")
    return value.cpu()


def _scientific(value: float) -> str:
    """A number with one digit, in HTML.

    >>> _scientific(0.00032)
    '3 × 10<sup>−4</sup>'
    """
    digit, exponent = f"{value:.0e}".split("e")
    return f"{digit} × 10<sup>{int(exponent)}</sup>".replace("-", "−")
