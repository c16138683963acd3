"""The library as a user has it: units, seeds, shapes, batch sizes, results that add up."""

import copy
import math

import pytest
import torch
from oracles import FIVE, mixture, name

import scorefield as sf
from scorefield.space import DataSpace

SAMPLERS = {
    "best": {"budget": 12},
    "ancestral": {"sampler": sf.Ancestral(), "steps": 12},
    "pc": {"sampler": sf.PredictorCorrector(sf.ReverseDiffusion(), sf.Langevin(snr=0.16)), "steps": 12},
    "ode": {"sampler": sf.ProbabilityFlow(1e-4)},
}


def images(sde=None, shape=(1, 4, 4)):
    """A model of images whose law is known: a narrow mixture in model units [-1, 1]."""
    return sf.ExactModel(sde or sf.VP(), mixture(*shape).to(torch.float32), DataSpace.images(shape))


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_a_sample_is_its_seed_at_every_batch_size(sde, sampler):
    model = images(sde)

    def samples(n, batch_size, first=0, seed=3):
        return sf.sample(model, n, seed=seed, **sampler, batch_size=batch_size, first=first)

    whole = samples(64, 64)
    assert float((whole[:21] - samples(21, 7)).abs().max()) < 1e-4
    assert float((whole[:3] - samples(3, 1)).abs().max()) < 1e-4
    assert float((whole[60:] - samples(4, 64, first=60)).abs().max()) < 1e-4
    assert float((whole[:7] - samples(7, 7, seed=4)).abs().max()) > 0.1


@pytest.mark.parametrize("shape", [(2,), (2, 16), (3, 8, 8), (1, 4, 4, 4)], ids=str)
def test_any_shape_through_everything(shape):
    model = sf.ExactModel(sf.VP(), mixture(*shape).to(torch.float32))
    x = sf.sample(model, 5, steps=20, batch_size=2)
    assert x.shape == (5, *shape)
    r = sf.log_likelihood(model, x, probes=4, batch_size=3, tol=1e-4)
    assert r.log_prob.shape == (5,)
    assert r.bits_per_dim is None
    assert bool((r.standard_error > 0).all())
    z = sf.encode(model, x, batch_size=2)
    assert float((sf.decode(model, z, batch_size=4) - x).abs().max()) < 1e-3
    known = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5
    y = sf.inpaint(model, x, known, n=2, steps=10)
    assert y.shape == (5, 2, *shape)
    assert torch.equal(torch.where(known, y, 0), torch.where(known, x[:, None], 0).expand_as(y))


def test_likelihood_in_data_units():
    """log p_data = log p_model - dim log scale; of integers, 8 bits more than that of y in [0, 1]."""
    law = mixture(3, components=2)
    space = DataSpace((3,), shift=(1.0,), scale=(2.0,))
    model = sf.ExactModel(sf.VP(), law, space)
    y = law.sample(4, torch.Generator().manual_seed(0))
    end = model.marginal(torch.tensor(1.0, dtype=torch.float64))
    r = sf.log_likelihood(model, space.to_data(y), exact=True, tol=1e-7, prior=end)
    start = model.marginal(torch.tensor(1e-5, dtype=torch.float64))
    torch.testing.assert_close(r.log_prob, start.log_prob(y) - 3 * math.log(2), rtol=0, atol=1e-4)
    torch.testing.assert_close(sum(r.parts.values()), r.log_prob)
    assert r.standard_error.tolist() == [0.0] * 4


def test_bits_per_dim_of_integers():
    """Uniform dequantization: -log p(y)/(dim ln 2) + 8 - log2(hi - lo) with y in model units [-1, 1]."""
    model = images()
    x = torch.randint(0, 256, (3, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    end = model.marginal(torch.tensor(1.0))
    r = sf.log_likelihood(model, x, exact=True, tol=1e-6, seed=5, prior=end)
    u = sf.Noise(5, range(3), stream="likelihood").uniform((1, 4, 4))
    y = -1 + 2 * (x + u) / 256
    expected = -model.marginal(torch.tensor(1e-5)).log_prob(y) / (16 * math.log(2)) + 8 - 1
    torch.testing.assert_close(r.bits_per_dim, expected, rtol=0, atol=2e-3)
    torch.testing.assert_close(r.log_prob, -r.bits_per_dim * 16 * math.log(2))
    assert float(r.bits_per_dim_error.max()) == 0
    together = sf.log_likelihood(model, x, probes=2, seed=5).log_prob
    apart = sf.log_likelihood(model, x, probes=2, seed=5, batch_size=2).log_prob
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-3)


def test_a_uniform_model_needs_eight_bits():
    """Data of one huge variance: the discrete probabilities of the exact law, summed over levels, stay below one."""
    law = sf.GaussianMixture(torch.zeros(1, 1), variances=torch.full((1, 1), 0.3))
    model = sf.ExactModel(sf.VP(), law, DataSpace.images((1,)))
    x = torch.arange(256, dtype=torch.uint8)[:, None]
    log_prob = sf.log_likelihood(model, x, exact=True, batch_size=256, seed=1).log_prob
    assert float(log_prob.double().exp().sum()) == pytest.approx(0.932, abs=0.01)  # P(|N(0, .3)| < 1)


def test_codes_are_standard_normal():
    for sde in FIVE:
        model = sf.ExactModel(sde, mixture(2).to(torch.float32))
        x = model.law.sample(2000, torch.Generator().manual_seed(0))
        z = sf.encode(model, x, batch_size=2000, tol=1e-4)
        assert float((z.var(0) - 1).abs().max()) < 0.15
        assert float(z.mean(0).abs().max()) < 0.1


def test_colorize_keeps_the_grey():
    model = images(shape=(3, 4, 4))
    grey = torch.full((2, 1, 4, 4), 0.5)
    y = sf.colorize(model, grey, n=3, steps=20)
    assert y.shape == (2, 3, 3, 4, 4)
    inside = ((y > 0) & (y < 1)).all(2)
    assert bool(inside.any())
    assert float((y.mean(2) - 0.5).abs()[inside].max()) < 1e-5
    assert float(y.std(2).mean()) > 0.01
    with pytest.raises(ValueError, match="expected images of 2 or more channels"):
        sf.colorize(images(), grey)


def test_integers_and_floats_are_the_same_images():
    model = images()
    x = torch.randint(0, 256, (2, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    torch.testing.assert_close(sf.encode(model, x), sf.encode(model, x / 255))
    known = torch.ones(4, 4, dtype=torch.bool)
    known[1:3] = False
    kept = sf.inpaint(model, x, known, steps=5)[:, 0]
    assert torch.equal(kept[..., [0, 3], :], (x / 255)[..., [0, 3], :])


def test_errors_are_one_line_with_a_remedy():
    model = images()
    for call, message in (
        (lambda: sf.sample(model, 0), "0 samples, expected 1 or more"),
        (lambda: sf.sample(model, 1, batch_size=0), "0 batch size, expected 1 or more"),
        (lambda: sf.sample(model, 1, steps=0), "0 steps, expected 1 or more"),
        (lambda: sf.encode(model, torch.zeros(1, 3, 4, 4)), r"shape \(1, 3, 4, 4\), expected \(batch, 1, 4, 4\)"),
        (
            lambda: sf.inpaint(model, torch.zeros(1, 1, 4, 4), torch.ones(5, 5, dtype=torch.bool)),
            r"mask of shape \(5, 5\)",
        ),
        (lambda: sf.sample(model, 1, label=2), "label given to ExactModel, which takes none"),
        (lambda: sf.log_likelihood(model, torch.zeros(1, 1, 4, 4), probes=0), "0 probes"),
        (lambda: sf.log_likelihood(model, torch.zeros(0, 1, 4, 4)), "0 data, expected 1 or more"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_inputs_follow_the_weights():
    """float64 data into a float32 network, and the other way round."""
    model = sf.fit(torch.randn(64, 2, generator=torch.Generator().manual_seed(0)), steps=1)
    for network, given in ((model, torch.float64), (copy.deepcopy(model).double(), torch.float32)):
        x = torch.zeros(2, 2, dtype=given)
        expected = next(network.parameters()).dtype
        assert sf.encode(network, x, tol=1e-2).dtype == expected
        assert sf.decode(network, x, tol=1e-2).dtype == expected
        assert sf.log_likelihood(network, x, tol=1e-1).log_prob.dtype == expected
        assert sf.inpaint(network, x, torch.tensor([True, False]), steps=2).dtype == expected
        assert sf.sample(network, 2, steps=2).dtype == expected


def test_fit_learns_a_law():
    """Two clusters in the plane: the samples' means, spreads and shares; the likelihood near the law's own."""
    generator = torch.Generator().manual_seed(0)
    law = sf.GaussianMixture(
        torch.tensor([[3.0, 10.0], [5.0, 14.0]]), variances=torch.full((2, 2), 0.25), weights=torch.tensor([0.3, 0.7])
    )
    model = sf.fit(law.sample(4000, generator), steps=700, overrides=["model.width=64", "model.depth=3"])
    x = sf.sample(model, 1000, steps=60, batch_size=1000)
    second = x[:, 1] > 12
    assert float(second.float().mean()) == pytest.approx(0.7, abs=0.1)
    for part, mean in ((x[~second], [3.0, 10.0]), (x[second], [5.0, 14.0])):
        assert float((part.mean(0) - torch.tensor(mean)).abs().max()) < 0.2
        assert float((part.std(0) - 0.5).abs().max()) < 0.15
    held_out = law.sample(200, generator)
    gap = (
        law.log_prob(held_out) - sf.log_likelihood(model, held_out, exact=True, tol=1e-3, batch_size=200).log_prob
    ).mean()
    assert -0.1 < float(gap) < 0.3


def test_every_public_name_is_there():
    for public in sf.__all__:
        assert getattr(sf, public) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sf.nonsense  # noqa: B018
