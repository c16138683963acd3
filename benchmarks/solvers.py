"""Error against network evaluations of every deterministic solver here, in diffusers, azula and k-diffusion.

    python benchmarks/solvers.py --out benchmarks/records/DATE_solvers [--problems mixture_vp mixture_ve mnist cifar10]

All start from the same x_T and are to find the same thing: E[x_0 | x_t] at t = `t_sample`, with x_t where the exact
flow carries x_T. The error is rms over samples and coordinates. Evaluations are counted at the model, the last
denoising one too; a run belongs to the smallest budget that holds it. `peers.py` says who takes part, and with what.

The problems: ten Gaussians in 3x32x32 dimensions with spectra like images' (closed-form score, float64), as VP and as
VE; and the bundled networks (float32). The exact flow is UniPC of order 3 in thousands of steps with x in float64; it
is checked with Dormand & Prince's method in r for the mixture, with another grid for networks.

On the mixtures everyone walks at 5, 8 and (but for grids that end early) 50, and at the other budgets the best `KEEP`
of each library at the budget before. On networks each library walks with its best on the mixture at this budget and on
the network at the last, in turn, `KEEP` of them. Results are kept as they come: a run that was broken off goes on.

The peers, in an environment of their own that has this library's packages too (k-diffusion's sampling needs four of
its many dependencies):

    python -m venv bench
    echo "import site; site.addsitedir('SITE_PACKAGES_OF_THIS_ONE')" > bench/lib/python3.11/site-packages/more.pth
    bench/bin/pip install --no-deps azula einops k-diffusion torchdiffeq torchsde trampoline
    bench/bin/pip install diffusers scipy
"""

import argparse
import functools
import json
import logging
import math
import tempfile
import time
import warnings
from itertools import chain, zip_longest
from pathlib import Path

import torch
from peers import Contestant, Problem, contestants, tolerance
from torch import nn

import scorefield as sf
from scorefield.counting import count_evaluations
from scorefield.plan import read_plans, write_plans
from scorefield.samplers import run
from scorefield.testing import flow_between
from scorefield.times import edm, logsnr

BUDGETS = (5, 8, 10, 15, 20, 50, 100, 1000)
KEEP = {
    "mixture": {10: 100, 15: 100, 20: 100, 100: 16, 1000: 4},
    "network": {5: 16, 8: 8, 10: 8, 15: 6, 20: 5, 50: 3, 100: 2, 1000: 2},
}
LIBRARIES = ("ours", "diffusers", "azula", "k-diffusion")
SAMPLES = {"mixture_vp": 16, "mixture_ve": 16, "mnist": 16, "cifar10": 8}
EARLY = 20


class Mixture(sf.ExactModel):
    """The mixture of diagonal Gaussians as products of matrices, which is faster than one component after another."""

    def forward(self, x, t):
        if t.ndim and not bool((t == t[0]).all()):
            return super().forward(x, t)
        t = t.reshape(-1)[0]
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        law, y = self.law, x.flatten(1)
        precisions = 1 / (alpha**2 * law.variances + sigma**2)
        pulls = alpha * law.means * precisions
        joint = (y * y) @ precisions.T - 2 * y @ pulls.T + (alpha * law.means * pulls - precisions.log()).sum(1)
        weights = torch.softmax(law.log_weights - 0.5 * joint, 1)
        noise = sigma * (y * (weights @ precisions) - weights @ pulls)
        share = alpha * law.variances * precisions
        denoised = y * (weights @ share) + weights @ (law.means - alpha * share * law.means)
        return denoised.reshape(x.shape), noise.reshape(x.shape)


def image_law() -> sf.GaussianMixture:
    """Ten Gaussians over the cosine transform of 3x32x32 images: power laws of frequency, less of it in colours.

    The components come in five pairs, which differ in their means by little; each has its own exponent, scale and
    direction. The mean variance is 0.25. A rotation of the data changes no solver's error.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape, normal=False):
        return (torch.randn if normal else torch.rand)(*shape, generator=generator, dtype=torch.float64)

    i, j = torch.meshgrid(torch.arange(32.0).double(), torch.arange(32.0).double(), indexing="ij")
    exponent, angle = 0.8 + 0.6 * draw(10, 1, 1, 1), math.pi / 2 * draw(10, 1, 1, 1)
    frequency = torch.sqrt(1 + (torch.cos(angle) * i) ** 2 + (torch.sin(angle) * j) ** 2 + 0.2 * i * j)
    spectrum = frequency ** (-2 * exponent) * torch.tensor([1, 0.15, 0.05]).double().reshape(1, 3, 1, 1)
    spectrum = spectrum / spectrum.mean((1, 2, 3), keepdim=True)
    shape = spectrum.mean(0)
    pair = draw(5, 3, 32, 32, normal=True).repeat_interleave(2, 0)
    means = shape.sqrt() * (0.28 * pair + 0.1 * draw(10, 3, 32, 32, normal=True))
    scale = 0.1 + 0.12 * draw(10, 1, 1, 1)
    return sf.GaussianMixture(means, variances=scale * spectrum)


class Wide(nn.Module):
    """A float32 network between float64 x and float64 outputs."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, c, label=None):
        return self.network(x.float(), c.float(), label).double()


def problem(name: str, cache: Path) -> tuple[Problem, float]:
    """The problem, and how far two ways to solve it exactly are apart."""
    if name.startswith("mixture"):
        model = Mixture(sf.VP() if name.endswith("vp") else sf.VE(), image_law())
        model.plans = plans(name, model, cache)
    else:
        model = sf.load(name, device="cpu")
    noise = sf.Noise(0, range(SAMPLES[name]))
    z = noise.normal(model.space.shape)
    x = model.sde.prior.sample(z.double() if name.startswith("mixture") else z)
    kept = cache / f"scorefield_solvers_{name}.pt"
    if not kept.exists():
        torch.save(exact(name, model, x.double()), kept)
    found = torch.load(kept, weights_only=True)
    return Problem(name, model, x, found[0]), float((found[0] - found[1]).square().mean().sqrt())


def plans(name, model, cache):
    """A mixture's plans for its budgets, found with starts of another seed."""
    kept = cache / f"scorefield_plans_{name}.json"
    if not kept.exists():
        found = sf.calibrate(Mixture(model.sde, model.law.to(torch.float32)), BUDGETS[:5], samples=64, seed=1)
        kept.write_text(write_plans({budget: each.plan for budget, each in found.items()}))
    return read_plans(kept.read_text())


def exact(name, model, x):
    """The denoised end of the flow, twice."""
    noise = sf.Noise(0, range(len(x)))
    if name.startswith("mixture"):
        T, last = (torch.tensor(t, dtype=torch.float64) for t in (model.sde.T, model.sde.t_sample))
        other = model.denoise(flow_between(model, x, T, last, tol=1e-12), last)
        return run(sf.UniPC(3), model, x, logsnr(model.sde, 3000), noise=noise), other
    network, model.network = model.network, Wide(model.network)
    fine = run(sf.UniPC(3), model, x, logsnr(model.sde, 1000), noise=noise)
    other = run(sf.UniPC(3), model, x, edm(model.sde, 500), noise=noise)
    model.network = network
    return fine, other


@functools.cache
def stand_in(name: str) -> Problem:
    """One number instead of the problem, on which evaluations are counted at no cost."""
    sde = sf.VE() if name.endswith("ve") else sf.VP()
    law = sf.GaussianMixture(torch.zeros(1, 1).double(), variances=torch.full((1, 1), 0.25).double())
    return Problem(name, sf.ExactModel(sde, law), torch.ones(1, 1, dtype=torch.float64))


def measured(contestant: Contestant, problem: Problem, steps: int) -> tuple[int, torch.Tensor]:
    """Evaluations a sample, and the result."""
    with count_evaluations(problem.model) as evaluations:
        result = contestant.walk(problem, steps)
    return math.ceil(evaluations.forward / len(problem.x)), result


def steps_within(contestant: Contestant, problem: Problem, budget: int) -> int | None:
    """The most steps that the budget holds."""
    for steps in range(budget // contestant.evaluations + 1, max(0, budget // contestant.evaluations - 14), -1):
        try:
            if measured(contestant, stand_in(problem.name), steps)[0] <= budget:
                return steps
        except (ValueError, IndexError, RuntimeError, TypeError, AttributeError, ZeroDivisionError):
            continue
    return None


class Results:
    """{contestant: {budget: [error, evaluations, steps]}} in a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.saved = path, time.monotonic()
        self.found = json.loads(path.read_text()) if path.exists() else {}

    def put(self, name, budget, row):
        self.found.setdefault(name, {})[str(budget)] = row
        if time.monotonic() - self.saved > 10:
            self.save()

    def save(self):
        self.path.write_text(json.dumps(self.found, indent=0, sort_keys=True) + "\n")
        self.saved = time.monotonic()

    def done(self, name, budget):
        return str(budget) in self.found.get(name, {})

    def ranked(self, library, budget):
        """Contestants of a library by their errors at a budget."""
        rows = [(row[str(budget)][0], name) for name, row in self.found.items() if str(budget) in row]
        return [name for error, name in sorted(r for r in rows if r[0]) if name.startswith(library + " |")]

    def complete(self, budget):
        """Whether each library that takes part has walked at a budget."""
        taking_part = {name.split(" |")[0] for name in self.found} - {"exact"}
        return all(self.ranked(library, budget) for library in taking_part)

    def best(self, library, budget):
        """(error, evaluations, contestant) of the best within the budget."""
        rows = [
            (row[b][0], row[b][1], name)
            for name, row in self.found.items()
            for b in row
            if name.startswith(library + " |") and float(b) <= budget and row[b][0]
        ]
        return min(rows, default=None)


def measure(contestant, problem, budget, results):
    if results.done(contestant.name, budget):
        return
    steps = steps_within(contestant, problem, budget)
    row = [None, 0, steps]
    if steps is not None:
        evaluations, result = measured(contestant, problem, steps)
        error = float((result.double() - problem.exact).square().mean().sqrt())
        row = [error if math.isfinite(error) else None, evaluations, steps]
    results.put(contestant.name, budget, row)


def measure_adaptive(contestant, problem, most, stride, results):
    """One tolerance after the other until the most evaluations are spent."""
    for n in range(2, 40, stride):
        name = f"{contestant.name} {tolerance(n):.1e}"
        if name not in results.found:
            evaluations, result = measured(contestant, problem, n)
            budget = next((b for b in BUDGETS if b >= evaluations), math.inf)
            error = float((result.double() - problem.exact).square().mean().sqrt())
            results.put(name, budget, [error, evaluations, n])
        (row,) = results.found[name].values()
        if row[1] > most:
            break


def chosen(everyone, kind, budget, results, guide):
    """Who walks at this budget."""
    everyone = [c for c in everyone if budget <= EARLY or " end " not in c.grid]
    keep = KEEP[kind].get(budget)
    if keep is None:
        return everyone
    previous = BUDGETS[max(0, BUDGETS.index(budget) - 1)]
    by_name, selected = {c.name: c for c in everyone}, []
    for library in LIBRARIES:
        rankings = [results.ranked(library, previous)]
        if guide is not None:
            rankings.insert(0, Results(guide).ranked(library, budget))
            if budget == BUDGETS[-1]:
                rankings.reverse()
        names = [n for n in chain(*zip_longest(*rankings)) if n in by_name]
        selected += [by_name[name] for name in list(dict.fromkeys(names))[:keep]]
    return selected


@torch.no_grad()
def compare(name: str, out: Path, cache: Path) -> None:
    kind = "mixture" if name.startswith("mixture") else "network"
    case, apart = problem(name, cache)
    print(f"{name}: two exact solutions differ by {apart:.1e}", flush=True)
    results = Results(out / f"results_{name}.json")
    results.found["exact"] = {"apart": [apart]}
    guide = None if kind == "mixture" else out / "results_mixture_vp.json"
    everyone = contestants()
    known = {contestant.name for contestant in everyone} | {"exact"}
    results.found = {n: row for n, row in results.found.items() if n in known or n.rsplit(" ", 1)[0] in known}
    for budget in BUDGETS:
        began = time.monotonic()
        walking = chosen([c for c in everyone if not c.adaptive], kind, budget, results, guide)
        for contestant in walking:
            measure(contestant, case, budget, results)
        results.save()
        print(f"{name}, {budget} evaluations: {len(walking)} in {time.monotonic() - began:.0f} s", flush=True)
        if budget == 100:
            for contestant in (c for c in everyone if c.adaptive):
                measure_adaptive(contestant, case, *((1000, 1) if kind == "mixture" else (100, 2)), results)
            results.save()


def table(results: Results) -> str:
    """The best of each library within each budget; bold: the least error, up to 1%."""
    lines = [f"| evaluations | {' | '.join(LIBRARIES)} | ours/best peer |", "|---" * (len(LIBRARIES) + 2) + "|"]
    for budget in BUDGETS:
        best = {library: results.best(library, budget) for library in LIBRARIES}
        if not results.complete(budget):
            continue
        least = min(row[0] for row in best.values() if row)
        cells = []
        for row in best.values():
            cell = f"{row[0]:.2e}" if row else "–"
            cell = f"**{cell}**" if row and row[0] <= 1.01 * least else cell
            cells.append(f"{cell} {', '.join(row[2].split(' | ')[1:])} ({row[1]})" if row else cell)
        peers = min(best[library][0] for library in LIBRARIES[1:] if best[library])
        lines.append(f"| {budget} | {' | '.join(cells)} | {best['ours'][0] / peers:.2f} |")
    return "\n".join(lines)


def plot(name: str, results: Results, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4.2), layout="constrained")
    for library, mark in zip(LIBRARIES, "osv^", strict=True):
        best = {budget: results.best(library, budget) for budget in BUDGETS if results.complete(budget)}
        points = [(budget, row[0]) for budget, row in best.items() if row]
        axes.loglog(*zip(*points, strict=True), marker=mark, label=library, lw=2 if library == "ours" else 1)
    axes.set(xlabel="network evaluations", ylabel="rms error", title=name, xticks=BUDGETS, xticklabels=BUDGETS)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def report(out: Path) -> None:
    text = "# Error against network evaluations, against peers\n\n"
    text += (out / "notes.md").read_text() + "\n" if (out / "notes.md").exists() else ""
    for name in SAMPLES:
        results = Results(out / f"results_{name}.json")
        if "exact" in results.found:
            plot(name, results, out / f"{name}.png")
            text += f"## {name}\n\n![{name}]({name}.png)\n\n{table(results)}\n\n"
            text += f"Two exact solutions differ by {results.found['exact']['apart'][0]:.1e}.\n\n"
    (out / "README.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="*", default=list(SAMPLES), choices=SAMPLES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()), help="exact solutions")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.problems:
        compare(name, arguments.out, arguments.cache)
    report(arguments.out)


if __name__ == "__main__":
    main()
