"""Posterior samplers against known posteriors: writes docs/posteriors.md.

    python benchmarks/posteriors.py

Gaussian data in three dimensions, one measured combination of coordinates, 200 steps equal in log-SNR from r = 20 to
0.01, from the exact posterior's marginal at the first time: mean and covariance at the end are propagated exactly, but
for particles. And a mixture of two Gaussians in two dimensions, where the share of samples in the first mode counts, of
2,000 samples by `sf.posterior`.
"""

from pathlib import Path

import torch

import scorefield as sf
from scorefield.testing import propagate
from scorefield.times import ratios

PAGE = Path(__file__).parent.parent / "docs" / "posteriors.md"
SDES = [sf.VE(), sf.VP(), sf.SubVP(), sf.EDM(), sf.RectifiedFlow()]
STEPS, DRAWS = 200, 2000
HEAD = f"""# Posteriors, measured

Written by `benchmarks/posteriors.py`, and held against the code by a test.

## Gaussian data

Three correlated coordinates of which 1, 0.5 and −0.3 times their values add up to what is measured, with noise of 0.2
and without. A cell says how far the mean is off, in posterior standard deviations, and the least and the greatest
standard deviation over the exact one, after {STEPS} ancestral steps (of particles: from {DRAWS} samples, which tell
means to 0.05 and deviations to 5%). RePaint takes 10 turns.

"""
MIXTURE = """
## Two modes

The share of samples in the mode that the measurement makes less likely, over the exact share, 0.31; the mean's error in
posterior standard deviations.

"""


def gaussian() -> sf.GaussianMixture:
    root = 0.4 * torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean = torch.linspace(-0.5, 0.7, 3, dtype=torch.float64)
    return sf.GaussianMixture.gaussian(mean, root @ root.T + 0.05 * torch.eye(3, dtype=torch.float64))


OPERATOR = sf.Matrix(torch.tensor([[1.0, 0.5, -0.3]], dtype=torch.float64), (3,))
Y = torch.tensor([[0.4]], dtype=torch.float64)


def posterior(law, operator, y, std):
    """The Gaussian law given a measurement."""
    a = operator.matrix
    gain = law.covariance @ a.T @ torch.linalg.inv(a @ law.covariance @ a.T + std**2 * torch.eye(len(a)).double())
    return law.mean + gain @ (y[0] - a @ law.mean), law.covariance - gain @ a @ law.covariance


def conditioned(method, model, measurement, times):
    """(model, sampler) of a method."""
    walk = sf.Ancestral()
    return {
        "mmps": lambda: (sf.Posterior(model, measurement, sf.Full(), tol=1e-10), walk),
        "tmpd": lambda: (sf.Posterior(model, measurement, sf.RowSums(), tol=1e-10), walk),
        "pigdm": lambda: (sf.Posterior(model, measurement, sf.Isotropic(), tol=1e-10), walk),
        "dps": lambda: (sf.Posterior(model, measurement, sf.Nothing()), walk),
        "diffpir": lambda: (sf.Proximal(model, measurement, tol=1e-10), walk),
        "ddrm": lambda: (model, sf.DDRM(measurement)),
        "replacement": lambda: (model, sf.Replacement(walk, measurement)),
        "repaint": lambda: (model, sf.Resampled(sf.Replacement(walk, measurement), 10)),
        "smc": lambda: (model, sf.TwistedSMC(measurement, times, 16)),
    }[method]()


REFUSED = {("dps", False), ("repaint", True)}
"""Methods without and with noise in the measurement."""
METHODS = ["mmps", "tmpd", "pigdm", "dps", "diffpir", "ddrm", "replacement", "repaint", "smc"]


def errors(method, sde, std):
    """(mean error, least and greatest ratio of deviations) in the coordinates of the posterior."""
    law = gaussian()
    mean, covariance = posterior(law, OPERATOR, Y, std)
    model, times = sf.ExactModel(sde, law), ratios(sde, 20, 0.011, STEPS)
    alpha, sigma = sde.alpha(times[0]), sde.sigma(times[0])
    start = sf.GaussianMixture.gaussian(alpha * mean, alpha**2 * covariance + sigma**2 * torch.eye(3).double())
    guided, sampler = conditioned(method, model, sf.Measurement(OPERATOR, Y, std), times)
    if method == "smc":
        noise = sf.Noise(0, range(DRAWS))
        x = start.sample(DRAWS, torch.Generator().manual_seed(0))
        guided, sampler = conditioned(method, model, sf.Measurement(OPERATOR, Y.expand(DRAWS, 1), std), times)
        y = sampler.sample(guided, x, noise)
        found, spread = y.mean(0), torch.cov(y.T)
    else:
        end, around = propagate(sampler, guided, times, start)
        alpha, sigma = sde.alpha(times[-1]), sde.sigma(times[-1])
        found, spread = end / alpha, around / alpha**2 - (sigma / alpha) ** 2 * torch.eye(3).double()
    seen, axes = torch.linalg.eigh(covariance)
    kept = seen > 1e-6  # without noise one direction is known
    axes = axes[:, kept]
    scale = seen[kept].sqrt()
    off = ((axes.T @ (found - mean)).abs() / scale).max()
    ratio = (axes.T @ spread @ axes).diag().clamp(min=0).sqrt() / scale
    return float(off), float(ratio.min()), float(ratio.max())


def cell(method, sde, std):
    if (method, std > 0) in REFUSED:
        return "refused"
    off, least, greatest = errors(method, sde, std)
    return f"{off:.2f}; {least:.2f}–{greatest:.2f}"


def two_modes(method, sde):
    """(share of the less likely mode over the exact one, mean error)."""
    means = torch.tensor([[-0.6, -0.5], [0.6, 0.5]], dtype=torch.float64)
    log_weights = torch.tensor([0.4, 0.6], dtype=torch.float64).log()
    law = sf.GaussianMixture(means, variances=torch.full_like(means, 0.04), weights=log_weights.exp())
    operator, y, std = sf.Matrix(torch.tensor([[1.0, 1.0]], dtype=torch.float64), (2,)), 0.1, 0.8
    exact = torch.softmax(log_weights - 0.5 * (y - means.sum(1)) ** 2 / (0.08 + std**2), 0)
    gain = 0.04 / (0.08 + std**2)
    modes = means + gain * (y - means.sum(1, keepdim=True))
    mean = exact @ modes
    deviation = ((exact[:, None] * (modes - mean) ** 2).sum(0) + 0.04 * (1 - gain)).sqrt()
    measured = torch.full((1, 1), y, dtype=torch.float64)
    x = sf.posterior(
        sf.ExactModel(sde, law), operator, measured, std=std, method=method, n=DRAWS, steps=STEPS, batch_size=DRAWS
    )[0]
    share = float((x.sum(1) < 0).double().mean())
    return share / float(exact[0]), float(((x.mean(0) - mean).abs() / deviation).max())


def table(rows):
    names = [type(sde).__name__ for sde in SDES]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    return "\n".join(lines + [f"| `{name}` | {' | '.join(cells)} |" for name, cells in rows]) + "\n"


def main():
    torch.set_num_threads(1)
    text = HEAD
    for std in (0.2, 0.0):
        text += f"### {'With noise' if std else 'Without'}\n\n"
        text += table([(m, [cell(m, sde, std) for sde in SDES]) for m in METHODS]) + "\n"
    rows = []
    for method in METHODS:
        if (method, True) in REFUSED:
            continue
        found = [two_modes(method, sde) for sde in (sf.VE(), sf.VP())]
        rows.append(f"| `{method}` | " + " | ".join(f"{share:.2f}; {off:.2f}" for share, off in found) + " |")
    text = text.rstrip("\n") + "\n" + MIXTURE + "| | VE | VP |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
