"""Networks, scores, SDEs, priors and losses against what the published PyTorch code recorded on small random networks.

All goes through `load(checkpoint, config=…)`, as a user's checkpoint does.

Discrete models were trained on the rows of a table, and a label is a row: our time of row i of N is (i + 1)/N, where
label, alpha and sigma of the published model are met exactly. Its score function pairs, at other times than those of
rows, an unrounded label with the sigma of the row below (VP) or rounds both (VE); so scores are compared at the label
that it passed, and multiplied by the ratio of the two sigmas.
"""

from functools import cache

import numpy as np
import pytest
import torch
from parity import parity_arrays, parity_config, parity_folders

import scorefield as sf
from scorefield.losses import denoising_loss
from scorefield.sde import DDPM, SMLD, VE, VP, SubVP
from scorefield.shapes import expand

EVERY = pytest.mark.parametrize("folder", parity_folders(), ids=lambda folder: folder.name)
WEIGHTS = pytest.mark.parametrize("ema", [False, True], ids=["raw", "ema"])
CONTINUOUS = {"vesde": VE, "vpsde": VP, "subvpsde": SubVP}


@cache
def load(folder, ema):
    return sf.load(folder / "checkpoint.pth", config=folder / "config.json", ema=ema, device="cpu")


def arrays_of(folder):
    return {key: torch.from_numpy(np.asarray(value)) for key, value in parity_arrays(folder).items()}


def ends(config):
    keys = ("sigma_min", "sigma_max") if config["training.sde"] == "vesde" else ("beta_min", "beta_max")
    return [float(config[f"model.{key}"]) for key in keys]


def continuous_sde(config):
    return CONTINUOUS[config["training.sde"]](*ends(config))


def table_sde(config):
    kind = {"vesde": SMLD, "vpsde": DDPM}[config["training.sde"]]
    return kind(config["model.num_scales"], *ends(config))


def our_time(config, t, labels):
    """The time at which a published model is told `labels`: t itself, or that of a row."""
    rows = config["model.num_scales"]
    if config["training.continuous"]:
        return t.double()
    return (rows - labels.double()) / rows if config["training.sde"] == "vesde" else (labels.double() + 1) / rows


def published_std(config, t, labels):
    """The standard deviation by which the published score function divides, with the rounding of its float32."""
    if config["training.sde"] == "vesde":
        return table_sde(config).sigma(our_time(config, t, labels)) if labels is not None else None
    if not config["training.continuous"]:
        rows = config["model.num_scales"]
        betas = torch.linspace(config["model.beta_min"] / rows, config["model.beta_max"] / rows, rows)
        return torch.sqrt(1 - torch.cumprod(1 - betas, 0))[labels.long()].double()
    low, high = ends(config)
    faded = torch.exp(2 * (-0.25 * t**2 * (high - low) - 0.5 * t * low))
    return (torch.sqrt(1 - faded) if config["training.sde"] == "vpsde" else 1 - faded).double()


def bound(config):
    return 1e-4 if config["model.embedding_type"] == "fourier" and config["model.name"] == "ncsnpp" else 1e-5


def close(ours, theirs, limit):
    """The largest difference of a sample, relative to its norm."""
    ours, theirs = ours.double().flatten(1), theirs.double().flatten(1)
    assert float(((ours - theirs).norm(dim=1) / theirs.norm(dim=1)).max()) < limit


def test_all_kinds_of_models_are_recorded():
    names = {folder.name for folder in parity_folders()}
    assert {"ve_cifar10_ncsnpp_continuous", "vp_cifar10_ddpmpp_continuous", "subvp_cifar10_ddpmpp_continuous"} <= names


@EVERY
@WEIGHTS
def test_networks(folder, ema):
    arrays, config, model = arrays_of(folder), parity_config(folder), load(folder, ema)
    t = our_time(config, arrays["t"], arrays["cond"])
    with torch.no_grad():
        output = model(arrays["x"], t)
    if config["model.scale_by_sigma"] and config["model.name"] != "ncsn":
        output = output / expand(model.sde.sigma(t), output)
    close(output, arrays["out_ema" if ema else "out_raw"], bound(config))


@EVERY
@WEIGHTS
def test_scores(folder, ema):
    arrays, config, model = arrays_of(folder), parity_config(folder), load(folder, ema)
    for t, x, labels, score in zip(
        *(arrays[key] for key in ("score_t", "score_x", "score_cond", "score_ema" if ema else "score_raw")), strict=True
    ):
        time = our_time(config, t, labels)
        with torch.no_grad():
            ours = model.score(x, time)
        if config["training.sde"] != "vesde":
            ours = ours * expand(model.sde.sigma(time) / published_std(config, t, labels), ours)
        close(ours, score, bound(config))


@EVERY
def test_the_sde_is_the_published_one(folder):
    config, sde = parity_config(folder), load(folder, ema=True).sde
    assert sde == (continuous_sde(config) if config["training.continuous"] else table_sde(config))


@EVERY
def test_continuous_sdes(folder):
    """Also of discrete models: the published code gives them a continuous SDE beside their table."""
    arrays, config = arrays_of(folder), parity_config(folder)
    sde, t, x = continuous_sde(config), arrays["sde_t"].double(), arrays["sde_x"].double()
    close(expand(sde.alpha(t), x) * x, arrays["sde_mean"], 1e-5)
    if config["training.sde"] == "vesde":
        torch.testing.assert_close(sde.sigma(t), arrays["sde_std"].double(), rtol=1e-6, atol=0)
    else:  # in float32 the difference 1 - exp(-B) has an error of 1e-7
        power = 2 if config["training.sde"] == "vpsde" else 1
        torch.testing.assert_close(sde.sigma(t) ** power, arrays["sde_std"].double() ** power, rtol=0, atol=1e-7)
        std = published_std({**config, "training.continuous": True}, arrays["sde_t"], None)
        torch.testing.assert_close(std, arrays["sde_std"].double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(sde.drift(x, t), arrays["sde_drift"].double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sde.diffusion(t), arrays["sde_diffusion"].double(), rtol=2e-5, atol=1e-6)


@EVERY
def test_discretizations(folder):
    """x_{i+1} = x_i + f + G z is the transition of the table to its row floor((N - 1) t), and Euler's step (sub-VP)."""
    arrays, config = arrays_of(folder), parity_config(folder)
    rows, t, x = config["model.num_scales"], arrays["sde_t"], arrays["sde_x"].double()
    if config["training.sde"] == "subvpsde":
        sde = continuous_sde(config)
        f, g = sde.drift(x, t.double()) / rows, sde.diffusion(t.double()) / rows**0.5
    else:
        row = (t * (rows - 1)).long().double()
        a, v = table_sde(config).transition(row / rows, (row + 1) / rows)
        f, g = expand(a - 1, x) * x, v.sqrt()
    torch.testing.assert_close(f, arrays["sde_disc_f"].double(), rtol=1e-5, atol=3e-7)
    torch.testing.assert_close(g, arrays["sde_disc_G"].double(), rtol=1e-5, atol=1e-7)


@EVERY
def test_priors(folder):
    arrays, prior = arrays_of(folder), load(folder, ema=True).sde.prior
    theirs = arrays["prior_logp"].double()
    torch.testing.assert_close(prior.log_prob(arrays["prior_z"].double()), theirs, rtol=1e-5, atol=0)


@EVERY
def test_losses(folder):
    """reduce_mean: the mean over coordinates; else half the sum. Likelihood weighting: g²/sigma² on each sample."""
    arrays, config, model = arrays_of(folder), parity_config(folder), load(folder, ema=False)
    data, z = arrays["data"], arrays["loss_z"]
    t = our_time(config, arrays.get("loss_t", z), arrays.get("loss_labels"))
    half = 0.5 * data[0].numel()
    with torch.no_grad():
        simple = float(denoising_loss(model, data, t, z).mean())
        likely = float(denoising_loss(model, data, t, z, weighting="likelihood").mean())
    assert simple == pytest.approx(float(arrays["loss_mean"]), rel=bound(config))
    assert simple * half == pytest.approx(float(arrays["loss_sum"]), rel=bound(config))
    if config["training.continuous"]:
        assert likely == pytest.approx(float(arrays["loss_mean_likelihood"]), rel=bound(config))
        assert likely * half == pytest.approx(float(arrays["loss_sum_likelihood"]), rel=bound(config))
