import pytest
import torch
from parity import parity_arrays, parity_config, parity_folders
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scorefield.convert.reference import read_reference
from scorefield.nn import UNet

RECORDED = [folder for folder in parity_folders() if parity_config(folder)["model.name"] == "ncsnpp"]
NCSNPP = {"embedding": "fourier", "progressive_input": "residual", "resample": "fir", "centered": False}
SMALL = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "size": 8, "dropout": 0.0}
VARIANTS = [
    {},
    NCSNPP,
    {"residual": "ddpm"},
    {"residual": "ddpm", "resample": "fir"},
    {"residual": "ddpm", "resample_with_conv": False, "embedding": "none"},
    {"progressive": "output_skip", "progressive_input": "input_skip", "resample": "fir"},
    {"progressive": "output_skip", "progressive_input": "input_skip", "combine": "cat"},
    {"progressive": "residual", "progressive_input": "residual", "rescale": False},
    {"progressive": "residual", "resample": "fir", "nonlinearity": "elu", "classes": 3},
]


def randomized(network: nn.Module) -> nn.Module:
    """The network with weights of which none is zero, so that everything has an effect."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in network.parameters():
            fan = weight[0].numel() if weight.ndim > 1 else 4
            weight.copy_(torch.randn(weight.shape, generator=generator) / fan**0.5)
    return network.eval()


def small(in_channels: int = 1, **options) -> UNet:
    torch.manual_seed(0)
    return randomized(UNet(in_channels, **{**SMALL, **options}))


def inputs(batch: int = 3, channels: int = 1, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(batch, channels, size, size, generator=generator), torch.rand(batch, generator=generator)


def test_the_three_published_architectures_are_recorded() -> None:
    names = {folder.name for folder in RECORDED}
    assert {
        "vp_cifar10_ddpmpp_continuous",
        "ve_cifar10_ncsnpp_continuous",
        "subvp_cifar10_ddpmpp_continuous",
    } <= names


@pytest.mark.parametrize("ema", [False, True], ids=["raw", "ema"])
@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)
def test_recorded_networks(folder, ema) -> None:
    config, arrays = parity_config(folder), parity_arrays(folder)
    network = read_reference(folder / "checkpoint.pth", config=config, ema=ema).network
    level = torch.tensor(arrays["cond"]).float()
    fourier = config["model.embedding_type"] == "fourier"
    with torch.no_grad():
        output = network(torch.tensor(arrays["x"]), level.log() if fourier else level)
    if config["model.scale_by_sigma"]:
        output = output / level[:, None, None, None]
    expected = torch.tensor(arrays["out_ema" if ema else "out_raw"])
    error = (output - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    bound = torch.full_like(error, 1e-5)
    if fourier:
        bound[level.argmin()] = 1e-4
    assert (error < bound).all(), error


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 61_804_419),
        (NCSNPP, 62_758_915),
        ({**NCSNPP, "blocks": 8}, 107_587_075),
    ],
)
def test_published_numbers_of_weights(options, count) -> None:
    with torch.device("meta"):
        network = UNet(**options)
    assert sum(value.numel() for value in network.state_dict().values()) == count


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("shape", [(1, 8, 8), (5, 12, 4)])
def test_every_variant_takes_any_channels_and_sizes(options, shape) -> None:
    network = small(shape[0], **options)
    x = torch.randn(2, *shape)
    assert network(x, torch.rand(2)).shape == x.shape


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_weight_has_an_effect(options) -> None:
    network = small(**options)
    x, c = inputs()
    network(x, c, torch.tensor([0, 1, 3]) if "classes" in options else None).square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert name.endswith("key.bias") or weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_samples_do_not_see_each_other(options) -> None:
    network = small(**options)
    x, c = inputs()
    others = torch.cat([x[:1], 9 * torch.randn(2, 1, 8, 8)])
    with torch.no_grad():
        alone = network(x[:1], c[:1])
        assert torch.allclose(network(x, c)[:1], alone, rtol=1e-5, atol=1e-5)
        assert torch.allclose(network(others, c)[:1], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("options", [VARIANTS[0], VARIANTS[2], VARIANTS[6], {"decoder_attention": "every"}])
def test_what_repeats_along_an_axis_goes_through_the_network_without_that_axis(dims, options) -> None:
    """With kernels that are zero off their middle along the new axis, everything stays constant along it: statistics
    and attention over more pixels are those over fewer. (Filters with zeros at the borders are another matter.)"""
    options = {**options, "resample_with_conv": False}
    flat, deep = small(dims=dims - 1, **options), small(dims=dims, **options)
    weights = flat.state_dict()
    for name, tensor in deep.state_dict().items():
        if tensor.shape == weights[name].shape:
            tensor.copy_(weights[name])
        else:
            tensor.zero_().select(2, tensor.shape[2] // 2).copy_(weights[name])
    _, c = inputs()
    x = torch.randn(3, 1, *[8] * (dims - 1), generator=torch.Generator().manual_seed(4))
    repeated = x.unsqueeze(2).expand(3, 1, *[8] * dims)
    with torch.no_grad():
        torch.testing.assert_close(deep(repeated, c), flat(x, c).unsqueeze(2).expand_as(repeated), atol=1e-5, rtol=1e-4)


def test_a_batch_of_nothing() -> None:
    assert small()(torch.zeros(0, 1, 8, 8), torch.zeros(0)).shape == (0, 1, 8, 8)


def test_uncentered_images_are_stretched() -> None:
    x, c = inputs()
    state = (centered := small()).state_dict()
    uncentered = small(centered=False)
    uncentered.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(uncentered((x + 1) / 2, c), centered(x, c), atol=1e-4)


def test_the_noise_level_matters_unless_it_is_not_embedded() -> None:
    x, c = inputs()
    with torch.no_grad():
        assert not torch.allclose(small()(x, c), small()(x, c + 1))
        assert torch.equal(small(embedding="none")(x, c), small(embedding="none")(x, c + 1))


def test_labels() -> None:
    network = small(classes=3)
    x, c = inputs()
    with torch.no_grad():
        none = network(x, c)
        assert torch.equal(none, network(x, c, torch.full((3,), 3)))
        outputs = [none, *(network(x, c, torch.full((3,), label)) for label in range(3))]
        mixed = network(x, c, torch.tensor([2, 3, 0]))
    for i in range(4):
        for j in range(i):
            assert not torch.allclose(outputs[i], outputs[j], rtol=1e-3)
    assert torch.allclose(mixed[0], outputs[3][0], atol=1e-5)
    assert torch.allclose(mixed[1], none[1], atol=1e-5)
    with pytest.raises(ValueError, match=r"labels must lie in 0…2"):
        network(x, c, torch.tensor([0, 1, 4]))
    with pytest.raises(ValueError, match=r"labels must lie in 0…2"):
        network(x, c, torch.tensor([0, -1, 2]))
    with pytest.raises(ValueError, match="without classes"):
        small()(x, c, torch.tensor([0, 1, 2]))


def test_float64_agrees_with_float32() -> None:
    x, c = inputs()
    network = small(**NCSNPP)
    with torch.no_grad():
        single = network(x, c)
        exact = network.double()(x.double(), c.double())
    assert exact.dtype == torch.float64
    assert (single - exact).norm() < 1e-5 * exact.norm()


def test_bfloat16_autocast() -> None:
    network = small()
    x, _ = inputs()
    c = torch.tensor([997.0, 998.0, 999.0])
    with torch.no_grad():
        exact = network(x, c)
        with torch.autocast("cpu", torch.bfloat16):
            output = network(x, c)
            embedded = network.condition.level(c)
        assert output.dtype == torch.float32
        assert 1e-4 < (output - exact).norm() / exact.norm() < 0.05
        assert torch.equal(embedded, network.condition.level(c))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_cuda_agrees_with_cpu(options) -> None:
    network = small(**options)
    x, c = inputs()
    with torch.no_grad():
        exact = network.double()(x.double(), c.double())
        output = network.to("cuda")(x.double().cuda(), c.double().cuda()).cpu()
    assert torch.allclose(output, exact, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_vector_jacobian_product(options) -> None:
    network = small(**options).double()
    x, c = (value.double() for value in inputs(batch=2))
    v, direction = torch.randn_like(x), torch.randn_like(x)
    _, pullback = torch.func.vjp(lambda value: network(value, c), x)
    (gradient,) = pullback(v)
    step = 1e-5
    with torch.no_grad():
        slope = (network(x + step * direction, c) - network(x - step * direction, c)) / (2 * step)
    assert torch.allclose((gradient * direction).sum(), (v * slope).sum(), rtol=1e-6)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_checkpointing_changes_no_gradient(options) -> None:
    gradients = []
    for checkpointing in (False, True):
        network = small(**{**options, "dropout": 0.5, "checkpointing": checkpointing}).train()
        torch.manual_seed(1)
        x, c = inputs()
        network(x.requires_grad_(), c).square().sum().backward()
        gradients.append([x.grad, *(weight.grad for weight in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_second_derivative_with_the_plain_attention_kernel() -> None:
    network = small().double()
    x, c = (value.double() for value in inputs(batch=1))
    x.requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        (gradient,) = torch.autograd.grad(network(x, c).square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert second.isfinite().all()
    assert second.abs().sum() > 0


def test_channels_last_gives_the_same() -> None:
    network = small(**NCSNPP)
    x, c = inputs()
    with torch.no_grad():
        plain = network(x, c)
        network = network.to(memory_format=torch.channels_last)
        assert torch.allclose(network(x.to(memory_format=torch.channels_last), c), plain, atol=1e-5)


def test_initialization() -> None:
    torch.manual_seed(0)
    network = UNet(1, channels=32, multipliers=(1, 2), blocks=1, attention=(4,), size=8)
    x, c = inputs()
    assert network(x, c).abs().max() < 1e-3
    block = network.encoder[0].blocks[0]
    assert block.conv1.weight.var().item() == pytest.approx(1 / (9 * 32), rel=0.05)
    assert block.condition.weight.var().item() == pytest.approx(1 / ((32 + 128) / 2), rel=0.05)
    assert block.conv2.weight.var().item() == pytest.approx(1e-10 / (9 * 32), rel=0.05)
    attention = network.encoder[1].attentions[0]
    assert attention.query.weight.var().item() == pytest.approx(0.1 / 64, rel=0.05)
    assert all(not weight.any() for name, weight in network.named_parameters() if name.endswith("bias"))
    shortcuts = [
        UNet(1, channels=32, multipliers=(1, 2), blocks=1, attention=(), size=8, residual=kind)
        .encoder[1]
        .blocks[0]
        .shortcut
        for kind in ("biggan", "ddpm")
    ]
    assert shortcuts[0].weight.var().item() == pytest.approx(1 / 48, rel=0.1)
    assert shortcuts[1].weight.var().item() == pytest.approx(0.1 / 48, rel=0.1)
    unscaled = UNet(1, **{**SMALL, "init_scale": 1.0})
    assert unscaled(x, c).abs().max() > 1e-2


def test_dropout_acts_only_while_training() -> None:
    network = small(dropout=0.5)
    x, c = inputs()
    with torch.no_grad():
        assert torch.equal(network(x, c), network(x, c))
        network.train()
        assert not torch.equal(network(x, c), network(x, c))


def test_blocks_and_attention_per_level() -> None:
    network = UNet(1, channels=8, multipliers=(1, 2, 3), blocks=(1, 2, 3), attention=(7,), size=28)
    assert [len(level.blocks) for level in network.encoder] == [1, 2, 3]
    assert [len(level.blocks) for level in network.decoder] == [2, 3, 4]
    assert [len(level.attentions) for level in network.encoder] == [0, 0, 3]
    assert [len(level.attentions) > 0 for level in network.decoder] == [False, False, True]
    assert network(torch.zeros(1, 1, 28, 28), torch.zeros(1)).shape == (1, 1, 28, 28)


def test_a_state_dict_is_all_that_there_is_to_a_network() -> None:
    x, c = inputs()
    torch.manual_seed(1)
    first = small(**NCSNPP)
    torch.manual_seed(2)
    second = UNet(1, **SMALL, **NCSNPP).eval()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x, c), second(x, c))
    assert "condition.level.frequencies" in first.state_dict()
    names = set(small().state_dict())
    assert "condition.level.frequencies" not in names
    assert {
        "encoder.1.attentions.0.query.weight",
        "middle.block1.norm1.weight",
        "decoder.0.blocks.1.conv2.bias",
    } <= names
    assert not [name for name in names if "kernel" in name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": (16,)}, r"levels of sizes \(8, 4\)"),
        ({"size": 9}, r"size=9 cannot be halved at 2 levels; use a multiple of 2"),
        ({"multipliers": ()}, "0 levels"),
        ({"blocks": (1, 2, 3)}, "one for each of the 2 levels"),
        ({"blocks": 0}, "at least 1"),
        ({"residual": "resnet"}, "residual='resnet' is unknown; choose one of 'biggan', 'ddpm'"),
        ({"resample": "bicubic"}, "resample='bicubic' is unknown"),
        ({"progressive": "skip"}, "progressive='skip' is unknown"),
        ({"progressive_input": "skip"}, "progressive_input='skip' is unknown"),
        ({"combine": "add"}, "combine='add' is unknown"),
        ({"nonlinearity": "gelu"}, "nonlinearity='gelu' is unknown"),
        ({"embedding": "sinusoidal"}, "embedding='sinusoidal' is unknown"),
        ({"classes": -1}, "classes=-1"),
        ({"resample": "fir", "fir_taps": (1, 2, 1)}, "even number of taps"),
    ],
)
def test_options_that_do_not_fit(unchecked, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(1, **{**SMALL, **options})


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_one_number_per_sample(unchecked, batch) -> None:
    x, c = inputs()
    with pytest.raises(ValueError, match=rf"c has the shape \({batch},\); it needs one number per sample: \(3,\)"):
        small()(x, torch.zeros(batch))
    with pytest.raises(ValueError, match="label has the shape"):
        small(classes=2)(x, c, torch.zeros(batch, dtype=torch.int64))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 8, 8), "images have 3 channels; this network was built for 1"),
        ((2, 1, 9, 8), "images of 9×8 pixels; every side must be a multiple of 2"),
        ((2, 1, 8, 7), "images of 8×7 pixels"),
    ],
)
def test_images_that_do_not_fit(shape, message) -> None:
    with pytest.raises(ValueError, match=message):
        small()(torch.zeros(shape), torch.zeros(2))
