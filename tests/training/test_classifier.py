"""Classifiers of noisy data: they learn the exact posterior, go on where they stopped, and come back from disk."""

import pytest
import torch
from cases import images
from safetensors.torch import load_file

import scorefield as sf
from scorefield.checkpoint import CheckpointError, load_model, save_classifier, save_model
from scorefield.data import Source
from scorefield.exact import ExactClassifier, GaussianMixture
from scorefield.guidance import ClassifierGuidance, Contrast
from scorefield.recipes import RecipeError, load_recipe
from scorefield.recipes.build import BESIDE, build
from scorefield.recipes.build_classifier import build_classifier, classifier_recipe
from scorefield.training import TrainingError, train_classifier
from scorefield.training.accuracy import accuracy

LAW = GaussianMixture(torch.tensor([[-0.7, 0.0], [0.5, 0.4], [0.4, -0.6]]), variances=torch.full((3, 2), 0.05))


class Points(Source):
    """Draws of a mixture, labelled with their component."""

    name, shape, levels, classes = "points", (2,), None, 3

    def __init__(self, count: int = 3000) -> None:
        self.y = torch.arange(count) % 3
        generator = torch.Generator().manual_seed(0)
        self.x = LAW.means[self.y] + 0.05**0.5 * torch.randn(count, 2, generator=generator)

    def __len__(self) -> int:
        return len(self.y)

    def item(self, index: int):
        return self.x[index]

    def label(self, index: int) -> int:
        return int(self.y[index])


def recipe(*overrides: str, names=()):
    small = ["model.width=32", "model.depth=1", "training.steps=6", "training.checkpoint_every=2", "training.ema=0.5"]
    return classifier_recipe(load_recipe("table"), 3, names=names, overrides=[*small, *overrides])


def test_a_classifier_learns_the_posterior() -> None:
    long = ["model.width=64", "training.steps=800", "training.batch_size=128", "training.lr=3e-3", "training.ema=0.99"]
    trained = train_classifier(recipe(*long), Points()).model
    exact = ExactClassifier(trained.sde, LAW, [0, 1, 2])
    x0 = LAW.sample(2000, torch.Generator().manual_seed(1))
    for moment in (0.05, 0.2, 0.4, 0.7):
        t = torch.tensor(moment)
        z = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
        x = trained.sde.alpha(t) * x0 + trained.sde.sigma(t) * z
        expected, found = exact.log_probs(x, t), trained.log_probs(x, t).detach()
        divergence = (expected.exp() * (expected - found)).sum(1).mean()
        assert float(divergence) < 0.02, moment
        assert float((expected.exp() - found.exp()).abs().mean()) < 0.05, moment


def test_a_resumed_training_ends_with_the_same_weights(tmp_path) -> None:
    source, even = Points(100), "training.decay=0"
    train_classifier(recipe(even), source, tmp_path / "whole")
    train_classifier(recipe(even, "training.steps=4"), source, tmp_path / "parts")
    train_classifier(recipe(even), source, tmp_path / "parts")
    first, second = (load_file(tmp_path / name / "state" / "000000006.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(TrainingError, match=r"model\.width = 32, now 16"):
        train_classifier(recipe(even, "model.width=16"), source, tmp_path / "parts")
    with pytest.raises(TrainingError, match=r"holds a training"):
        train_classifier(recipe(even), source, tmp_path / "parts", resume=False)


def test_a_classifier_comes_back_and_is_found_beside_its_model(tmp_path) -> None:
    model = build(load_recipe("table", ["model.width=8", "model.depth=1"]))
    save_model(model, tmp_path)
    with pytest.raises(ValueError, match="no classifier lies beside it"):
        load_model(tmp_path).given(label=1)
    classifier = train_classifier(recipe(names=("a", "b", "c")), Points(60)).model
    save_classifier(classifier, tmp_path / BESIDE, steps=6)
    x, t = torch.randn(4, 2), torch.tensor(0.3)
    loaded = load_model(tmp_path)
    assert loaded.classifier is not None
    assert (loaded.classifier.names, loaded.classifier.metadata["steps"]) == (("a", "b", "c"), 6)
    assert torch.equal(loaded.classifier.log_probs(x, t), classifier.log_probs(x, t))
    guided = loaded.given(label="c", scale=2.0, interval=(0.1, 5.0))
    assert isinstance(guided, ClassifierGuidance)
    assert torch.equal(guided.score(x, t), loaded.given(label=2, scale=2.0).score(x, t))
    assert not torch.equal(guided.score(x, t), loaded.score(x, t))
    with pytest.raises(ValueError, match=r"label d, expected 0 to 2 or one of a, b, c"):
        loaded.given(label="d")
    with pytest.raises(ValueError, match=r"condition lable given, expected label="):
        loaded.given(lable=1)
    loaded.save_pretrained(tmp_path / "copy")
    assert torch.equal(load_model(tmp_path / "copy").given(label=1).score(x, t), loaded.given(label=1).score(x, t))
    assert not any("classifier" in name for name in loaded.state_dict())
    (tmp_path / BESIDE / "model.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(tmp_path).given(label=1)


def test_a_model_trained_with_labels_is_guided_by_itself() -> None:
    model = build(images()[0]).requires_grad_(False).eval()
    torch.nn.init.normal_(model.network.head.conv.weight)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor(0.3)
    plain, labelled, guided = model.score(x, t), model.given(label=1).score(x, t), model.given(label=1, scale=3.0)
    assert isinstance(guided, Contrast)
    torch.testing.assert_close(guided.score(x, t), plain + 3 * (labelled - plain))


def test_a_classifier_takes_the_dtype_of_its_model_and_must_be_of_its_data() -> None:
    model = sf.load("mnist")
    expected = sf.sample(model, 2, label=3, budget=3)
    double = sf.load("mnist").double()
    assert sf.sample(double, 2, label=3, budget=3).dtype == torch.float64
    torch.testing.assert_close(sf.sample(double, 2, label=3, budget=3).float(), expected, rtol=0, atol=1e-2)
    with pytest.raises(ValueError, match=r"a classifier of data \(1, 28, 28\) with a model of data \(3, 32, 32\)"):
        sf.load("cifar10").given(label=3, classifier=model.classifier)


def test_accuracy_falls_with_noise() -> None:
    long = ["training.steps=300", "training.lr=3e-3", "training.ema=0.9"]
    rows = accuracy(train_classifier(recipe(*long), Points()).model, Points(300), (0.0, 0.5, 20.0))
    assert rows[0].accuracy > 0.9 > rows[1].accuracy > rows[2].accuracy
    assert rows[0].cross_entropy < rows[1].cross_entropy < rows[2].cross_entropy


@pytest.mark.parametrize("network", ["encoder", "wide_resnet"])
@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_networks_of_images_can_be_differentiated_twice_and_know_no_batch(network, pooling) -> None:
    changes = [f"model.network={network}"]
    if network == "encoder":
        changes += [f"model.pooling={pooling}", "model.channels=8", "model.patch=2", "model.attention=[4]"]
        changes += ["model.multipliers=[1,2]", "model.head_channels=8"]
    else:
        changes += ["model.depth=10", "model.width=1", "model.nonlinearity=silu"]
    model = load_recipe("mnist", ["data.shape=[1,8,8]"])
    classifier = build_classifier(classifier_recipe(model, 3, overrides=changes)).eval()
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, t = torch.randn(3, 1, 8, 8, requires_grad=True), torch.tensor([0.1, 0.4, 0.8])
    found = classifier.log_probs(x, t)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(3))
    alone = torch.cat([classifier.log_probs(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(found[:, 1].sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert float(second.abs().max()) > 0


def test_recipes_that_cannot_be_say_why() -> None:
    model = load_recipe("mnist")
    for change, words in (
        ("model.chanels=4", "did you mean channels"),
        ("sde.name=ve", "the rest is the model's"),
        ("model.network=resnet", "model.network = 'resnet'"),
    ):
        with pytest.raises(RecipeError, match=words):
            classifier_recipe(model, 10, overrides=[change])
    with pytest.raises(RecipeError, match="expected 6 n"):
        build_classifier(classifier_recipe(model, 10, overrides=["model.network=wide_resnet", "model.depth=11"]))
    with pytest.raises(TrainingError, match=r"set data\.classes"):
        train_classifier(classifier_recipe(load_recipe("table"), 4), Points(10))
