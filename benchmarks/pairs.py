"""Every predictor with every SDE, alone and with a corrector: writes docs/pairs.md.

    python benchmarks/pairs.py

The error of a pair is |mean error| + |covariance error|/|covariance| after 100 steps from the exact marginal. For
linear SDEs, on Gaussian data in three dimensions, both are propagated exactly (no Monte Carlo); for a general one they
are those of 51,200 coordinates.
"""

from dataclasses import fields, is_dataclass
from pathlib import Path

import torch

import scorefield as sf
from scorefield.noise import Noise
from scorefield.samplers import CorrectorOnly, run
from scorefield.sde import NormalPrior
from scorefield.testing import law_error
from scorefield.times import ratios, uniform

PAGE = Path(__file__).parent.parent / "docs" / "pairs.md"
HEAD = """# What goes with what

Written by `benchmarks/pairs.py`, and held against the code by a test. A number is the error of the law after 100 steps,
|mean error| + |covariance error|/|covariance|, from the exact marginal at the first time to that at the last. Of the
linear SDEs it is that of Gaussian data in three dimensions between σ/α = 20 and 0.1, in steps that are equal in
log-SNR, propagated exactly; solvers that integrate in log-SNR do the same for every SDE. *General* is an SDE that is
not linear, and whose marginals are known all the same: VP with a force, the score of a bimodal law, and the noise that
keeps the balance, in equal steps of time. A pair that cannot be right is refused with a TypeError or ValueError that
says what to take instead.

"""
ALONE = "## Predictors alone\n\n"
CORRECTED = """
## With a corrector

`PredictorCorrector(predictor, Langevin())`, snr 0.16. In the general case `Langevin(rule="norm")`, as the default rule
is refused there: it needs σ. A corrector of fixed snr brings an error of its own, up to snr² = 0.026, which counts
where that of the predictor is smaller. What multistep samplers remember was moreover said of x before the corrector
moved it, which leaves them with first order.

"""
ONLY = """
## Correctors alone

Annealed Langevin dynamics, which takes x of one time for x of the next as it is. The error falls with the number of
turns for every SDE, most slowly where α changes to the end: sub-VP, rectified flow.

"""


class Stirred(sf.SDE):
    """A general SDE with the marginals of VP: dx = (f + c/2 score) dt + sqrt(g² + c) dw, c > 0, for a mixture's score.

    What Langevin dynamics adds leaves every marginal as it is, whatever it is. Data are independent coordinates.
    """

    force = 2.0

    def __init__(self):
        means = torch.tensor([[-0.8], [0.5]], dtype=torch.float64)
        law = sf.GaussianMixture(means, variances=torch.full_like(means, 0.04), weights=means.new_tensor([1.0, 2.0]))
        self.exact = sf.ExactModel(sf.VP(), law)

    @property
    def prior(self):
        return NormalPrior(1.0)

    def score(self, x, t):
        return self.exact.score(x.reshape(-1, 1), t).reshape(x.shape)

    def drift(self, x, t):
        return self.exact.sde.drift(x, t) + 0.5 * self.force * self.score(x, t)

    def diffusion(self, t):
        return torch.sqrt(self.exact.sde.diffusion(t) ** 2 + self.force)


LINEAR = [sf.VE(), sf.VP(), sf.SubVP(), sf.EDM(), sf.RectifiedFlow(), sf.Cosine(), sf.DDPM(), sf.SMLD()]
GENERAL = Stirred()
SDES = [*LINEAR, GENERAL]
NAMES = [*(type(sde).__name__ for sde in LINEAR), "general"]
PREDICTORS = [
    sf.EulerMaruyama(),
    sf.EulerMaruyama(probability_flow=True),
    sf.ReverseDiffusion(),
    sf.ReverseDiffusion(probability_flow=True),
    sf.Ancestral(),
    sf.Ancestral(variance="forward"),
    sf.DDIM(),
    sf.DDIM(eta=0.5),
    sf.Heun(),
    sf.Heun(churn=0.03),
    sf.StochasticHeun(),
    sf.DPMSolver(),
    sf.DPMSolver(order=3),
    sf.DPMSolver(tau=1.0),
    sf.DPMSolverSinglestep(),
    sf.DPMSolverSinglestep(tau=1.0),
    sf.UniPC(),
    sf.UniPC(of="velocity"),
    sf.DEIS(),
    sf.AdamsBashforth(),
    sf.Restart(sf.Heun(), low=0.2, steps=20),
]
DIM, BATCH = 512, 100


def gaussian():
    root = 0.4 * torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean = torch.linspace(-0.5, 0.7, 3, dtype=torch.float64)
    return sf.GaussianMixture.gaussian(mean, root @ root.T + 0.05 * torch.eye(3, dtype=torch.float64))


def walk(sampler, steps):
    """x of the general SDE at the last time, and the law it should have."""
    times, noise = uniform(GENERAL, steps, end=0.05), Noise(0, range(BATCH))
    first, last = (GENERAL.exact.marginal(t) for t in times[[0, -1]])
    start = first.sample(BATCH * DIM, torch.Generator().manual_seed(0)).reshape(BATCH, DIM)
    model = sf.ScoreFunction(GENERAL.score, GENERAL, sf.DataSpace((DIM,)))
    return run(sampler, model, start, times, noise=noise, denoise=False), last


def error(sampler, sde, steps=100):
    """The error of the law; TypeError or ValueError where the pair is refused."""
    if sde is not GENERAL:
        return law_error(sampler, sf.ExactModel(sde, gaussian()), ratios(sde, 20, 0.1, steps))
    return moments_error(*walk(sampler, steps))


def moments_error(x, law):
    """The error of the law by its coordinates' mean and variance."""
    return float((x.mean() - law.mean).abs().sum() + (x.var() / law.covariance - 1).abs().sum())


def corrected(predictor, sde):
    return sf.PredictorCorrector(predictor, sf.Langevin(rule="norm" if sde is GENERAL else "sigma"))


def only(sde, turns=12):
    return CorrectorOnly(sf.Langevin(0.3, turns, "norm" if sde is GENERAL else "sigma"))


def label(value):
    """A sampler as one would write it: what is not its default."""
    if not is_dataclass(value):
        return repr(value)
    given = [f"{f.name}={label(getattr(value, f.name))}" for f in fields(value) if getattr(value, f.name) != f.default]
    return f"{type(value).__name__}({', '.join(given)})"


def cell(sampler, sde):
    try:
        return f"{error(sampler, sde):.2g}"
    except (TypeError, ValueError):
        return "refused"


def table(rows):
    lines = [f"| | {' | '.join(NAMES)} |", "|---" * (len(NAMES) + 1) + "|"]
    return "\n".join(lines + [f"| `{name}` | {' | '.join(cells)} |" for name, cells in rows]) + "\n"


def main():
    torch.set_num_threads(1)
    alone = [(label(p), [cell(p, sde) for sde in SDES]) for p in PREDICTORS]
    both = [(label(p), [cell(corrected(p, sde), sde) for sde in SDES]) for p in PREDICTORS]
    correctors = [("CorrectorOnly(Langevin(snr=0.3, steps=12))", [cell(only(sde), sde) for sde in SDES])]
    text = HEAD + ALONE + table(alone) + CORRECTED + table(both) + ONLY + table(correctors)
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
