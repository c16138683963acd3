"""Guidance on mixtures, whose classes have closed forms: every view, sampler and likelihood of a class is known."""

import math

import pytest
import torch
from oracles import ALL, FIVE, double, name

import scorefield as sf
from scorefield.classifier import Classifier
from scorefield.counting import count_evaluations
from scorefield.exact import ExactClassifier, ExactModel, GaussianMixture
from scorefield.flow import ProbabilityFlow, decode, encode, log_likelihood
from scorefield.guidance import ClassifierGuidance, Contrast, Interval
from scorefield.noise import Noise
from scorefield.samplers import (
    AdaptiveSDE,
    Ancestral,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
    StochasticHeun,
    UniPC,
    run,
)
from scorefield.sde import DDPM, EDM, SMLD, VE, VP, RectifiedFlow
from scorefield.times import logsnr

LABELS = [0, 1, 1, 2]


def law(dim: int = 2, full: bool = False) -> GaussianMixture:
    """Four overlapping components of three classes; class 1 has two of them."""
    generator = torch.Generator().manual_seed(7)
    means = torch.tensor([[-0.8, 0.3], [0.5, -0.6], [0.9, 0.5], [-0.1, 0.9]], dtype=torch.float64)
    means = torch.nn.functional.pad(means, (0, dim - 2))
    weights = torch.tensor([0.3, 0.2, 0.4, 0.1], dtype=torch.float64)
    if full:
        roots = 0.25 * torch.randn(4, dim, dim, generator=generator, dtype=torch.float64)
        covariances = roots @ roots.mT + 0.02 * torch.eye(dim, dtype=torch.float64)
        return GaussianMixture(means, covariances=covariances, weights=weights)
    variances = 0.02 + 0.1 * torch.rand(4, dim, generator=generator, dtype=torch.float64)
    return GaussianMixture(means, variances=variances, weights=weights)


def guided(sde, label, scale=1.0, interval=None, mixture=None):
    mixture = law() if mixture is None else mixture
    interval = {} if interval is None else {"interval": interval}
    return ClassifierGuidance(
        ExactModel(sde, mixture), ExactClassifier(sde, mixture, LABELS, ("a", "b", "c")), label, scale, **interval
    )


def of_class(sde, label, mixture=None):
    """The closed-form model of one class."""
    mixture = law() if mixture is None else mixture
    return ExactModel(sde, ExactClassifier(sde, mixture, LABELS).law_of(label))


def views(model, x, t):
    a, b = torch.full_like(t, 0.3), torch.full_like(t, -0.7)
    both = model.predict(x, t)
    return {
        "score": model.score(x, t),
        "noise": model.noise(x, t),
        "denoise": model.denoise(x, t),
        "velocity": model.velocity(x, t),
        "blend": model.blend(x, t, a, b),
        "predicted data": both[0],
        "predicted noise": both[1],
    }


def times(sde):
    low, high = sde.t_min, sde.T if float(sde.alpha(double(sde.T))) > 0 else 0.99999 * sde.T
    return [low, *(low + (high - low) * share for share in (0.003, 0.03, 0.3, 0.8)), high]


def noisy(sde, t, mixture, count=40, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    x0 = mixture.sample(count, generator)
    z = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    return (sde.alpha(t) * x0 + sde.sigma(t) * z).to(dtype)


@pytest.mark.parametrize("sde", ALL, ids=name)
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
def test_at_scale_one_every_view_is_that_of_the_class(sde, full):
    mixture = law(3, full)
    for label in range(3):
        for moment in map(double, times(sde)):
            x = noisy(sde, moment, mixture)
            expected = views(of_class(sde, label, mixture), x, moment)
            for view, value in views(guided(sde, label, mixture=mixture), x, moment).items():
                scale = float(expected[view].abs().max())
                torch.testing.assert_close(value, expected[view], rtol=1e-5, atol=1e-5 * scale, msg=view)


@pytest.mark.parametrize("sde", FIVE, ids=name)
def test_in_float32_too(sde):
    """To 1e-4 of the largest value: what the mixture's own float32 score allows."""
    for moment in map(double, times(sde)[1:]):
        x = noisy(sde, moment, law())
        expected = views(of_class(sde, 1), x, moment)
        single = law().to(torch.float32)
        for view, value in views(guided(sde, 1, mixture=single), x.float(), moment).items():
            scale = float(expected[view].abs().max())
            torch.testing.assert_close(value.double(), expected[view], rtol=1e-3, atol=1e-4 * scale, msg=view)


@pytest.mark.parametrize("sde", [VP(), RectifiedFlow()], ids=name)
def test_a_time_for_each_sample_is_that_time(sde):
    moments = torch.tensor(times(sde), dtype=torch.float64)
    x = torch.randn(len(moments), 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = views(guided(sde, 1), x, moments)
    for i, moment in enumerate(moments):
        for view, value in views(guided(sde, 1), x[i : i + 1], moment).items():
            torch.testing.assert_close(together[view][i : i + 1], value, rtol=1e-9, atol=1e-9)


def test_where_nothing_of_the_data_is_left_the_classifier_says_nothing():
    sde, x = RectifiedFlow(), torch.randn(5, 2, dtype=torch.float64)
    expected = views(ExactModel(sde, law()), x, double(1.0))
    for view, value in views(guided(sde, 2), x, double(1.0)).items():
        torch.testing.assert_close(value, expected[view], msg=view)


SAMPLERS = {
    "ancestral": (Ancestral(), 150),
    "pc": (PredictorCorrector(ReverseDiffusion(), Langevin(0.1)), 150),
    "unipc": (UniPC(3), 40),
    "stochastic heun": (StochasticHeun(), 60),
    "flow": (ProbabilityFlow(1e-3), 0),
}


def drawn(sampler, steps, model, count=4000):
    x = model.sde.prior.sample(Noise(0, range(count)).normal((2,), torch.float64))
    noise = Noise(1, range(count))
    if steps == 0:
        return sampler.sample(model, x, noise)
    return run(sampler, model, x, logsnr(model.sde, steps), noise=noise)


@pytest.mark.parametrize("sde", FIVE, ids=name)
@pytest.mark.parametrize("sampler", ["ancestral", "pc", "unipc", "flow"])
def test_samples_of_a_class_have_its_weights_and_moments(sde, sampler):
    """Class 1: a third in its first component, two thirds in the other, and none elsewhere."""
    y = drawn(*SAMPLERS[sampler], guided(sde, "b"))
    expected = of_class(sde, 1).law
    # four standard errors, and what the model of the class itself makes of the same draws
    same = drawn(*SAMPLERS[sampler], of_class(sde, 1))
    own = torch.softmax(ExactClassifier(VE(), expected, [0, 1]).log_probs(y, double(0.0)), 1).mean(0)
    assert float(own[0]) == pytest.approx(1 / 3, abs=0.04)
    torch.testing.assert_close(y.mean(0), expected.mean, rtol=0, atol=0.04)
    torch.testing.assert_close(torch.cov(y.T), expected.covariance, rtol=0, atol=0.04)
    torch.testing.assert_close(y.mean(0), same.mean(0), rtol=0, atol=0.02)


@pytest.mark.parametrize("sde", [s for s in ALL if type(s) not in map(type, FIVE)], ids=name)
@pytest.mark.parametrize("sampler", ["ancestral", "unipc"])
def test_and_so_with_other_sdes_and_samplers(sde, sampler):
    y, expected = drawn(*SAMPLERS[sampler], guided(sde, 1), count=1000), of_class(sde, 1).law
    torch.testing.assert_close(y.mean(0), expected.mean, rtol=0, atol=0.08)
    torch.testing.assert_close(torch.cov(y.T), expected.covariance, rtol=0, atol=0.08)


def test_and_so_with_steps_of_each_samples_own():
    y, expected = drawn(AdaptiveSDE(5e-2), 0, guided(VP(), 1), count=200), of_class(VP(), 1).law
    torch.testing.assert_close(y.mean(0), expected.mean, rtol=0, atol=0.15)
    torch.testing.assert_close(torch.cov(y.T), expected.covariance, rtol=0, atol=0.15)


@pytest.mark.parametrize("sde", [s for s in ALL if not isinstance(s, DDPM | SMLD)], ids=name)
def test_likelihood_of_a_class(sde):
    """The density of the class at t_min to 1e-4 nats, with a label for each datum."""
    x = law().sample(6, torch.Generator().manual_seed(5))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    start, end = double(sde.t_min), double(sde.T)

    class Ends:
        def log_prob(self, x):
            each = [of_class(sde, int(y)).marginal(end).log_prob(x[i : i + 1]) for i, y in enumerate(labels)]
            return torch.cat(each)

    result = log_likelihood(guided(sde, labels), x, prior=Ends(), tol=1e-7)
    expected = [of_class(sde, int(y)).marginal(start).log_prob(x[i : i + 1]) for i, y in enumerate(labels)]
    torch.testing.assert_close(result.log_prob, torch.cat(expected), rtol=0, atol=1e-4)


def test_codes_come_back():
    x, model = law().sample(5, torch.Generator().manual_seed(5)), guided(VP(), 1, 2.0)
    torch.testing.assert_close(decode(model, encode(model, x, tol=1e-7), tol=1e-7), x, rtol=0, atol=1e-4)


def test_labels_of_each_sample_do_not_depend_on_batch_mates():
    labels = torch.tensor([0, 1, 2, 1, 0, 2, 2])
    whole, noise = guided(VP(), labels, 2.0), Noise(0, range(7))
    x = noise.normal((2,), torch.float64)
    for sampler in (ProbabilityFlow(1e-2), AdaptiveSDE(0.1)):
        together = sampler.sample(whole, x, Noise(0, range(7)))
        for i in range(0, 7, 2):
            alone = sampler.sample(guided(VP(), int(labels[i]), 2.0), x[i : i + 1], Noise(0, [i]))
            torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-8)
    rows = torch.tensor([5, 1])
    torch.testing.assert_close(whole.select(rows).score(x[rows], double(0.3)), whole.score(x, double(0.3))[rows])
    one = guided(VP(), 1)
    assert one.select(rows) is one


@pytest.mark.parametrize("size", [3, 64])
def test_labels_of_each_sample_go_with_it_in_every_batch(size):
    """Likelihoods, codes, samples and posteriors of many are those of each alone."""
    labels = torch.tensor([0, 1, 2, 1])
    whole, generator = guided(VP(), labels), torch.Generator().manual_seed(5)
    x = torch.cat([ExactClassifier(VP(), law(), LABELS).law_of(int(k)).sample(1, generator) for k in labels])
    together = sf.log_likelihood(whole, x, exact=True, batch_size=size, tol=1e-6).log_prob
    codes = sf.encode(whole, x, batch_size=size, tol=1e-6)
    torch.testing.assert_close(sf.decode(whole, codes, batch_size=size, tol=1e-6), x, rtol=0, atol=1e-3)
    drawn = sf.sample(whole, 4, first=5, steps=10, batch_size=size)
    mask = sf.Mask(torch.tensor([True, False]))

    def posteriors(model):
        options = {"std": 0.1, "n": 2, "steps": 10, "batch_size": size, "particles": 2}
        return [sf.posterior(model, mask, mask.apply(x), method=m, **options) for m in ("mmps", "smc", "replacement")]

    found = posteriors(whole)
    for i, label in enumerate(labels.tolist()):
        alone, part = guided(VP(), label), x[i : i + 1]
        for mine, own in (
            (together[i], sf.log_likelihood(alone, part, exact=True, tol=1e-6).log_prob[0]),
            (codes[i], sf.encode(alone, part, tol=1e-6)[0]),
            (drawn[i], sf.sample(alone, 1, first=5 + i, steps=10)[0]),
            *((mine[i], own[i]) for mine, own in zip(found, posteriors(alone), strict=True)),
        ):
            torch.testing.assert_close(mine, own, rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="4 labels, and a sample of number 4: bind one label, or one for each"):
        sf.sample(whole, 5)


@pytest.mark.usefixtures("unchecked")
def test_labels_that_are_none_are_refused():
    for label in (3, -1, "d", "7", 1.5):
        with pytest.raises(ValueError, match=rf"label {label}, expected 0 to 2 or one of a, b, c"):
            guided(VP(), label)
    with pytest.raises(ValueError, match=r"labels \[0, 3\], expected 0 to 2"):
        guided(VP(), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"2 labels for a batch of 3"):
        guided(VP(), torch.tensor([0, 1])).score(torch.zeros(3, 2), double(0.5))
    with pytest.raises(ValueError, match=r"a classifier for VP.* with a model of VE"):
        ClassifierGuidance(ExactModel(VE(), law()), ExactClassifier(VP(), law(), LABELS), 1)
    with pytest.raises(ValueError, match=r"from noise 2 to 1"):
        Interval(2, 1)
    with pytest.raises(ValueError, match=r"one for each and every class from 0 on"):
        ExactClassifier(VP(), law(), [0, 2, 2, 2])


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_the_gradient_needs_none_of_the_callers(around):
    model, x = guided(VP(), 1), torch.randn(4, 2, dtype=torch.float64)
    expected = model.score(x, double(0.4))
    with around():
        inside = torch.ones(4, 2, dtype=torch.float64) * x
        value = model.score(inside, double(0.4))
    assert not value.requires_grad
    torch.testing.assert_close(value, expected.detach())


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_gain_is_the_scale(scale):
    x, t = torch.randn(4, 2, dtype=torch.float64), double(0.4)
    plain, one = ExactModel(VP(), law()), guided(VP(), 1)
    for view, value in views(guided(VP(), 1, scale), x, t).items():
        a, b = views(plain, x, t)[view], views(one, x, t)[view]
        torch.testing.assert_close(value, a + scale * (b - a), msg=view)


def test_guidance_keeps_to_its_interval():
    sde, interval = EDM(), Interval(0.5, 2.0)
    plain, model = ExactModel(sde, law()), guided(sde, 1, 2.0, interval)
    x = torch.randn(4, 2, dtype=torch.float64)
    t = torch.tensor([0.1, 0.5, 1.9, 4.0], dtype=torch.float64)
    for view, value in views(model, x, t).items():
        expected = torch.where(
            torch.tensor([False, True, True, False])[:, None],
            views(guided(sde, 1, 2.0), x, t)[view],
            views(plain, x, t)[view],
        )
        torch.testing.assert_close(value, expected, msg=view)

    class Watched(ExactClassifier):
        seen = 0

        def forward(self, x, t):
            Watched.seen += 1
            return super().forward(x, t)

    model.classifier = Watched(sde, law(), LABELS)
    model.score(x, double(4.0))
    assert Watched.seen == 0
    model.score(x, double(1.0))
    assert Watched.seen == 1


def test_a_bad_classifier_moves_a_model_as_bayes_says():
    """A classifier of any form: the score gains its gradient."""

    class Linear(Classifier):
        sde, classes = VP(), 2

        def log_probs(self, x, t):
            return torch.nn.functional.logsigmoid(torch.stack([-x[:, 0], x[:, 0]], 1))

    x = torch.tensor([[0.7, 0.1]], dtype=torch.float64)
    gained = ClassifierGuidance(ExactModel(VP(), law()), Linear(), 1, 2.0).score(x, double(0.3))
    gained = gained - ExactModel(VP(), law()).score(x, double(0.3))
    torch.testing.assert_close(gained, torch.tensor([[2 / (1 + math.exp(0.7)), 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("sde", ALL, ids=name)
def test_classifier_free_guidance_is_guidance_by_the_implied_classifier(sde):
    for scale in (0.0, 0.4, 1.0, 2.5):
        contrast = Contrast(of_class(sde, 1), ExactModel(sde, law()), scale)
        by_gradient = guided(sde, 1, scale)
        for moment in map(double, times(sde)):
            x = noisy(sde, moment, law())
            expected = views(by_gradient, x, moment)
            for view, value in views(contrast, x, moment).items():
                size = float(expected[view].abs().max())
                torch.testing.assert_close(value, expected[view], rtol=1e-5, atol=1e-5 * size, msg=view)


def test_autoguidance_of_gaussians_is_as_in_closed_form():
    """A sharp model against a blurred one: mean kept, the score's slope -1/W_1 exaggerated to -(w/W_1 - (w-1)/W_2)."""
    one, two = (
        ExactModel(VE(), GaussianMixture(torch.full((1, 1), 0.5).double(), variances=torch.full((1, 1), v).double()))
        for v in (0.1, 0.4)
    )
    x, t = torch.tensor([[1.2]], dtype=torch.float64), double(0.6)
    variances = [v + float(VE().sigma(t)) ** 2 for v in (0.1, 0.4)]
    expected = -(2 / variances[0] - 1 / variances[1]) * (1.2 - 0.5)
    assert float(Contrast(one, two, 2.0).score(x, t)) == pytest.approx(expected)


def test_contrast_keeps_to_its_interval_and_asks_the_other_only_there():
    sde = EDM()
    one, other = of_class(sde, 1), ExactModel(sde, law())
    model = Contrast(one, other, 3.0, Interval(0.5, 2.0))
    x, t = torch.randn(2, 2, dtype=torch.float64), torch.tensor([0.1, 1.0], dtype=torch.float64)
    expected = torch.stack([one.score(x, t)[0], Contrast(one, other, 3.0).score(x, t)[1]])
    torch.testing.assert_close(model.score(x, t), expected)
    with count_evaluations(model) as inside:
        model.score(x, double(1.0))
    with count_evaluations(model) as outside:
        model.score(x, double(4.0))
    assert (inside.forward, outside.forward) == (4, 2)
    with pytest.raises(ValueError, match="of different SDEs"):
        Contrast(one, ExactModel(VP(), law()), 2.0)
    with pytest.raises(ValueError, match="of different shapes"):
        Contrast(one, ExactModel(sde, law(3)), 2.0)


def test_contrast_selects_rows_of_both():
    labels = torch.tensor([0, 1, 2])
    model = Contrast(guided(VP(), labels), guided(VP(), labels.flip(0)), 2.0)
    x, rows = torch.randn(3, 2, dtype=torch.float64), torch.tensor([2])
    torch.testing.assert_close(model.select(rows).score(x[rows], double(0.3)), model.score(x, double(0.3))[rows])


def test_evaluations_are_those_of_the_model():
    model = guided(VP(), torch.tensor([0, 1, 2]))
    x = torch.randn(3, 2, dtype=torch.float64)
    with count_evaluations(model) as evaluations:
        run(UniPC(2), model, x, logsnr(VP(), 7), noise=Noise(0, range(3)))
    assert (evaluations.forward, evaluations.backward) == (24, 0)
    with count_evaluations(model) as evaluations:
        result = log_likelihood(model, x, Noise(0, range(3)).rademacher((2, 2), x.dtype), tol=1e-2)
    assert result.log_prob.isfinite().all()
    assert evaluations.backward == 2 * evaluations.forward
