"""Evaluations that the adaptive flow needs, beside Runge–Kutta 4(5) in plain time, for sampling and for likelihood.

    python benchmarks/flow.py --out benchmarks/records/DATE_flow [--problems mixture_vp mixture_subvp mixture_ve mnist]

The peer is what the code published with Song et al. (2021) uses: SciPy's RK45 in plain t, the batch (and for
likelihoods the log-density) as one vector, rtol = atol = 1e-3, 1e-4, 1e-5. At each of its errors (rms over 16 samples;
of x, or of log p in nats per dimension) ours is read off its curve of error against evaluations, by interpolation of
logarithms.
Both are compared with our own solution at a tolerance of 1e-9 (networks: 1e-6). Sampling ends at t = 1e-3 (VE: 1e-5),
likelihood begins at 1e-5; both likelihoods share one probe. Evaluations are counted at the model, per sample.
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from scipy.integrate import solve_ivp
from solvers import Mixture, image_law

import scorefield as sf
from scorefield.counting import count_evaluations
from scorefield.flow import decode, log_likelihood
from scorefield.shapes import sum_data

mpl.use("agg")
SAMPLES = 16
RTOL = (1e-3, 1e-4, 1e-5)
SDES = {"vp": sf.VP(), "subvp": sf.SubVP(), "ve": sf.VE()}


def problem(name: str, t_min: float):
    """The model with a flow that ends at t_min, and draws of its prior and of its data."""
    noise = sf.Noise(0, range(SAMPLES))
    if name.startswith("mixture"):
        law = image_law()
        model = Mixture(replace(SDES[name.removeprefix("mixture_")], t_min=t_min), law)
        data = law.sample(SAMPLES, torch.Generator().manual_seed(0))
    else:
        model = sf.load(name, device="cpu")
        model.sde = replace(model.sde, t_min=t_min)
        images = sf.data.open_data(f"example:{name}").tensor()[:SAMPLES]
        dequantized = model.space.dequantize(images, noise.uniform(model.space.shape))
        data = model.space.to_model(dequantized)
    z = noise.normal(model.space.shape, data.dtype)
    return model, model.sde.prior.sample(z), data, noise.rademacher((1, *model.space.shape), data.dtype)


def counted(model, solution):
    """(solution, evaluations per sample)."""
    with count_evaluations(model) as evaluations:
        value = solution()
    return value, evaluations.forward / SAMPLES


def published_sample(model, x, rtol):
    def velocity(t, y):
        y = torch.from_numpy(y).to(x).reshape(x.shape)
        return model.velocity(y, torch.tensor(t, dtype=torch.float64)).double().flatten().numpy()

    with torch.no_grad():
        start = x.double().flatten().numpy()
        end = solve_ivp(velocity, (model.sde.T, model.sde.t_min), start, rtol=rtol, atol=rtol, method="RK45")
    return torch.from_numpy(end.y[:, -1]).reshape(x.shape)


def published_likelihood(model, x, probe, rtol):
    probe = probe[:, 0]

    def slope(t, y):
        z = torch.from_numpy(y[: x.numel()]).to(x).reshape(x.shape).requires_grad_()
        velocity = model.velocity(z, torch.tensor(t, dtype=torch.float64))
        trace = sum_data(torch.autograd.grad(velocity, z, probe)[0] * probe)
        return torch.cat([velocity.detach().double().flatten(), trace.double()]).numpy()

    start = np.concatenate([x.double().flatten().numpy(), np.zeros(len(x))])
    end = solve_ivp(slope, (model.sde.t_min, model.sde.T), start, rtol=rtol, atol=rtol, method="RK45").y[:, -1]
    latent = torch.from_numpy(end[: x.numel()]).reshape(x.shape)
    return model.sde.prior.log_prob(latent) + torch.from_numpy(end[x.numel() :])


def compare(name: str, what: str) -> dict:
    """Both curves of one problem, and the ratios."""
    exact = name.startswith("mixture")
    t_min = 1e-5 if what == "likelihood" or name.endswith("_ve") else 1e-3
    model, prior, data, probe = problem(name, t_min)
    if what == "sampling":

        def ours(tol):
            return decode(model, prior, tol=tol)

        def published(rtol):
            return published_sample(model, prior, rtol)
    else:

        def ours(tol):
            return log_likelihood(model, data, probe, tol=tol).log_prob / model.space.dim

        def published(rtol):
            return published_likelihood(model, data, probe, rtol) / model.space.dim

    fine = ours(1e-9 if exact else 1e-6)

    def error(solution):
        return float((solution.double() - fine.double()).square().mean().sqrt())

    tolerances = np.geomspace(0.3, 1e-7, 21) if exact else np.geomspace(0.3, 3e-5, 13)
    curves = {"ours": [], "published": []}
    for label, solver, settings in (("ours", ours, tolerances), ("published", published, RTOL)):
        for setting in settings:
            value, nfe = counted(model, lambda solver=solver, setting=setting: solver(setting))
            curves[label].append((float(setting), nfe, error(value)))
            print(name, what, label, *(f"{v:.3g}" for v in curves[label][-1]), flush=True)
    log = np.log([(e, n) for _, n, e in curves["ours"]])
    log = log[log[:, 0].argsort()]
    ratios = [math.exp(np.interp(math.log(e), log[:, 0], log[:, 1])) / n for _, n, e in curves["published"]]
    return {"name": name, "what": what, **curves, "ratios": ratios}


def report(out: Path) -> None:
    """The table and the plot of all results so far."""
    from matplotlib import pyplot as plt

    results = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    lines = [
        "# The adaptive flow against RK45 in plain time",
        "",
        "Evaluations of ours divided by those of SciPy's RK45 in plain t, at equal rms error over 16 samples;",
        f"`python benchmarks/flow.py`, torch {torch.__version__}.",
        "",
        "| what | model | RK45: evaluations (rms error) at rtol 1e-3, 1e-4, 1e-5 | ratios | mean |",
        "|---|---|---|---|---|",
    ]
    for r in sorted(results, key=lambda r: (r["what"] != "sampling", r["name"])):
        peer = ", ".join(f"{n:.0f} ({e:.1e})" for _, n, e in r["published"])
        ratios = ", ".join(f"{ratio:.2f}" for ratio in r["ratios"])
        lines.append(f"| {r['what']} | {r['name']} | {peer} | {ratios} | **{np.mean(r['ratios']):.2f}** |")
    (out / "README.md").write_text("\n".join([*lines, "", "![Error against evaluations](flow.png)", ""]))

    names = sorted({r["name"] for r in results})
    figure, axes = plt.subplots(2, len(names), figsize=(3 * len(names), 6), squeeze=False, layout="constrained")
    for r in results:
        axis = axes[int(r["what"] != "sampling"), names.index(r["name"])]
        for label, colour in (("published", "#d55e00"), ("ours", "#0072b2")):
            _, nfe, error = zip(*r[label], strict=True)
            axis.loglog(nfe, error, "o-", color=colour, markersize=3, linewidth=1, label=label)
        axis.set_title(f"{r['what']}, {r['name']}", fontsize=9)
        axis.set_xlabel("evaluations", fontsize=8)
        axis.set_xticks([10, 20, 50, 100], ["10", "20", "50", "100"])
        axis.minorticks_off()
        axis.grid(alpha=0.2)
    axes[0, 0].legend(labels=["RK45 in plain t", "ours"], fontsize=8, frameon=False)
    figure.savefig(out / "flow.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--problems", nargs="*", default=[f"mixture_{s}" for s in SDES] + ["mnist", "cifar10"])
    parser.add_argument("--what", nargs="*", default=["sampling", "likelihood"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for what in arguments.what:
        for name in arguments.problems:
            result = compare(name, what)
            (arguments.out / f"{what}_{name}.json").write_text(json.dumps(result) + "\n")
            report(arguments.out)


if __name__ == "__main__":
    main()
