"""Posterior samplers against known posteriors: writes docs/posteriors.md.

    python benchmarks/posteriors.py

Gaussian data, 200 steps equal in log-SNR from r = 20 to 0.01, from the exact posterior's marginal at the first time:
mean and covariance at the end are propagated exactly, but for particles. One measured combination of three coordinates
with every SDE, and images of 2 x 4 x 4 numbers with every operator. And mixtures of two Gaussians, where the share of
samples in the first mode counts, of 2,000 samples by `sf.posterior`.
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
OPERATED = """## Every operator

Images of 2 × 4 × 4 correlated numbers, VP, noise of 0.2; cells as above, in the 32 principal directions of the
posterior. Systems are solved to the end here, in up to 50 iterations. RePaint's measurements are without noise, and
those of Blur then leave nothing unknown; directions that were measured do not count.

"""
MIXTURE = """
## Two modes

The share of samples in the mode that the measurement makes less likely, over the exact share, 0.31; the mean's error in
posterior standard deviations. Two coordinates, of which the sum is measured. (Without noise, which RePaint is for, the
two modes of the posterior are one.)

"""
IMAGES = """
And images with every operator, VP, noise of 0.8 (RePaint: none): the share in the first mode over the exact share, 0.4,
and the posterior mean's error in the direction from mode to mode, in posterior standard deviations.

"""


def gaussian() -> sf.GaussianMixture:
    root = 0.4 * torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean = torch.linspace(-0.5, 0.7, 3, dtype=torch.float64)
    return sf.GaussianMixture.gaussian(mean, root @ root.T + 0.05 * torch.eye(3, dtype=torch.float64))


OPERATOR = sf.Matrix(torch.tensor([[1.0, 0.5, -0.3]], dtype=torch.float64), (3,))
Y = torch.tensor([[0.4]], dtype=torch.float64)
SHAPE = (2, 4, 4)


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


_KNOWN = normal(4, 4, seed=0) > 0
OPERATORS = {
    "Mask": sf.Mask(normal(*SHAPE, seed=0) > 0),
    "Grey": sf.Grey(2),
    "Average": sf.Average(2),
    "Blur": sf.Blur(normal(3, 3, seed=0).abs()),
    "Fourier": sf.Fourier(_KNOWN | _KNOWN.flip(0, 1).roll((1, 1), (0, 1))),
    "Matrix": sf.Matrix(normal(5, 32, seed=0), SHAPE),
    "Linear": sf.Linear(lambda x: x.cumsum(-1)[..., :2], SHAPE),
}
"""Of images."""
SPECTRAL = {"ddrm", "replacement", "smc", "repaint"}
"""Methods for operators with singular values, all but Linear."""


def images():
    root = 0.15 * normal(32, 32, seed=3)
    covariance = root @ root.T + 0.05 * torch.eye(32, dtype=torch.float64)
    return sf.GaussianMixture.gaussian(normal(*SHAPE, seed=4), covariance)


def flat(y):
    """Measurements as vectors, real and imaginary parts one after the other."""
    return (torch.view_as_real(y) if y.is_complex() else y).flatten(1)


def matrix_of(operator, shape):
    dim = torch.Size(shape).numel()
    return flat(operator.apply(torch.eye(dim, dtype=torch.float64).reshape(-1, *shape))).T


def posterior(law, operator, y, std):
    """Mean and covariance of a Gaussian law given a measurement, also without noise."""
    a, mean = matrix_of(operator, law.shape), law.mean.flatten()
    gain = law.covariance @ a.T @ torch.linalg.pinv(a @ law.covariance @ a.T + std**2 * torch.eye(len(a)).double())
    return mean + gain @ (flat(y)[0] - a @ mean), law.covariance - gain @ a @ law.covariance


def conditioned(method, model, measurement, times):
    """(model, sampler) of a method."""
    walk = sf.Ancestral()
    return {
        "mmps": lambda: (sf.Posterior(model, measurement, sf.Full(iterations=50, tol=1e-10)), walk),
        "tmpd": lambda: (sf.Posterior(model, measurement, sf.RowSums()), walk),
        "pigdm": lambda: (sf.Posterior(model, measurement, sf.Isotropic()), walk),
        "dps": lambda: (sf.Posterior(model, measurement, sf.Nothing()), walk),
        "diffpir": lambda: (sf.Proximal(model, measurement), walk),
        "ddrm": lambda: (model, sf.DDRM(measurement)),
        "replacement": lambda: (model, sf.Replacement(walk, measurement)),
        "repaint": lambda: (model, sf.Resampled(sf.Replacement(walk, measurement), 10)),
        "smc": lambda: (model, sf.TwistedSMC(measurement, times, 16)),
    }[method]()


REFUSED = {("dps", False), ("repaint", True)}
"""Methods without and with noise in the measurement."""
METHODS = ["mmps", "tmpd", "pigdm", "dps", "diffpir", "ddrm", "replacement", "repaint", "smc"]


def errors(method, sde, std, law=None, operator=OPERATOR, y=Y):
    """(mean error, least and greatest ratio of deviations) in the coordinates of the posterior."""
    law = gaussian() if law is None else law
    mean, covariance = posterior(law, operator, y, std)
    model, times = sf.ExactModel(sde, law), ratios(sde, 20, 0.011, STEPS)
    alpha, sigma, unit = sde.alpha(times[0]), sde.sigma(times[0]), torch.eye(law.dim).double()
    start = sf.GaussianMixture.gaussian((alpha * mean).reshape(law.shape), alpha**2 * covariance + sigma**2 * unit)
    guided, sampler = conditioned(method, model, sf.Measurement(operator, y, std), times)
    if method == "smc":
        noise = sf.Noise(0, range(DRAWS))
        x = start.sample(DRAWS, torch.Generator().manual_seed(0))
        many = y.expand(DRAWS, *y.shape[1:])
        guided, sampler = conditioned(method, model, sf.Measurement(operator, many, std), times)
        drawn = sampler.sample(guided, x, noise).flatten(1)
        found, spread = drawn.mean(0), torch.cov(drawn.T)
    else:
        end, around = propagate(sampler, guided, times, start)
        alpha, sigma = sde.alpha(times[-1]), sde.sigma(times[-1])
        found, spread = end.flatten() / alpha, around / alpha**2 - (sigma / alpha) ** 2 * unit
    seen, axes = torch.linalg.eigh(covariance)
    kept = seen > 1e-6  # without noise some are known
    axes = axes[:, kept]
    scale = seen[kept].sqrt()
    off = ((axes.T @ (found - mean)).abs() / scale).max()
    ratio = (axes.T @ spread @ axes).diag().clamp(min=0).sqrt() / scale
    return float(off), float(ratio.min()), float(ratio.max())


def operated(method, name):
    """`errors` of images with an operator."""
    operator = OPERATORS[name]
    y = operator.apply(normal(1, *SHAPE, seed=9))
    return errors(method, sf.VP(), 0.0 if method == "repaint" else 0.2, images(), operator, y)


def missing(method, std):
    """Whether a method is not for measurements with this noise."""
    return (method, std > 0) in REFUSED


def absent(method, name):
    """Whether a method is not for this operator, or has nothing to find there."""
    return (method, name) == ("repaint", "Blur") or (name == "Linear" and method in SPECTRAL)


def cell(numbers):
    off, least, greatest = numbers
    if off > 1000:
        return "diverges"
    return f"{off:.2f}; {least:.2f}–{greatest:.2f}"


def two_modes(method, sde):
    """(share of the less likely mode over the exact one, mean error)."""
    means = torch.tensor([[-0.6, -0.5], [0.6, 0.5]], dtype=torch.float64)
    weights = torch.tensor([0.4, 0.6], dtype=torch.float64)
    law = sf.GaussianMixture(means, variances=torch.full_like(means, 0.04), weights=weights)
    operator = sf.Matrix(torch.tensor([[1.0, 1.0]], dtype=torch.float64), (2,))
    return mode_errors(method, sde, law, operator, torch.full((1, 1), 0.1, dtype=torch.float64))


def two_images(method, name):
    """The same of images, measured to be between the modes."""
    means = 0.12 * normal(1, *SHAPE, seed=5) * torch.tensor([-1.0, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    means = means + 0.1 * torch.tensor([-1.0, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    weights = torch.tensor([0.4, 0.6], dtype=torch.float64)
    law = sf.GaussianMixture(means, variances=torch.full_like(means, 0.01), weights=weights)
    operator = OPERATORS[name]
    return mode_errors(method, sf.VP(), law, operator, operator.apply(torch.zeros_like(means[:1])))


def mode_errors(method, sde, law, operator, y):
    """(share of the first mode over the exact one, greatest error of the mean in posterior deviations)."""
    std = 0.0 if method == "repaint" else 0.8
    exact = law.posterior(matrix_of(operator, law.shape), flat(y)[0], max(std, 1e-4))
    x = sf.posterior(
        sf.ExactModel(sde, law), operator, y, std=std, method=method, n=DRAWS, steps=STEPS, batch_size=DRAWS
    )[0].flatten(1)
    first = ((x[:, None] - exact.means) ** 2).sum(2).argmin(1) == 0
    axis = exact.means[1] - exact.means[0]
    axis = axis / axis.norm()
    deviation = (axis @ exact.covariance @ axis).sqrt()
    off = (axis @ (x.mean(0) - exact.mean.flatten())).abs() / deviation
    return float(first.double().mean() / exact.log_weights[0].exp()), float(off)


def table(columns, rows):
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    return "\n".join(lines + [f"| `{name}` | {' | '.join(cells)} |" for name, cells in rows]) + "\n"


def main():
    torch.set_num_threads(1)
    text, names = HEAD, [type(sde).__name__ for sde in SDES]
    for std in (0.2, 0.0):
        rows = [(m, ["refused" if missing(m, std) else cell(errors(m, sde, std)) for sde in SDES]) for m in METHODS]
        text += f"### {'With noise' if std else 'Without'}\n\n" + table(names, rows) + "\n"
    rows = [(m, ["–" if absent(m, name) else cell(operated(m, name)) for name in OPERATORS]) for m in METHODS]
    text += OPERATED + table(OPERATORS, rows) + MIXTURE

    def modes(numbers):
        return "{:.2f}; {:.2f}".format(*numbers)

    noisy = [method for method in METHODS if not missing(method, 0.8)]
    text += table(("VE", "VP"), [(m, [modes(two_modes(m, sde)) for sde in (sf.VE(), sf.VP())]) for m in noisy])
    rows = [(m, ["–" if absent(m, name) else modes(two_images(m, name)) for name in OPERATORS]) for m in METHODS]
    text += IMAGES + table(OPERATORS, rows)
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
