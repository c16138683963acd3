"""What the oracles for users' classes pass, and what they catch."""

import math
from dataclasses import dataclass

import pytest
import torch
from oracles import ALL, OrnsteinUhlenbeck, name

from scorefield.api import sample
from scorefield.exact import ExactModel, GaussianMixture
from scorefield.samplers import DEIS, Ancestral, DPMSolver, EulerMaruyama, Heun, Sampler, UniPC
from scorefield.sde import VE, VP, LinearSDE, NormalPrior
from scorefield.testing import check_sampler, check_sde


class Rounded(LinearSDE):
    """alpha(1) is 6e-17, not 0."""

    def alpha(self, t):
        return torch.cos(0.5 * math.pi * t)

    def sigma(self, t):
        return torch.sin(0.5 * math.pi * t)


class Long(OrnsteinUhlenbeck):
    T = 100.0


@pytest.mark.parametrize("sde", [*ALL, Rounded(), Long()], ids=name)
def test_right_sdes_pass(sde):
    check_sde(sde)


@pytest.mark.parametrize("sampler", [Ancestral(), EulerMaruyama(), Heun(), DPMSolver(2), UniPC(2), DEIS(3)], ids=name)
def test_alpha_is_zero_up_to_rounding(sampler):
    """Samples of a mixture at -2 and 2 with an SDE whose log-SNR at T is -74 by rounding."""
    law = GaussianMixture(torch.tensor([[-2.0], [2.0]]), variances=torch.full((2, 1), 1e-2))
    x = sample(ExactModel(Rounded(), law), 200, sampler=sampler, steps=40)
    assert float(x.abs().mean()) == pytest.approx(2.0, abs=0.12)


class Drift(VP):
    def drift(self, x, t):
        return 2 * super().drift(x, t)


class LogSNR(VP):
    def logsnr(self, t):
        return 0.5 * super().logsnr(t)


class Time(VP):
    def time(self, logsnr):
        return super().time(2 * logsnr)


class Mean(VE):
    def transition(self, s, t):
        a, v = super().transition(s, t)
        return 1.01 * a, v


class Variance(VE):
    def transition(self, s, t):
        a, _ = super().transition(s, t)
        return a, self.sigma(t) ** 2 - self.sigma(s)


class Prior(VE):
    @property
    def prior(self):
        return NormalPrior(1.0)


class Coarse(VP):
    def sigma(self, t):
        return torch.sqrt(1 - torch.exp(-self.integral(t)))


class Nothing(VP):
    def diffusion(self, t):
        return torch.sqrt(-super().diffusion(t))


class Slope(VP):
    def dsigma(self, t):
        return 3 * super().dsigma(t)


class Short(OrnsteinUhlenbeck):
    T = 0.5


class Rising(VE):
    def sigma(self, t):
        return 1 + torch.sin(6 * t)


@pytest.mark.parametrize(
    ("sde", "message"),
    [
        (Drift(), "Drift: drift"),
        (LogSNR(), "LogSNR: logsnr"),
        (Time(), "Time: time"),
        (Mean(), "Mean: a of transition"),
        (Variance(), "Variance: v of transition"),
        (Prior(), "the prior has std 1, and data of std 0.5 have 50 at T"),
        (Short(), "the prior has std 0.795"),
        (Nothing(), "Nothing: g² of diffusion"),
        (Slope(), "Slope: dsigma"),
        (Rising(), "Rising: "),
        (Coarse(t_min=1e-5), "Coarse: "),
    ],
    ids=name,
)
def test_wrong_sdes_are_caught(sde, message):
    with pytest.raises(AssertionError, match=message):
        check_sde(sde)


@pytest.mark.parametrize(("sampler", "order"), [(Ancestral(), 1), (Heun(), 2), (DPMSolver(2, 1.0), 2), (UniPC(1), 2)])
def test_our_samplers_pass(sampler, order):
    check_sampler(sampler, order, sdes=[VP()])


@dataclass(frozen=True)
class Late(Sampler):
    """DDIM with alpha at the wrong time."""

    def step(self, model, x, t, s, noise, past):
        denoised, eps = model.predict(x, t)
        return model.sde.alpha(t) * denoised + model.sde.sigma(s) * eps


@dataclass(frozen=True)
class Mates(Sampler):
    """A step that depends on the batch's mean."""

    def step(self, model, x, t, s, noise, past):
        y = Heun().step(model, x, t, s, noise, past)
        return y if x.dtype == torch.float64 else y + 0.01 * y.mean(0)


@dataclass(frozen=True)
class Wide(Sampler):
    """float64, whatever it is given."""

    def step(self, model, x, t, s, noise, past):
        return Heun().step(model, x, t, s, noise, past).double()


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (Late(), "Late with VP has order"),
        (Mates(), "Mates with VP: a sample is not the same alone"),
        (Wide(), r"Wide makes torch.float64"),
    ],
    ids=name,
)
def test_wrong_samplers_are_caught(sampler, message):
    with pytest.raises(AssertionError, match=message):
        check_sampler(sampler, 2, sdes=[VP()])
