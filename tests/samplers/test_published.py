"""Samplers against what the published code was measured to do, where it runs and is right."""

import json

import pytest
import torch
from parity import COMMITTED

from scorefield.exact import ExactModel, GaussianMixture
from scorefield.samplers import Ancestral, EulerMaruyama, ReverseDiffusion
from scorefield.sde import VE, VP, SubVP
from scorefield.testing import propagate
from scorefield.times import uniform

RECORD = json.loads((COMMITTED / "samplers.json").read_text(encoding="utf-8"))
SDES = {"ve": VE(), "vp": VP(), "subvp": SubVP()}
PREDICTORS = {
    "euler_maruyama": lambda _: EulerMaruyama(),
    "reverse_diffusion": lambda _: ReverseDiffusion(),
    "ancestral_sampling": lambda sde: Ancestral("forward" if isinstance(sde, VP) else "posterior"),
}
ROWS = [
    row
    for row in RECORD["pc"]
    if "error" not in row and row["corrector"] == "none" and row["predictor"] in PREDICTORS and not row["denoise"]
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['sde']}-{row['predictor']}-{row['N']}")
def test_the_law_of_its_samples_is_ours(row):
    """Without the last denoising: the exact law of our sampler against mean and standard deviation of 4,096 samples."""
    sde, data = SDES[row["sde"]], RECORD["setup"]["data"][row["sde"]]
    mean, std = (torch.tensor(data[key], dtype=torch.float64).reshape(1, 1, 2, 2) for key in ("mean", "std"))
    model = ExactModel(sde, GaussianMixture(mean, variances=std**2))
    times = uniform(sde, row["N"], end=RECORD["setup"]["sampling_eps"][row["sde"]])
    prior = GaussianMixture(torch.zeros_like(mean), variances=torch.full_like(mean, sde.prior.std**2))
    ours, covariance = propagate(PREDICTORS[row["predictor"]](sde), model, times, prior)
    theirs, spread = (torch.tensor(row[key], dtype=torch.float64) for key in ("mean", "std"))
    assert bool(((ours - theirs).abs() < 4 * spread / row["n"] ** 0.5).all())
    assert bool(((covariance.diagonal().sqrt() / spread).log().abs() < 4 / (2 * row["n"]) ** 0.5).all())
