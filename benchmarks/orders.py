"""Measured orders of all solvers: writes docs/orders.md.

    python benchmarks/orders.py

Orders of the flow's solvers are ratios of rms errors at twice the steps, on a mixture of three Gaussians in three
dimensions, against the flow solved to 1e-12; those of noisy samplers are ratios of the errors of mean and covariance on
Gaussian data, which are propagated exactly.
"""

import math
from pathlib import Path

import torch

import scorefield as sf
from scorefield.testing import flow_between, flow_error, law_error
from scorefield.times import ratios

SDES = [sf.VE(), sf.VP(), sf.SubVP(), sf.EDM(), sf.RectifiedFlow()]
FLOW = [
    sf.DDIM(),
    sf.EulerMaruyama(probability_flow=True),
    sf.ReverseDiffusion(probability_flow=True),
    sf.Heun(),
    sf.DPMSolver(2),
    sf.DPMSolver(3),
    sf.DPMSolverSinglestep(),
    sf.UniPC(1),
    sf.UniPC(2),
    sf.UniPC(3),
    sf.DEIS(2),
    sf.DEIS(3),
    sf.UniPC(2, "velocity"),
    sf.UniPC(3, "velocity"),
    sf.AdamsBashforth(2),
    sf.AdamsBashforth(3),
]
NOISY = [
    sf.EulerMaruyama(),
    sf.ReverseDiffusion(),
    sf.Ancestral(),
    sf.Ancestral("forward"),
    sf.DDIM(eta=0.5),
    sf.StochasticHeun(),
    sf.DPMSolver(1, tau=1.0),
    sf.DPMSolver(2, tau=0.5),
    sf.DPMSolver(2, tau=1.0),
    sf.DPMSolver(3, tau=1.0),
    sf.DPMSolverSinglestep(tau=1.0),
]
PAGE = Path(__file__).parent.parent / "docs" / "orders.md"
HEAD = """# Measured orders

Written by `benchmarks/orders.py`. Every number is the base-2 logarithm of a ratio of errors, those of 320 and of 640
steps (200 and 400 with noise) that are equal in log-SNR, in float64. Errors of the flow are against the flow of a
mixture, solved to 10⁻¹²; errors of a law are those of mean and covariance of Gaussian data, propagated exactly.

"""


def mixture() -> sf.GaussianMixture:
    generator = torch.Generator().manual_seed(2)
    means = 0.6 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
    variances = 0.02 + 0.1 * torch.rand(3, 3, generator=generator, dtype=torch.float64)
    return sf.GaussianMixture(means, variances=variances)


def gaussian() -> sf.GaussianMixture:
    root = 0.4 * torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean = torch.linspace(-0.5, 0.7, 3, dtype=torch.float64)
    return sf.GaussianMixture.gaussian(mean, root @ root.T + 0.05 * torch.eye(3, dtype=torch.float64))


def said(sampler, model, x, t):
    """What a sampler keeps of the model's answers."""
    kept = {sf.DEIS: "noise", sf.AdamsBashforth: "velocity"}.get(type(sampler), getattr(sampler, "of", "data"))
    denoised, noise = model.predict(x, t)
    return {"data": denoised, "noise": noise, "velocity": noise - denoised}[kept]


def flow_orders(sde, highest, lowest, steps, known):
    """The orders of FLOW; with `known` exact x and values at the first times, or from a real start."""
    errors = []
    for count in (steps, 2 * steps):
        model, times = sf.ExactModel(sde, mixture()), ratios(sde, highest, lowest, count)
        start = model.marginal(times[0]).sample(8, torch.Generator().manual_seed(0))
        *along, end = [start, *(flow_between(model, start, times[0], t) for t in (*times[1 : known + 1], times[-1]))]

        def error(sampler, model=model, times=times, along=along, end=end):
            values = [(t, said(sampler, model, x, t)) for t, x in zip(times[:known], along[:-1], strict=True)]
            past = values[max(0, known - getattr(sampler, "order", 1)) :]
            return flow_error(sampler, model, along[-1], times[known:], past=past, exact=end)

        errors.append([error(sampler) for sampler in FLOW])
    return [math.log2(coarse / fine) for coarse, fine in zip(*errors, strict=True)]


def weak_orders(sde):
    model = sf.ExactModel(sde, gaussian())
    pairs = [[law_error(sampler, model, ratios(sde, 20, 0.1, steps)) for steps in (200, 400)] for sampler in NOISY]
    return [math.log2(coarse / fine) for coarse, fine in pairs]


def table(samplers, columns):
    names = [type(sde).__name__ for sde in SDES]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for i, sampler in enumerate(samplers):
        lines.append(f"| `{sampler}` | {' | '.join(f'{column[i]:.2f}' for column in columns)} |")
    return "\n".join(lines)


def main():
    torch.set_num_threads(1)
    text = HEAD
    text += "## The flow, from exact values\n\nA walk from r = σ/α = 20 to 0.1 that has passed three times already.\n\n"
    text += table(FLOW, [flow_orders(sde, 20, 0.1, 320, 3) for sde in SDES])
    text += "\n\n## The flow, from a real start\n\nFrom r = 3 to 0.15, where the first step matters.\n\n"
    text += table(FLOW, [flow_orders(sde, 3, 0.15, 320, 0) for sde in SDES])
    text += "\n\n## The law, with noise\n\nFrom r = 20 to 0.1.\n\n"
    text += table(NOISY, [weak_orders(sde) for sde in SDES])
    PAGE.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
