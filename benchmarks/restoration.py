"""Posterior samplers on photographs: this library's, azula's and deepinv's with the bundled cifar10 model.

    python benchmarks/restoration.py run --data TEST.zip --out benchmarks/records/DATE_restoration [--problem NAME]
    python benchmarks/restoration.py report --data TEST.zip --out benchmarks/records/DATE_restoration

The first 200 of the held-out images (of peers and of methods that are far off, the first 50) are measured in four
ways, with noise of 0.02 of the range of a pixel: all but a box of half the side, three pixels in ten, the mean over
channels, and averages of 4 x 4 pixels. Each method spends the same number of evaluations, forward and backward ones
counted alike; seconds are those of one core's work. One sample of each image counts for PSNR and SSIM, a second one of
the first 25 for what is said of the law of the samples:

- spread/error: the standard deviation of samples over what it should be, the error of the samples' mean (1 for the
  posterior);
- the energy score E|x - X| - E|X - X'|/2 over root dimension, X and X' samples (Gneiting & Raftery 2007): least where
  the samples are of the posterior.

Results are kept as they come: a run that was broken off goes on, and problems may be run side by side. The peers, in an
environment of their own that has this library's packages too:

    python -m venv bench
    echo "import site; site.addsitedir('SITE_PACKAGES_OF_THIS_ONE')" > bench/lib/python3.11/site-packages/more.pth
    bench/bin/pip install --no-deps azula einops deepinv natsort h5py
    bench/bin/pip install scikit-image
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import scorefield as sf
from scorefield.data import grid, hole, open_data
from scorefield.guidance import Operator
from scorefield.score import Denoiser

STD = 0.02
IMAGES, FEW, PAIRED, BATCH = 200, 50, 25, 50
SHOWN = 5
BUDGETS = (40, 120)
DEFAULT = "scorefield mmps"
FAR_OFF = {"dps", "pigdm", "smc"}
SAMPLES = Path(tempfile.gettempdir()) / "scorefield_restoration"


@dataclass(frozen=True)
class Problem:
    """A measurement y of images, in units of [0, 1]."""

    name: str
    operator: Operator
    back: Callable[[Tensor], Tensor]
    """A measurement as an image, to be looked at."""

    def measure(self, x: Tensor, first: int) -> Tensor:
        y = self.operator.apply(x)
        noise = sf.Noise(0, range(first, first + len(x)), stream="measurement").normal(y.shape[1:], y.dtype)
        return y + STD * (noise * self.operator.known if isinstance(self.operator, sf.Mask) else noise)


def problems() -> dict[str, Problem]:
    box, random = hole("8,8,16,16", 32), hole("0.7", 32, seed=0)
    return {
        p.name: p
        for p in (
            Problem("box", sf.Mask(box.expand(3, -1, -1)), lambda y: torch.where(box, y, 0.5)),
            Problem("random", sf.Mask(random.expand(3, -1, -1)), lambda y: torch.where(random, y, 0.5)),
            Problem("colour", sf.Grey(3), lambda y: y.expand(-1, 3, -1, -1)),
            Problem("superres", sf.Average(4), lambda y: y.repeat_interleave(4, -1).repeat_interleave(4, -2)),
        )
    }


def ours(model: Denoiser) -> dict[str, Callable[..., Tensor]]:
    """Methods by name."""

    def bound(method, **options):
        def sample(problem, y, budget, seed):
            std = 0.0 if method == "repaint" else STD  # it takes no noise
            return sf.posterior(
                model, problem.operator, y, std=std, method=method, seed=seed, budget=budget, **options
            )[:, 0]

        return sample

    few = {"smc": {"particles": 4}, "repaint": {"turns": 5}}
    names = ("mmps", "ddrm", "diffpir", "tmpd", "replacement", "repaint", "pigdm", "dps", "smc")
    return {name: bound(name, **few.get(name, {})) for name in names}


def azula(model: Denoiser) -> dict[str, Callable[..., Tensor]]:
    """azula's, on our grid, with a last step to no noise."""
    from azula import denoise
    from azula.guidance import DiffPIRDenoiser, DPSSampler, MMPSDenoiser, PGDMSampler, RePaintSampler, TMPDenoiser
    from azula.linalg.covariance import IsotropicCovariance
    from azula.noise import Schedule
    from azula.sample import DDPMSampler

    class Levels(Schedule):
        """alpha and sigma at t = 1, 1 - 1/steps, …, 0."""

        def __init__(self, times):
            alpha, sigma = model.sde.alpha(times), model.sde.sigma(times)
            self.levels = [torch.cat([v, torch.tensor([end])]).float() for v, end in ((alpha, 1.0), (sigma, 0.0))]

        def __call__(self, t):
            row = torch.round((1 - t) * (len(self.levels[0]) - 1)).long()
            return self.levels[0][row], self.levels[1][row]

    class Ours(denoise.Denoiser):
        def __init__(self, steps):
            super().__init__()
            self.times = sf.times.logsnr(model.sde, steps - 1)
            self.schedule = Levels(self.times)
            self.steps = steps

        def forward(self, x, t):
            row = int(torch.round((1 - t) * self.steps))
            return denoise.DiracPosterior(model.denoise(x, self.times[min(row, self.steps - 1)]))

    def sample(problem, y, budget, seed, *, cost, make):
        torch.manual_seed(seed)
        steps = budget // cost
        denoiser = Ours(steps)
        offset = problem.operator.apply(torch.full((1, 3, 32, 32), 0.5))
        sampler = make(problem, denoiser, (y - offset) / 0.5, steps)
        x = sampler(torch.randn(len(y), 3, 32, 32))
        return ((x + 1) / 2).detach()

    def guided(make_denoiser):
        return lambda p, d, y, n: DDPMSampler(make_denoiser(p, d, y), steps=n, silent=True)

    def flat(problem):
        return lambda x: problem.operator.apply(x).flatten(1)

    var = (2 * STD) ** 2
    made = {
        "MMPS": (
            5,
            guided(lambda p, d, y: MMPSDenoiser(d, y.flatten(1), flat(p), IsotropicCovariance(var), iterations=3)),
        ),
        "TMPD": (3, guided(lambda p, d, y: TMPDenoiser(d, y, p.operator.apply, var))),
        "DiffPIR": (1, guided(lambda p, d, y: DiffPIRDenoiser(d, y.flatten(1), flat(p), var, iterations=3))),
        "DPS": (2, lambda p, d, y, n: DPSSampler(d, y, p.operator.apply, steps=n, silent=True)),
        "PiGDM": (
            2,
            lambda p, d, y, n: PGDMSampler(d, y, p.operator.apply, pseudo_inverse(p), eta=1.0, steps=n, silent=True),
        ),
        "RePaint": (
            5,
            lambda p, d, y, n: RePaintSampler(d, y, p.operator.known, iterations=5, eta=1.0, steps=n, silent=True),
        ),
    }
    return {
        name: lambda *given, cost=cost, make=make: sample(*given, cost=cost, make=make)
        for name, (cost, make) in made.items()
    }


def pseudo_inverse(problem: Problem) -> Callable[[Tensor], Tensor]:
    operator = problem.operator
    return lambda y: operator.data(operator.scaled(y))


def deepinv(model: Denoiser) -> dict[str, Callable[..., Tensor]]:
    """deepinv's, with their own schedules; in units of [0, 1]."""
    import deepinv as dinv

    class Ours(dinv.models.Denoiser):
        def forward(self, x, sigma, *_, **__):
            ratio = 2 * torch.as_tensor(sigma, dtype=torch.float64).flatten()[0]
            sde = model.sde
            t = sde.time(-2 * torch.log(ratio)).clamp(sde.t_min, sde.T)
            return (model.denoise(sde.alpha(t).to(x) * (2 * x - 1), t) + 1) / 2

    class Physics(dinv.physics.LinearPhysics):
        def __init__(self, problem):
            super().__init__(noise_model=dinv.physics.GaussianNoise(STD))
            self.operator = problem.operator

        def A(self, x, **_):
            return self.operator.apply(x)

        def A_adjoint(self, y, **_):
            return self.operator.adjoint(y)

    def physics(problem):
        if isinstance(problem.operator, sf.Mask):
            known = problem.operator.known.float()
            return dinv.physics.Inpainting((3, 32, 32), mask=known, noise_model=dinv.physics.GaussianNoise(STD))
        return Physics(problem)

    def ddrm(problem, y, budget, seed):
        torch.manual_seed(seed)
        times = sf.times.logsnr(model.sde, budget - 1)
        sigmas = (model.sde.sigma(times) / model.sde.alpha(times) / 2).numpy()
        return dinv.sampling.DDRM(Ours(), sigmas=sigmas)(y, physics(problem))

    def diffpir(problem, y, budget, seed):
        torch.manual_seed(seed)
        method = dinv.sampling.DiffPIR(Ours(), dinv.optim.data_fidelity.L2(), sigma=STD, max_iter=budget)
        start = pseudo_inverse(problem)(y)
        return method(y, physics(problem), x_init=start)

    def dps(problem, y, budget, seed):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        method = dinv.sampling.DPS(Ours(), num_steps=budget // 2 + 1, rng=generator)
        return method(y, physics(problem), x_init=(len(y), 3, 32, 32)).float().detach()

    return {"DDRM": ddrm, "DiffPIR": diffpir, "DPS": dps}


LIBRARIES = {"scorefield": ours, "azula": azula, "deepinv": deepinv}
MASKS_ONLY = {("azula", "RePaint"), ("deepinv", "DDRM")}
"""As implemented there: of pixels, and of operators of its own that know their singular values."""


def run(out: Path, data: str, only: list[str], budgets: list[int], methods: list[str]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model = sf.load("cifar10")
    x = open_data(data).tensor()[:IMAGES] / 255
    contestants = [(library, name, call) for library, made in LIBRARIES.items() for name, call in made(model).items()]
    for budget in budgets:
        for problem in [p for name, p in problems().items() if not only or name in only]:
            path = out / f"results_{problem.name}.json"
            done = json.loads(path.read_text()) if path.exists() else {}
            for library, name, call in contestants:
                key = f"{library} {name} {budget}"
                left_out = (library, name) in MASKS_ONLY and not isinstance(problem.operator, sf.Mask)
                if key in done or left_out or (methods and f"{library} {name}" not in methods):
                    continue
                whole = IMAGES if library == "scorefield" and name not in FAR_OFF and budget == BUDGETS[0] else FEW
                done[key] = measured(model, problem, call, x[:whole], budget, key)
                path.write_text(json.dumps(done, indent=0))
                print(problem.name, key, summary(done[key]), flush=True)


def measured(model: Denoiser, problem: Problem, call: Callable[..., Tensor], x: Tensor, budget: int, key: str) -> dict:
    """PSNR and SSIM of a sample of each image, and what two samples of the first tell."""
    parts, second = [], []
    start = time.process_time()
    with sf.count_evaluations(model) as spent:
        for first in range(0, len(x), BATCH):
            part = x[first : first + BATCH]
            parts.append(call(problem, problem.measure(part, first), budget, 1 + first))
        second.append(call(problem, problem.measure(x[:PAIRED], 0), budget, 100_001))
    seconds, count = time.process_time() - start, len(x) + PAIRED
    one, two = torch.cat(parts).clamp(0, 1), second[0].clamp(0, 1)
    SAMPLES.mkdir(exist_ok=True)
    torch.save(torch.stack([one[:SHOWN], two[:SHOWN]], 1), SAMPLES / f"{problem.name} {key}.pt")
    pair, truth = torch.stack([one[:PAIRED], two], 1), x[:PAIRED]
    error, apart = (pair - truth[:, None]).flatten(2).norm(dim=2).mean(1), (one[:PAIRED] - two).flatten(1).norm(dim=1)
    root = truth[0].numel() ** 0.5
    return {
        "psnr": rounded(-10 * torch.log10((one - x).square().flatten(1).mean(1)), 2),
        "ssim": rounded(ssim(one, x), 4),
        "energy": rounded((error - apart / 2) / root, 5),
        "spread": float((apart / root).square().mean().sqrt()) / 2**0.5,
        "error": float((pair.mean(1) - truth).square().mean().sqrt()),
        "forward": spent.forward / count,
        "backward": spent.backward / count,
        "seconds": seconds / count,
    }


def rounded(values: Tensor, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values.nan_to_num(0.0)]


def ssim(x: Tensor, y: Tensor) -> Tensor:
    from skimage.metrics import structural_similarity

    pairs = zip(x.numpy(), y.numpy(), strict=True)
    return torch.tensor([structural_similarity(a, b, channel_axis=0, data_range=1.0) for a, b in pairs])


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def over(r: dict, default: dict) -> str:
    """By how much the energy score is that of the default, in thousandths, and the standard error of that."""
    differences = 1000 * (torch.tensor(r["energy"]) - torch.tensor(default["energy"]))
    return "" if r is default else f"{differences.mean():+.1f} ± {differences.std() / len(differences) ** 0.5:.1f}"


def summary(r: dict, images: int | None = None, default: dict | None = None) -> str:
    """A row of the table: of the first so many images."""
    psnr, structure = mean(r["psnr"][:images]), mean(r["ssim"][:images])
    ratio = r["spread"] * 1.5**0.5 / r["error"]
    compared = f" | {over(r, default)}" if default else ""
    numbers = f"{psnr:.2f} | {structure:.3f} | {1000 * mean(r['energy']):.1f}{compared} | {ratio:.2f}"
    return f"{numbers} | {r['forward']:.0f} + {r['backward']:.0f} | {r['seconds']:.2f}"


def report(out: Path, data: str) -> None:
    """tables.md and a picture for each problem, from what was run."""
    x = open_data(data).tensor()[:SHOWN] / 255
    columns = (
        "",
        "PSNR, dB",
        "SSIM",
        "energy score, 1/1000",
        "over the default's",
        "spread/error",
        "evaluations",
        "seconds",
    )
    head = f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|\n"
    text = ""
    for name, problem in problems().items():
        done = json.loads((out / f"results_{name}.json").read_text())
        for budget in BUDGETS:
            keys = [key for key in done if key.endswith(f" {budget}")]
            for images in (IMAGES, FEW):
                rows = {key: done[key] for key in keys if len(done[key]["psnr"]) >= images}
                if not rows:
                    continue
                text += f"\n### {name}, {budget} evaluations, {images} images\n\n" + head
                for key, r in sorted(rows.items(), key=lambda row: mean(row[1]["energy"])):
                    text += f"| {key.rpartition(' ')[0]} | {summary(r, images, done[f'{DEFAULT} {budget}'])} |\n"
        picture(out, name, problem, x, [key for key in done if key.endswith(f" {BUDGETS[0]}")])
    (out / "tables.md").write_text(text.lstrip("\n"), encoding="utf-8")


def picture(out: Path, name: str, problem: Problem, x: Tensor, keys: list[str]) -> None:
    """What was measured and the images, and below two samples of each by every method, side by side."""
    import matplotlib.pyplot as plt

    samples = [torch.load(SAMPLES / f"{name} {key}.pt").transpose(0, 1).flatten(0, 1) for key in keys]
    known = problem.back(problem.measure(x, 0)).clamp(0, 1)
    rows = torch.cat([torch.cat([known, x])[None], torch.stack(samples)])
    whole = grid(rows.flatten(0, 1), columns=rows.shape[1])
    height = whole.shape[0] / len(rows)
    figure, axes = plt.subplots(figsize=(whole.shape[1] / 72 + 2.4, whole.shape[0] / 72), layout="constrained")
    axes.imshow(whole, interpolation="nearest")
    labels = ["measured | true", *(key.rpartition(" ")[0] for key in keys)]
    axes.set_yticks([height * (row + 0.5) for row in range(len(labels))], labels)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.savefig(out / f"{name}.png", dpi=120, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--problem", nargs="*", default=[])
    parser.add_argument("--budget", nargs="*", type=int, default=list(BUDGETS))
    parser.add_argument("--method", nargs="*", default=[])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.what == "run":
        run(given.out, given.data, given.problem, given.budget, given.method)
    else:
        report(given.out, given.data)


if __name__ == "__main__":
    main()
