"""Every parameterization x view x SDE against closed form, in float64 and in float32."""

import pytest
import torch
from oracles import FIVE, correlated, double, mixture, name
from torch import nn

from scorefield.exact import ExactModel
from scorefield.network_model import (
    AscendingIndex,
    ContinuousTime,
    DescendingIndex,
    LogSigma,
    LogTime,
    NetworkModel,
    QuarterLogSigma,
    QuarterLogSNR,
)
from scorefield.score import PARAMETERIZATIONS, NoisePrediction, ScoreFunction
from scorefield.sde import DDPM, EDM, SMLD, VE, VP, Cosine, RectifiedFlow, SubVP
from scorefield.space import DataSpace

VIEWS = ["score", "denoise", "noise", "velocity"]


class Fixed(nn.Module):
    """A network that returns what it was given at birth."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x, c, label=None):
        return self.output.to(x.dtype).expand(x.shape)


def some_times(sde):
    last = sde.T if bool(sde.alpha(double(sde.T)) > 0) else 0.99
    return [sde.t_min, 1e-3 * last, 0.1 * last, 0.5 * last, last]


def point(sde, t, dim=24):
    """x representable in float32, and the views of data known to be x_0 with noise z: x = alpha x_0 + sigma z."""
    generator = torch.Generator().manual_seed(3)
    x0, z = 0.5 * torch.randn(2, 8, dim, generator=generator, dtype=torch.float64)
    z = 2 * z
    x = (sde.alpha(t) * x0 + sde.sigma(t) * z).float().double()
    z = (x - sde.alpha(t) * x0) / sde.sigma(t)
    velocity = sde.dalpha(t) * x0 + sde.dsigma(t) * z
    return x, {"score": -z / sde.sigma(t), "denoise": x0, "noise": z, "velocity": velocity}


def network(sde, form, t, views, dtype=torch.float64):
    p, q = form.target(sde, t)
    output = (p * views["denoise"] + q * views["noise"]).to(dtype)
    return NetworkModel(Fixed(output), sde, DataSpace((24,)), form, ContinuousTime())


def relative(value, exact):
    return float((value.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("sde", [*FIVE, Cosine()], ids=name)
@pytest.mark.parametrize("key", PARAMETERIZATIONS)
def test_views_are_exact(sde, key):
    form = PARAMETERIZATIONS[key]()
    for value in some_times(sde):
        t = double(value)
        x, views = point(sde, t)
        model = network(sde, form, t, views)
        for view, exact in views.items():
            assert relative(getattr(model, view)(x, t), exact) < 1e-9, (view, value)
        denoised, noise = model.predict(x, t)
        assert relative(denoised, views["denoise"]) < 1e-9
        assert relative(noise, views["noise"]) < 1e-9
        slope = -0.7 * torch.sin(t) * views["denoise"] + 0.4 * views["noise"]
        assert relative(model.blend(x, t, -0.7 * torch.sin(t), double(0.4)), slope) < 1e-8


@pytest.mark.parametrize("sde", FIVE, ids=name)
@pytest.mark.parametrize("key", PARAMETERIZATIONS)
def test_float32_agrees_with_float64(sde, key):
    form = PARAMETERIZATIONS[key]()
    for value in some_times(sde):
        t = torch.tensor(value, dtype=torch.float32)
        x, views = point(sde, t.double())
        model = network(sde, form, t.double(), views, torch.float32)
        for view, exact in views.items():
            if key == "data" and view != "denoise" and float(sde.sigma(t)) < 9e-4:
                continue  # F = D does not carry the noise there: test_what_data_prediction_loses
            assert relative(getattr(model, view)(x.float(), t), exact) < 1e-4, (view, value)


@pytest.mark.parametrize("sde", [SubVP(), RectifiedFlow()], ids=name)
def test_what_data_prediction_loses(sde):
    """At small sigma, D in float32 says little about the noise, and no code can change that: it is why v exists."""
    t = double(1e-5)
    x, views = point(sde, t)
    for key, least, most in (("data", 1e-3, 1e-1), ("v", 0.0, 1e-5), ("noise", 0.0, 1e-6)):
        model = network(sde, PARAMETERIZATIONS[key](), t, views, torch.float32)
        assert least <= relative(model.noise(x.float(), t), views["noise"]) <= most, key
        assert relative(model.denoise(x.float(), t), views["denoise"]) < 1e-6


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_exact_models_in_float32(sde):
    for value in some_times(sde):
        t = torch.tensor(value, dtype=torch.float32)
        model = ExactModel(sde, mixture(24))
        x = model.marginal(t.double()).sample(8, torch.Generator().manual_seed(3)).float().double()
        single = ExactModel(sde, model.law.to(torch.float32))
        for view in ("denoise", "noise", "score"):
            exact = getattr(model, view)(x, t.double())
            assert relative(getattr(single, view)(x.float(), t), exact) < 1e-4, (view, value)


@pytest.mark.parametrize("sde", FIVE, ids=name)
@pytest.mark.parametrize("law", [correlated(), mixture(3)], ids=["gaussian", "mixture"])
def test_exact_scores_are_gradients_of_the_marginal(sde, law):
    model = ExactModel(sde, law)
    t = double(0.3 * sde.T)
    x = (sde.alpha(t) * law.sample(5, torch.Generator().manual_seed(0)) + sde.sigma(t) * 0.5).requires_grad_()
    (gradient,) = torch.autograd.grad(model.marginal(t).log_prob(x).sum(), x)
    torch.testing.assert_close(model.score(x.detach(), t), gradient, rtol=1e-9, atol=1e-12)
    x = x.detach()
    torch.testing.assert_close(
        sde.alpha(t) * model.denoise(x, t) + sde.sigma(t) * model.noise(x, t), x, rtol=1e-10, atol=1e-12
    )


def test_velocity_is_drift_minus_half_g2_score():
    for sde in FIVE:
        model, t = ExactModel(sde, correlated()), double(0.4 * sde.T)
        x = torch.ones(2, 3, dtype=torch.float64)
        expected = sde.drift(x, t) - 0.5 * sde.diffusion(t) ** 2 * model.score(x, t)
        torch.testing.assert_close(model.velocity(x, t), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_times_of_a_batch(sde):
    """(batch,) times give each sample what a scalar time gives it, on images."""
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64) * sde.T
    exact = ExactModel(sde, mixture(2, 4, 4))
    one = NetworkModel(Fixed(torch.ones(())), sde, exact.space, PARAMETERIZATIONS["edm"](), LogSigma())
    for model in (exact, one):
        for view in VIEWS:
            alone = torch.cat([getattr(model, view)(x[i : i + 1], t[i]) for i in range(3)])
            torch.testing.assert_close(getattr(model, view)(x, t), alone, rtol=1e-10, atol=1e-12)


def test_noise_prediction_refuses_alpha_zero():
    space = DataSpace((2,))
    x = torch.ones(1, 2)
    for key in ("noise", "score", "scaled_score"):
        model = NetworkModel(Fixed(x), RectifiedFlow(), space, PARAMETERIZATIONS[key](), ContinuousTime())
        assert torch.isfinite(model.noise(x, torch.tensor(1.0))).all()
        for view in ("denoise", "velocity", "predict"):
            with pytest.raises(ValueError, match=r"alpha = 0.*use the velocity"):
                getattr(model, view)(x, torch.tensor(1.0))
    for key in ("v", "velocity", "data", "edm"):
        model = NetworkModel(Fixed(x), RectifiedFlow(), space, PARAMETERIZATIONS[key](), QuarterLogSNR())
        for view in VIEWS:
            assert torch.isfinite(getattr(model, view)(x, torch.tensor(1.0))).all()


def test_input_scale_gives_unit_variance():
    for key, std in (("v", 1.0), ("edm", 0.5)):
        for sde in FIVE:
            t = double(0.3 * sde.T)
            scale = PARAMETERIZATIONS[key]().input_scale(sde, t)
            assert float(scale**2 * (sde.alpha(t) ** 2 * std**2 + sde.sigma(t) ** 2)) == pytest.approx(1.0)


def test_edm_preconditioning_is_table_1():
    """At alpha = 1: c_skip, c_out, c_in of Karras et al. 2022."""
    sde, form, d = EDM(), PARAMETERIZATIONS["edm"](), 0.5
    for sigma in (0.002, 0.3, 80.0):
        t = double(sigma)
        skip, out = form.denoised(sde, t)
        assert float(skip) == pytest.approx(d**2 / (sigma**2 + d**2))
        assert float(out.abs()) == pytest.approx(sigma * d / (sigma**2 + d**2) ** 0.5)


def test_published_time_labels():
    t = torch.tensor([1.0, 0.5], dtype=torch.float64)
    assert ContinuousTime()(VP(), t).tolist() == [999.0, 499.5]
    torch.testing.assert_close(LogSigma()(VE(), t), torch.log(torch.tensor([50.0, 0.5**0.5], dtype=torch.float64)))
    torch.testing.assert_close(QuarterLogSNR()(EDM(), t), torch.log(t) / 2)
    torch.testing.assert_close(QuarterLogSigma()(EDM(), t), torch.log(t) / 4)
    torch.testing.assert_close(LogTime()(VP(), t), torch.log(999 * t))


@pytest.mark.parametrize("table", [DDPM(steps=100), SMLD(steps=100)], ids=repr)
def test_index_labels_are_the_rows_of_the_table(table):
    """Row i is t = (i + 1)/steps; its label is i, or steps - 1 - i where 0 is the largest noise."""
    rows = torch.arange(100, dtype=torch.float64)
    t = (rows + 1) / 100
    torch.testing.assert_close(AscendingIndex()(table, t), rows)
    assert DescendingIndex()(table, t).tolist() == rows.flip(0).tolist()
    assert DescendingIndex()(table, t.float()).tolist() == rows.flip(0).tolist()
    between, before = double(0.505), double(0.0)
    assert float(AscendingIndex()(table, between)) == pytest.approx(49.5)
    assert (float(AscendingIndex()(table, before)), float(DescendingIndex()(table, before))) == (0, 99)


@pytest.mark.parametrize("label", [AscendingIndex(), DescendingIndex()], ids=repr)
def test_index_labels_need_a_table(label):
    with pytest.raises(ValueError, match=r"VP has no table .*: take DDPM or SMLD"):
        NetworkModel(nn.Identity(), VP(), DataSpace((2,)), NoisePrediction(), label)


def test_label_reaches_the_network():
    class Labelled(nn.Module):
        def forward(self, x, c, label=None):
            return x * 0 if label is None else x * 0 + label[:, None]

    model = NetworkModel(Labelled(), VP(), DataSpace((2,), classes=3), NoisePrediction(), ContinuousTime())
    x, t = torch.zeros(2, 2), torch.tensor(0.5)
    assert float(model.noise(x, t).sum()) == 0
    assert model.given(label=torch.tensor([1, 2])).noise(x, t).tolist() == [[1, 1], [2, 2]]
    assert float(model.given(label=2).noise(x, t).sum()) == 8
    assert float(model.noise(x, t).sum()) == 0
    with pytest.raises(ValueError, match="label 3, expected 0 to 2"):
        model.given(label=3)
    with pytest.raises(ValueError, match="2 labels for a batch of 3"):
        model.given(label=torch.tensor([1, 2])).noise(torch.zeros(3, 2), t)
    unconditional = NetworkModel(Labelled(), VP(), DataSpace((2,)), NoisePrediction(), ContinuousTime())
    with pytest.raises(ValueError, match="0 classes"):
        unconditional.given(label=0)


def test_nonlinear_models_say_what_they_lack():
    model = ScoreFunction(lambda x, t: -x, VE(), DataSpace((2,)))
    with pytest.raises(TypeError, match="denoise needs a linear SDE"):
        model.denoise(torch.zeros(1, 2), torch.tensor(0.5))
    with pytest.raises(ValueError, match="takes none"):
        model.given(label=1)
