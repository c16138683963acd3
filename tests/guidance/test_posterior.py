"""Posteriors: scores equal the closed form's where that is Gaussian, particles tend to it where it is not."""

import math

import pytest
import torch
from oracles import ALL, FIVE, correlated, double, mixture, name

import scorefield as sf
from scorefield.exact import ExactModel, GaussianMixture
from scorefield.guidance import (
    DDRM,
    Average,
    Blur,
    Fourier,
    Full,
    Grey,
    Isotropic,
    Linear,
    Mask,
    Matrix,
    Measurement,
    Nothing,
    Posterior,
    Proximal,
    RowSums,
    TwistedSMC,
)
from scorefield.guidance.systems import solve
from scorefield.noise import Noise
from scorefield.samplers import Ancestral, DPMSolver, UniPC, run
from scorefield.sde import VE, VP, RectifiedFlow
from scorefield.testing import propagate
from scorefield.times import logsnr, ratios

SHAPE = (2, 4, 4)
DIM = 32


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


OPERATORS = [
    Mask(normal(*SHAPE) > 0),
    Grey(2),
    Average(2),
    Blur(normal(3, 3).abs()),
    Fourier(normal(4, 4) > 0),
    Matrix(normal(5, DIM), SHAPE),
    Linear(lambda x: x.cumsum(-1)[..., :2], SHAPE),
]


def matrix_of(operator, shape):
    """The operator's matrix, real and imaginary parts of measurements one after the other."""
    columns = operator.apply(torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape))
    columns = torch.view_as_real(columns) if columns.is_complex() else columns
    return columns.flatten(1).T


def flattened(y):
    return (torch.view_as_real(y) if y.is_complex() else y).flatten(1)


def conditioned(law, operator, y, std):
    """The law given one measurement."""
    return law.posterior(matrix_of(operator, law.shape), flattened(y)[0], std)


def images(seed=3):
    root = normal(DIM, DIM, seed=seed) * 0.15
    return GaussianMixture.gaussian(normal(*SHAPE, seed=4), root @ root.T + 0.05 * torch.eye(DIM, dtype=torch.float64))


def compare(found, model, x, t, tolerance=1e-6):
    for mine, exact in zip(found.predict(x, t), model.predict(x, t), strict=True):
        torch.testing.assert_close(mine, exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("operator", OPERATORS, ids=name)
@pytest.mark.parametrize("sde", [VE(), VP(), RectifiedFlow()], ids=name)
def test_full_covariance_is_exact_for_gaussian_data(operator, sde):
    law, std = images(), 0.3
    y = operator.apply(normal(1, *SHAPE, seed=9))
    model = ExactModel(sde, law)
    found = Posterior(model, Measurement(operator, y, std), Full(100, 1e-12))
    exact = ExactModel(sde, conditioned(law, operator, y, std))
    for t in (0.1, 0.5, 0.9):
        t = double(t * sde.T)
        compare(found, exact, 3 * normal(4, *SHAPE, seed=10), t)


@pytest.mark.parametrize("sde", ALL, ids=name)
def test_samples_follow_the_posterior(sde):
    """Mean and covariance at the end of a walk, propagated exactly; for every SDE."""
    law, operator, std = correlated(3), Matrix(torch.tensor([[1.0, 0.5, -0.3]], dtype=torch.float64), (3,)), 0.2
    y = torch.tensor([[0.4]], dtype=torch.float64)
    exact = ExactModel(sde, conditioned(law, operator, y, std))
    found = Posterior(ExactModel(sde, law), Measurement(operator, y, std), Full(10, 1e-12))
    times = ratios(sde, 10, 0.05, 40)
    mean, covariance = propagate(UniPC(3), found, times, exact.marginal(times[0]))
    end = exact.marginal(times[-1])
    torch.testing.assert_close(mean, end.mean, rtol=0, atol=2e-3)
    torch.testing.assert_close(covariance, end.covariance, rtol=0, atol=2e-3)


def test_the_approximations_are_exact_where_they_say_so():
    """Isotropic: uncorrelated data of one deviation. RowSums: uncorrelated data, seen coordinate by coordinate."""
    x, t, y = 2 * normal(4, 3, seed=1), double(0.6), normal(1, 3, seed=2)
    even = GaussianMixture.gaussian(normal(3, seed=3), 0.49 * torch.eye(3, dtype=torch.float64))
    operator = Matrix(normal(2, 3, seed=5), (3,))
    for sde in FIVE:
        measured = Measurement(operator, operator.apply(y), 0.2)
        found = Posterior(ExactModel(sde, even), measured, Isotropic(0.7))
        compare(found, ExactModel(sde, conditioned(even, operator, measured.y, 0.2)), x, t)
    uneven = GaussianMixture.gaussian(normal(3, seed=3), torch.diag(torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)))
    mask = Mask(torch.tensor([True, False, True]))
    for sde in FIVE:
        found = Posterior(ExactModel(sde, uneven), Measurement(mask, y, 0.2), RowSums())
        compare(found, ExactModel(sde, conditioned(uneven, mask, mask.apply(y), 0.2)), x, t)


def test_without_noise_the_denoised_data_agree_with_the_measurement():
    law = images()
    for operator in (Grey(2), Average(2), Matrix(normal(5, DIM), SHAPE)):
        y = operator.apply(normal(1, *SHAPE, seed=9))
        for sde in FIVE:
            model, t = ExactModel(sde, law), double(0.3 * sde.T)
            for found in (
                Posterior(model, Measurement(operator, y), Full(100, 1e-12)),
                Proximal(model, Measurement(operator, y)),
            ):
                denoised, noise = found.predict(normal(2, *SHAPE, seed=1), t)
                torch.testing.assert_close(operator.apply(denoised), y.expand_as(operator.apply(denoised)))
                x = sde.alpha(t) * denoised + sde.sigma(t) * noise  # the views agree with one another
                torch.testing.assert_close(x, normal(2, *SHAPE, seed=1))


def test_proximal_is_the_minimum_that_it_says():
    law, operator, std, strength = images(), Average(2), 0.3, 0.5
    model, t, y = ExactModel(VP(), law), double(0.4), operator.apply(normal(1, *SHAPE, seed=9))
    found = Proximal(model, Measurement(operator, y, std), strength)
    x = normal(1, *SHAPE, seed=1)
    denoised, ratio = model.denoise(x, t), VP().sigma(t) / VP().alpha(t)
    moved = found.denoise(x, t).requires_grad_()
    cost = (operator.apply(moved) - y).square().sum() / std**2
    cost = cost + strength * (moved - denoised).square().sum() / ratio**2
    (slope,) = torch.autograd.grad(cost, moved)
    assert float(slope.abs().max()) < 1e-8


def test_where_nothing_is_left_of_the_data_the_models_own_answer_stands():
    model, y = ExactModel(RectifiedFlow(), correlated(3)), torch.zeros(1, 3, dtype=torch.float64)
    found = Posterior(model, Measurement(Mask(torch.tensor([True, False, False])), y, 0.1), Full())
    x = normal(2, 3)
    for mine, own in zip(found.predict(x, double(1.0)), model.predict(x, double(1.0)), strict=True):
        assert torch.equal(mine, own)
    noise = Noise(0, range(4))
    assert bool(
        run(Ancestral(), found, noise.normal((3,)).double(), logsnr(RectifiedFlow(), 20), noise=noise).isfinite().all()
    )


def test_each_sample_has_its_own_measurement_also_when_others_have_left():
    """An adaptive flow of a batch, each with a mask and data of its own, is that of each alone."""
    law = mixture(3)
    masks, y = torch.tensor([[True, False, False], [False, True, True], [True, True, False]]), normal(3, 3, seed=2)
    latent = normal(3, 3, seed=4)
    model = ExactModel(VP(), law)

    def sampled(rows):
        found = Posterior(model, Measurement(Mask(masks[rows]), y[rows], 0.2), Full(tol=1e-10))
        return sf.ProbabilityFlow(1e-5).sample(found, latent[rows], Noise(0, rows))

    together = sampled([0, 1, 2])
    for i in range(3):
        torch.testing.assert_close(sampled([i])[0], together[i], rtol=0, atol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(sampled([0, 1, 2]), together)


@pytest.mark.parametrize("sde", [VE(), VP(), RectifiedFlow()], ids=name)
def test_particles_tend_to_a_posterior_of_two_modes(sde):
    """The mean of a mixture's posterior whose modes one sign decides: wrong with few particles, right with many."""
    means = torch.tensor([[-0.6, -0.5], [0.6, 0.5]], dtype=torch.float64)
    law = GaussianMixture(means, variances=torch.full_like(means, 0.04), weights=torch.tensor([0.3, 0.7]).double())
    operator, std, y = Matrix(torch.tensor([[1.0, 1.0]], dtype=torch.float64), (2,)), 0.8, double(0.2).reshape(1, 1)
    exact = conditioned(law, operator, y, std).mean
    model = ExactModel(sde, law)
    errors = []
    for count, runs in ((2, 64), (64, 64)):
        sampler = TwistedSMC(Measurement(operator, y.expand(runs, 1), std), logsnr(sde, 40), count)
        noise = Noise(0, range(runs))
        x = sde.prior.sample(noise.normal((2,), torch.float64))
        particles, log_weights = sampler.run(model, x, noise)
        estimate = (log_weights.exp()[..., None] * particles).sum(1)
        errors.append(float((estimate - exact).square().mean().sqrt()))
        assert float((estimate.mean(0) - exact).abs().max()) < 0.25
    assert errors[1] < 0.1
    assert errors[1] < errors[0] / 2


def test_ddrm_on_uncorrelated_data():
    """Known without noise: exact. Known with noise: near y where that says most. Unknown: the prior's mean."""
    law = GaussianMixture.gaussian(torch.zeros(3).double(), torch.eye(3).double())
    y = torch.tensor([[0.7, 0.0, 0.0]], dtype=torch.float64)
    mask = Mask(torch.tensor([True, False, False]))
    for sde in FIVE:
        model, noise = ExactModel(sde, law), Noise(0, range(400))
        x = sde.prior.sample(noise.normal((3,), torch.float64))
        sampler = DDRM(Measurement(mask, y.expand(400, 3)))
        found = run(sampler, model, x, logsnr(sde, 20), noise=noise)
        assert torch.equal(found[:, 0], y.expand(400, 3)[:, 0])
        assert float(found[:, 1:].mean().abs()) < 0.15
        noisy = run(DDRM(Measurement(mask, y.expand(400, 3), 0.1)), model, x, logsnr(sde, 20), noise=noise)
        assert float(noisy[:, 0].mean()) == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("method", ["mmps", "tmpd", "pigdm", "diffpir", "ddrm", "smc", "replacement", "repaint"])
def test_every_method_in_data_units(method):
    """What is measured without noise is exact, samples are their seed, and data units are the space's."""
    space = sf.DataSpace((1, 4, 4), shift=(0.5,), scale=(0.5,))
    model = ExactModel(VP(), mixture(1, 4, 4).to(torch.float32), space)
    truth = space.to_data(mixture(1, 4, 4).to(torch.float32).sample(2, torch.Generator().manual_seed(0)))
    operator = Average(2)
    options = {"method": method, "steps": 10, "n": 3, "turns": 2, "particles": 4}
    x = sf.posterior(model, operator, operator.apply(truth), **options)
    assert x.shape == (2, 3, 1, 4, 4)
    torch.testing.assert_close(
        operator.apply(x.flatten(0, 1)), operator.apply(truth).repeat_interleave(3, 0), rtol=0, atol=1e-5
    )
    again = sf.posterior(model, operator, operator.apply(truth), **options, batch_size=4)
    torch.testing.assert_close(again, x, rtol=0, atol=1e-4)
    assert float((x[:, 0] - x[:, 1]).abs().max()) > 1e-3


@pytest.mark.parametrize("method", ["mmps", "tmpd", "pigdm", "dps", "diffpir", "ddrm", "smc", "replacement", "repaint"])
def test_a_budget_is_what_is_spent(method):
    """Forward and backward evaluations of each sample, down to what a step costs."""
    model = ExactModel(VP(), mixture(1, 4, 4).to(torch.float32))
    std = 0.0 if method == "repaint" else 0.1
    options = {"iterations": 2, "turns": 5, "particles": 3}
    with sf.count_evaluations(model) as spent:
        sf.posterior(
            model, Average(2), torch.zeros(2, 1, 2, 2), std=std, method=method, budget=60, n=2, batch_size=3, **options
        )
    cost = (spent.forward + spent.backward) / 4
    assert 60 - 6 < cost <= 60
    with pytest.raises(ValueError, match=f"budget=1 with method '{method}', whose one step needs"):
        sf.posterior(model, Average(2), torch.zeros(2, 1, 2, 2), std=std, method=method, budget=1)


@pytest.mark.parametrize("method", ["mmps", "ddrm", "smc", "repaint"])
def test_every_step_is_told(method):
    told, law = [], mixture(1, 4, 4)
    sf.posterior(
        ExactModel(VP(), law),
        Average(2),
        torch.zeros(1, 1, 2, 2).double(),
        method=method,
        steps=4,
        particles=2,
        callback=lambda progress: told.append((progress.step, progress.steps, tuple(progress.x.shape))),
    )
    assert told == [(i, 4, (1, 1, 4, 4)) for i in (1, 2, 3, 4)]


def test_data_whose_channels_have_units_of_their_own():
    law = correlated(2)
    space = sf.DataSpace((2,), shift=(1.0, 2.0), scale=(0.5, 3.0))
    operator = Matrix(torch.tensor([[1.0, 1.0]], dtype=torch.float64), (2,))
    y = torch.tensor([[3.0]], dtype=torch.float64)
    model = ExactModel(VP(), law, space)
    x = sf.posterior(model, operator, y, std=0.1, n=200, steps=40)[0]
    for known in (Mask(torch.tensor([True, False])), Matrix(torch.tensor([[1.0, 0.0]]).double(), (2,))):
        y_known = known.apply(torch.tensor([[2.0, 0.0]]).double())
        found = sf.posterior(model, known, y_known, method="ddrm", n=5, steps=10)[0]
        torch.testing.assert_close(found[:, 0], torch.full((5,), 2.0).double())
    units = torch.tensor([0.5, 3.0], dtype=torch.float64)
    mine = Matrix(units[None] * operator.matrix, (2,))
    exact = conditioned(law, mine, y - 3.0, 0.1)
    mean = torch.tensor([1.0, 2.0]) + units * exact.mean
    spread = units * exact.covariance.diag().sqrt()
    assert float(((x.mean(0) - mean) / spread).abs().max()) < 4 / math.sqrt(200)
    torch.testing.assert_close(x.std(0), spread, rtol=0.2, atol=0)


def test_evaluations_are_seen_at_the_posterior_and_at_the_model():
    model, y = ExactModel(VP(), correlated(3)), torch.zeros(1, 3, dtype=torch.float64)
    measurement = Measurement(Mask(torch.tensor([True, False, False])), y, 0.1)
    for found in (Posterior(model, measurement, Full()), Proximal(model, measurement)):
        with sf.count_evaluations(model) as inner, sf.count_evaluations(found) as outer:
            sf.sample(found, 2, sampler=sf.DDIM(), steps=5)
        assert (inner.forward, outer.forward) == (12, 12)


def test_systems_have_a_pace_of_their_own():
    root = normal(3, 6, 6)
    matrices = root @ root.mT + torch.tensor([1e-3, 1.0, 100.0]).double()[:, None, None] * torch.eye(6).double()
    b = normal(3, 6, seed=1)

    def apply(w):
        return torch.einsum("bij,bj->bi", matrices, w)

    w = solve(apply, b, tol=1e-10, iterations=50)
    torch.testing.assert_close(w, torch.linalg.solve(matrices, b))
    rough = solve(apply, b, tol=0.1, iterations=50)
    relative = (apply(rough) - b).norm(dim=1) / b.norm(dim=1)
    assert bool((relative <= 0.1).all())
    first = solve(apply, b, tol=1e-10, iterations=1)[2]  # of a good system that of conjugate gradients
    torch.testing.assert_close(first, b[2] * (b[2] @ b[2]) / (b[2] @ apply(b)[2]))
    skewed = matrices + 0.3 * (root - root.mT)
    w = solve(lambda w: torch.einsum("bij,bj->bi", skewed, w), b, tol=1e-10, iterations=50)
    torch.testing.assert_close(w, torch.linalg.solve(skewed, b))
    assert torch.equal(solve(apply, torch.zeros_like(b), tol=1e-3, iterations=5), torch.zeros_like(b))


def test_measurements_that_repeat_or_contradict_one_another():
    """A singular operator: what it does not see is the model's, what it sees twice is the mean of both."""
    model, rows = ExactModel(VP(), correlated(3)), torch.zeros(3, 3, dtype=torch.float64)
    nothing = sf.posterior(model, Matrix(rows, (3,)), torch.zeros(1, 3).double(), n=300, steps=40)[0]
    torch.testing.assert_close(nothing.mean(0), correlated(3).mean, rtol=0, atol=0.15)
    rows[:2, 0] = 1
    twice = sf.posterior(model, Matrix(rows, (3,)), torch.tensor([[0.0, 1.0, 5.0]]).double(), n=2, steps=5)[0]
    torch.testing.assert_close(twice[:, 0], torch.full((2,), 0.5).double())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_no_direction_sees_stays_out_of_a_solution(dtype):
    """Singular systems, with a right side that they do not reach: the least squares, and no rounding made large."""
    rows = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]).to(
        dtype
    )
    gram, b = rows @ rows.T, normal(3, 4).to(dtype)
    w = solve(lambda w: w @ gram, b, tol=1e-7, iterations=50).double()
    rows, gram, b = rows.double(), gram.double(), b.double()
    off = max(1e-4, 4 * torch.finfo(dtype).eps)
    torch.testing.assert_close(w @ rows, b @ torch.linalg.pinv(gram) @ rows, rtol=0, atol=off)
    assert float(w.abs().max()) < 10


@pytest.mark.parametrize("method", ["mmps", "ddrm", "diffpir", "replacement", "smc"])
@pytest.mark.parametrize("operator", [Fourier(normal(28, 28) > 0), Blur.gaussian(1.0)], ids=name)
def test_models_in_half_precision(operator, method):
    """Their samples are those of the same model in float32, as far as 8 bits tell."""
    y = operator.apply(torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    whole, half = (
        sf.posterior(sf.load("mnist").to(dtype), operator, y, std=0.3, method=method, n=1, steps=3, particles=2)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert half.dtype == torch.bfloat16
    assert (half.float() - whole).square().mean().sqrt() < 0.03


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_particles_in_half_precision(dtype):
    """Their weights, small differences of large numbers, tell them apart; without noise they are finite."""
    model, start = sf.load("mnist").to(dtype), torch.zeros(1, 1, 28, 28, dtype=dtype)
    y = torch.rand(1, 1, 7, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    sampler = TwistedSMC(Measurement(Average(4), y, 0.3), logsnr(model.sde, 1), particles=16)
    particles, weights = sampler.run(model, start, Noise(0, range(1)))
    assert particles.dtype == dtype
    assert len(weights.unique()) == 16
    exact = sf.posterior(model, Average(4), y, method="smc", steps=3, particles=4)
    assert bool(exact.isfinite().all())


def test_systems_in_half_precision():
    b = normal(3, 4)
    w = solve(lambda w: 2 * w, b.half(), tol=1e-3, iterations=5)
    assert w.dtype == torch.float16
    torch.testing.assert_close(w.double(), b / 2, rtol=1e-2, atol=1e-3)


def test_networks_know_complex_measurements():
    """An image of which every coefficient is known comes back, in the dtype of the network."""
    image, fourier = 0.5 + 0.05 * normal(2, 1, 28, 28).float(), sf.Fourier(torch.ones(28, 28, dtype=torch.bool))
    found = sf.posterior(sf.load("mnist"), fourier, fourier.apply(image), method="ddrm", steps=3)[:, 0]
    torch.testing.assert_close(found, image, rtol=0, atol=1e-5)


def test_a_system_does_not_depend_on_its_batch_mates():
    """One that is nearly solved after one iteration, beside one that needs many."""
    scales = torch.stack([1 + 1e-3 * normal(6, seed=2), torch.logspace(0, 3, 6, dtype=torch.float64)])
    b = normal(2, 6)
    together = solve(lambda w: scales * w, b, tol=1e-2, iterations=5)
    for i in range(2):
        alone = solve(lambda w, i=i: scales[i] * w, b[i : i + 1], tol=1e-2, iterations=5)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-10, atol=1e-12)


def test_a_system_that_is_hardly_positive_does_not_run_away():
    """A quarter turn and a little more: conjugate gradients would step a thousand times the length of b."""
    turn = torch.tensor([[1e-3, 1.0], [-1.0, 1e-3]], dtype=torch.float64)
    b = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    for iterations in (1, 2):
        w = solve(lambda w: w @ turn.T, b, tol=1e-10, iterations=iterations)
        assert float(w.norm()) <= 1.001 * float(b.norm())
        assert float((w @ turn.T - b).norm()) <= float(b.norm())
    torch.testing.assert_close(w, torch.linalg.solve(turn, b[0])[None])


def test_what_is_refused(unchecked):
    model, y = ExactModel(VP(), correlated(3)), torch.zeros(1, 3, dtype=torch.float64)
    operator = Mask(torch.tensor([True, False, False]))
    for call, message in (
        (lambda: sf.posterior(model, operator, y, method="magic"), "method 'magic', expected one of mmps, tmpd"),
        (lambda: sf.posterior(model, operator, y, method="dps"), r"\(DPS\) with a measurement without noise: give std"),
        (lambda: sf.posterior(model, operator, y, method="smc", sampler=DPMSolver()), "a sampler with method 'smc'"),
        (lambda: sf.posterior(model, operator, y, std=0.1, method="repaint"), "std=0.1 with method 'repaint'"),
        (lambda: sf.posterior(model, operator, y, std=-1.0), "noise of -1.0"),
        (lambda: sf.posterior(model, operator, y / 0), "1 measurements, expected one or more, of finite numbers"),
        (lambda: sf.posterior(model, operator, y[:0]), "0 measurements, expected one or more"),
        (lambda: sf.posterior(model, operator, y, iterations=0), "0 iterations, expected 1 or more"),
        (lambda: sf.posterior(model, Mask(torch.ones(4) > 0), y), r"Mask fails on data of shape \(3,\)"),
        (lambda: sf.inpaint(model, y, torch.ones(3)), "mask of float32, expected bool, True where kept"),
        (lambda: sf.posterior(model, operator, y, budget=50, steps=9), "budget=50 with steps or a sampler"),
        (
            lambda: sf.posterior(model, Matrix(normal(2, 3), (3,)), y),
            r"measurements of shape \(1, 3\), expected \(batch, 2\)",
        ),
        (lambda: sf.posterior(model, operator, y, method="smc", particles=0), "0 particles, expected 1 or more"),
        (lambda: sf.posterior(model, operator, y, method="repaint", turns=0), "0 turns, expected 1 or more"),
        (lambda: sf.posterior(model, operator, y, std=math.inf), "noise of inf, expected 0 or more"),
        (
            lambda: sf.posterior(model, Matrix(torch.diag(torch.tensor([1.0, 1e-4, 0.0])), (3,)), y.float()),
            "a measurement without noise by a Matrix whose singular values fall to 0.0001 of the largest",
        ),
        (
            lambda: sf.log_likelihood(Posterior(model, Measurement(operator, y, 0.1), Full()), y),
            "the derivative of a Posterior, which has none",
        ),
        (
            lambda: sf.sample(Posterior(model, Measurement(operator, normal(2, 3), 0.1), Full()), 3),
            "2 measurements, and a sample of number 2",
        ),
        (lambda: Mask(torch.tensor([0.5, 1.0])), "Mask of float32, expected bool"),
        (lambda: Matrix(torch.ones(2, 3, dtype=torch.int64), (3,)), "Matrix of int64, expected float32 or float64"),
        (
            lambda: sf.posterior(model, operator, y, method="replacement", sampler=sf.ProbabilityFlow(), steps=5),
            "ProbabilityFlow with method 'replacement'",
        ),
        (lambda: sf.Blur.gaussian(1.0, size=4), "a kernel of 4 pixels, expected an odd number"),
        (lambda: DDRM(Measurement(operator, y), eta=2.0), "eta 2.0, expected 0 to 1"),
        (lambda: TwistedSMC(Measurement(operator, y), logsnr(VP(), 5), 0), "0 particles, expected 1 or more"),
        (lambda: Proximal(model, Measurement(operator, y), 0.0), "strength 0.0, expected a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="DDRM needs singular values"):
        sf.posterior(model, Linear(lambda x: x[:, :1], (3,)), y[:, :1], method="ddrm")
    assert Nothing()
