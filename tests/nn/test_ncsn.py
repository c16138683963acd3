import pytest
import torch
from parity import parity_arrays, parity_config, parity_folders
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, elu, interpolate, max_pool2d

from scorefield.convert.ncsn import reference_names
from scorefield.convert.reference import read_checkpoint
from scorefield.nn import NCSN, NCSNv2
from scorefield.nn.normalization import ConditionalInstanceNormPlus, InstanceNormPlus

STAGES = {"ncsnv2_64": 4, "ncsnv2_128": 5, "ncsnv2_256": 6}
SMALL = [lambda: NCSN(1, levels=5, channels=4), *(lambda s=s: NCSNv2(1, channels=4, stages=s) for s in (4, 5, 6))]
NAMES = ["ncsn", *STAGES]
RECORDED = [folder for folder in parity_folders() if parity_config(folder)["model.name"] in NAMES]


@pytest.fixture(params=SMALL, ids=NAMES)
def network(request) -> nn.Module:
    torch.manual_seed(0)
    network = request.param()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    return network.eval()


def inputs(batch: int = 3, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(batch, 1, size, size, generator=generator), torch.arange(batch).float()


@pytest.mark.parametrize("ema", [False, True], ids=["raw", "ema"])
@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)
def test_recorded_networks(folder, ema) -> None:
    config, arrays = parity_config(folder), parity_arrays(folder)
    options = {"channels": config["model.nf"], "centered": config["data.centered"]}
    name = config["model.name"]
    network = NCSNv2(stages=STAGES[name], **options) if name in STAGES else NCSN(levels=10, **options)
    weights = read_checkpoint(folder / "checkpoint.pth", ema=ema)
    names = reference_names(network)
    assert {f"module.{theirs}" for theirs in names.values()} == weights.keys() - {"module.sigmas"}
    network.load_state_dict({ours: weights[f"module.{theirs}"] for ours, theirs in names.items()})
    level = torch.tensor(arrays["cond"])
    with torch.no_grad():
        output = network.eval()(torch.tensor(arrays["x"]), level.float())
    if config["model.scale_by_sigma"]:
        output = output / weights["module.sigmas"][level][:, None, None, None]
    expected = torch.tensor(arrays["out_ema" if ema else "out_raw"])
    error = (output - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    assert (error < 1e-5).all(), error


def normalized(x, weights, name):
    """InstanceNorm++ as in the paper's appendix A, with the variances of the published code."""
    gamma, alpha, beta = (weights[f"{name}.{part}".lstrip(".")] for part in ("gamma", "alpha", "beta"))
    mean = x.mean(dim=(2, 3), keepdim=True)
    means = (mean - mean.mean(dim=1, keepdim=True)) / (mean.var(dim=1, keepdim=True) + 1e-5).sqrt()
    z = (x - mean) / (x.var(dim=(2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    return gamma[:, None, None] * (z + alpha[:, None, None] * means) + beta[:, None, None]


PUBLISHED = {
    4: [("1", 1, "4"), ("2", 1, "3"), ("3", 2, "2"), ("4", 4, "1")],
    5: [("1", 1, "5"), ("2", 1, "4"), ("3", 1, "3"), ("4", 2, "2"), ("5", 4, "1")],
    6: [("1", 1, "5"), ("2", 1, "4"), ("3", 1, "3"), ("31", 1, "31"), ("4", 2, "2"), ("5", 4, "1")],
}
"""The published names of encoder stages, finest first, their dilations, and the names of the decoder's blocks."""


def published(weights, x, layout):
    """NCSNv2 written down once more, in the published names."""

    def conv(x, name, dilation=1):
        weight = weights[f"{name}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return conv2d(x, weight, weights.get(f"{name}.bias"), padding=padding, dilation=dilation)

    def residual(x, name, dilation, halves):
        pooled = ".conv" if halves else ""
        h = conv(elu(normalized(x, weights, f"{name}.normalize1")), f"{name}.conv1", dilation)
        h = conv(elu(normalized(h, weights, f"{name}.normalize2")), f"{name}.conv2{pooled}", dilation)
        if f"{name}.shortcut{pooled}.weight" in weights:
            x = conv(x, f"{name}.shortcut{pooled}", dilation)
        return avg_pool2d(h + x, 2) if halves else h + x

    def units(x, name, count):
        for i in range(1, count + 1):
            x = x + conv(elu(conv(elu(x), f"{name}.{i}_1_conv")), f"{name}.{i}_2_conv")
        return x

    h = conv(2 * x - 1, "begin_conv")
    features = []
    for i, (stage, dilation, _) in enumerate(layout):
        h = residual(h, f"res{stage}.0", dilation, halves=i > 0 and dilation == 1)
        h = residual(h, f"res{stage}.1", dilation, halves=False)
        features.append(h)
    for i, (_, _, block) in reversed(list(enumerate(layout))):
        refined = units(features[i], f"refine{block}.adapt_convs.0", 2)
        if block != "1":
            coarse = conv(units(h, f"refine{block}.adapt_convs.1", 2), f"refine{block}.msf.convs.1")
            coarse = interpolate(coarse, features[i].shape[2:], mode="bilinear", align_corners=True)
            refined = conv(refined, f"refine{block}.msf.convs.0") + coarse
        h = path = elu(refined)
        for j in range(2):
            path = conv(max_pool2d(path, 5, stride=1, padding=2), f"refine{block}.crp.convs.{j}")
            h = h + path
        h = units(h, f"refine{block}.output_convs", 3 if i == 0 else 1)
    return conv(elu(normalized(h, weights, "normalizer")), "end_conv")


@pytest.mark.parametrize("stages", PUBLISHED)
def test_ncsnv2_of_every_size_against_its_published_layers(stages) -> None:
    torch.manual_seed(0)
    network = NCSNv2(2, channels=4, stages=stages).double()
    weights = {theirs: network.state_dict()[ours] for ours, theirs in reference_names(network).items()}
    x = torch.rand(2, 2, 16, 24, dtype=torch.float64)
    expected = published(weights, x, PUBLISHED[stages])
    torch.testing.assert_close(network(x, torch.zeros(2, dtype=torch.float64)), expected)


@pytest.mark.parametrize("size", [2, 3])
def test_conditional_normalization_picks_the_row_of_each_sample(size) -> None:
    torch.manual_seed(0)
    conditional, plain = ConditionalInstanceNormPlus(3, levels=4), InstanceNormPlus(3)
    nn.init.normal_(conditional.table.weight)
    x, level = torch.randn(4, 3, size, size + 1), torch.tensor([3, 0, 3, 1])
    for i in range(4):
        rows = conditional.table.weight[level[i]].detach().reshape(3, 3)
        plain.load_state_dict(dict(zip(("gamma", "alpha", "beta"), rows, strict=True)))
        expected = normalized(x[i : i + 1], plain.state_dict(), "")
        torch.testing.assert_close(conditional(x, level)[i : i + 1], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(plain(x[i : i + 1]), expected, rtol=1e-4, atol=1e-5)


def test_statistics_of_large_means_survive() -> None:
    """In bfloat16 a mean of 100 has no decimals; the statistics do."""
    torch.manual_seed(0)
    norm = InstanceNormPlus(4)
    x = (100 + torch.randn(1, 4, 16, 16)).bfloat16()
    torch.testing.assert_close(norm(x).double(), norm.double()(x.double()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (NCSN, 30_117_635),
        (NCSNv2, 29_694_083),
        (lambda: NCSNv2(stages=5), 83_445_379),
        (lambda: NCSNv2(stages=6), 94_132_611),
    ],
    ids=NAMES,
)
def test_numbers_of_weights_of_the_published_sizes(network, count) -> None:
    with torch.device("meta"):
        built = network()
    assert sum(weight.numel() for weight in built.parameters()) == count == expected_count(built, 128, 3)
    assert not list(built.buffers())


def expected_count(network, n, image) -> int:
    """The number of weights from the shapes of the layers: every stage and block, written as arithmetic."""
    levels = network.levels if isinstance(network, NCSN) else 0
    widths = {4: [n, 2 * n, 2 * n, 2 * n], 5: [n, 2 * n, 2 * n, 4 * n, 4 * n]}
    widths[6] = [n, 2 * n, 2 * n, 2 * n, 4 * n, 4 * n]
    width = widths[4 if levels else len(network.refinenet.encoder)]
    table = 3 * max(levels, 1)
    total = 9 * image * n + n + 9 * n * image + image + table * n
    for i, (a, b) in enumerate(zip([n, *width[:-1]], width, strict=True)):
        dilated = i >= len(width) - 2
        total += 2 * table * a + 9 * a * a + a + 9 * a * b + b
        total += 2 * table * b + 2 * (9 * b * b + b)
        if i > 0:
            total += (9 if dilated else 1) * a * b + b
        inputs = 1 if i == len(width) - 1 else 2
        total += inputs * 4 * (9 * b * b + 3 * levels * b)
        if inputs == 2:
            total += 2 * (9 * b * a + a + 3 * levels * b)
        total += (2 + 2 * (3 if i == 0 else 1)) * (9 * a * a + 3 * levels * a)
    return total


def test_any_channels_and_sizes_that_the_stages_halve(network) -> None:
    x, c = torch.rand(1, 1, 8, 24), torch.zeros(1)
    assert network(x, c).shape == x.shape


@torch.no_grad()
def test_samples_do_not_see_their_batch(network) -> None:
    x, c = inputs()
    together = network(x, c)
    for i in range(len(x)):
        torch.testing.assert_close(network(x[i : i + 1], c[i : i + 1]), together[i : i + 1], rtol=1e-4, atol=1e-5)


def test_every_weight_has_a_gradient(network) -> None:
    x, c = inputs(batch=5)
    network(x, c).square().sum().backward()
    for name, weight in network.named_parameters():
        rows = weight.grad.abs().flatten(1).amax(1) if weight.ndim > 1 else weight.grad.abs()
        assert (rows > 1e-9).all(), name


@torch.no_grad()
def test_only_an_ncsn_is_told_the_noise_level(network) -> None:
    x, c = inputs()
    difference = (network(x, c) - network(x, c.flip(0))).flatten(1).norm(dim=1)
    assert (difference > 0.01).tolist() == [isinstance(network, NCSN), False, isinstance(network, NCSN)]


def test_a_row_of_the_tables_is_one_noise_level() -> None:
    """The gradient of one sample's output reaches the rows of its own level and no other."""
    network = NCSN(1, levels=5, channels=4)
    network(torch.rand(1, 1, 8, 8), torch.tensor([3.0])).sum().backward()
    tables = [module for module in network.modules() if isinstance(module, ConditionalInstanceNormPlus)]
    assert len(tables) == 16 + 28 + 6 + 8 + 12 + 1
    for table in tables:
        assert table.table.weight.grad.abs().amax(1).gt(0).tolist() == [False, False, False, True, False]


@torch.no_grad()
def test_centered_images(network) -> None:
    x, c = inputs()
    expected = network(x, c)
    network.refinenet.centered = True
    torch.testing.assert_close(network(2 * x - 1, c), expected)


@torch.no_grad()
def test_double_precision_and_bfloat16(network) -> None:
    x, c = inputs()
    single = network(x, c)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x, c)
    exact = network.double()(x.double(), c.double())
    assert (single.dtype, half.dtype, exact.dtype) == (torch.float32, torch.float32, torch.float64)
    assert (single - exact).norm() < 1e-5 * exact.norm()
    assert (half - exact).norm() < 0.05 * exact.norm()


def test_on_the_device_of_its_inputs(network) -> None:
    x, c = inputs()
    output = network.to("meta")(x.to("meta"), c.to("meta"))
    assert output.is_meta
    assert output.shape == x.shape


def test_gradient_of_the_input(network) -> None:
    x, c = inputs(batch=1, size=8)
    x = x.double().requires_grad_()
    network.double()
    direction = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad((network(x, c.double()) * direction).sum(), x)
    step = 1e-6 * direction
    with torch.no_grad():
        change = network(x + step, c.double()) - network(x - step, c.double())
    expected = float((change * direction).sum() / 2e-6)
    assert float((slope * direction).sum()) == pytest.approx(expected, rel=1e-5)


def test_it_exports() -> None:
    """The check of noise levels, which looks at values, does not stand in the way of a traced network."""
    network = NCSN(1, levels=5, channels=2).eval()
    arguments = torch.rand(2, 1, 4, 4), torch.tensor([0.0, 4.0])
    exported = torch.export.export(network, arguments).module()
    torch.testing.assert_close(exported(*arguments), network(*arguments))


@pytest.mark.parametrize("nonlinearity", ["relu", "silu", "leaky_relu"])
def test_nonlinearities(nonlinearity) -> None:
    torch.manual_seed(0)
    network = NCSNv2(1, channels=4)
    other = NCSNv2(1, channels=4, nonlinearity=nonlinearity)
    other.load_state_dict(network.state_dict())
    x, c = inputs()
    assert (network(x, c) - other(x, c)).abs().max() > 1e-3


def test_names_are_one_to_one(network) -> None:
    names = reference_names(network)
    assert names.keys() == network.state_dict().keys()
    assert len(set(names.values())) == len(names)


@pytest.mark.usefixtures("unchecked")
def test_errors(network) -> None:
    x, c = inputs()
    label = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="images have 2 channels; this network was built for 1"):
        network(x.repeat(1, 2, 1, 1), c)
    with pytest.raises(ValueError, match=r"images of 16×15 pixels; both sides must be multiples of (2|4|8) for the"):
        network(x[..., 1:], c)
    with pytest.raises(ValueError, match="c has the shape"):
        network(x, c[:1])
    with pytest.raises(ValueError, match="labels were given to an NCSN"):
        network(x, c, label)


@pytest.mark.parametrize("bad", [-1.0, 5.0, 1.5, float("nan")])
def test_noise_levels_that_do_not_exist(bad) -> None:
    with pytest.raises(ValueError, match=r"whole numbers in 0…4 \(0: the largest\), got \[0.0, "):
        NCSN(1, levels=5, channels=2)(torch.rand(2, 1, 8, 8), torch.tensor([0.0, bad]))


def test_options_that_no_network_has(unchecked) -> None:
    with pytest.raises(ValueError, match="channels=1; InstanceNorm"):
        NCSN(channels=1)
    with pytest.raises(ValueError, match="levels=0"):
        NCSN(levels=0)
    with pytest.raises(ValueError, match="stages=3; choose 4"):
        NCSNv2(stages=3)
    with pytest.raises(ValueError, match="nonlinearity='gelu' is unknown"):
        NCSNv2(nonlinearity="gelu")
