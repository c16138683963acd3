"""Files that are no attack and no model: each is refused in one line that names the file.

Small ones cost little, whatever they say of their size.
"""

import zipfile

import pytest
import torch
from parity import COMMITTED, parity_config
from published_edm import EDMPrecond, dumps

import scorefield as sf
from scorefield.checkpoint import CheckpointError, load_model, save_model
from scorefield.convert import ConversionError
from scorefield.convert.edm_networks import read_module
from scorefield.convert.pickled import parse
from scorefield.convert.reference_file import read_checkpoint
from scorefield.nn.weightless import weightless
from scorefield.recipes import load_recipe
from scorefield.recipes.build import build

HUGE = 2**63


def refused(path, **options):
    with pytest.raises(ConversionError) as caught:
        sf.load(path, device="cpu", **options)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert len(message) < 500
    return message


def network():
    torch.manual_seed(0)
    return EDMPrecond(16, 3, model_channels=8, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[])


def pickled(tmp_path, theirs):
    path = tmp_path / "network.pkl"
    path.write_bytes(dumps({"ema": theirs}))
    return path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resample_filter", 5),
        ("resample_filter", None),
        ("resample_filter", []),
        ("encoder_type", [1]),
        ("embedding_type", [1]),
        ("model_channels", HUGE),
        ("model_channels", 2**40),
        ("channel_mult", [2**40, 1]),
        ("img_resolution", HUGE),
        ("attn_resolutions", 16),
    ],
)
def test_settings_of_a_pickled_network(tmp_path, key, value) -> None:
    theirs = network()
    theirs.model._init_kwargs[key] = value
    refused(pickled(tmp_path, theirs))


class Call:
    """An object that pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (HUGE, (2,), (1,)),
        (0, (HUGE, 0), (1, 1)),
        (0, (2,), (HUGE,)),
        (0, (2, 1), (1, 10**30)),
        (0, Call(torch.Size), (1,)),
        (0, (1,) * 10_000, (1,) * 10_000),
        ([], (2,), (1,)),
    ],
)
def test_tensors_of_a_pickled_network(tmp_path, offset, size, stride) -> None:
    theirs = network()
    storage = torch.storage.TypedStorage(wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32)
    tensor = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})
    theirs.model._parameters["extra"] = tensor
    refused(pickled(tmp_path, theirs))


def test_modules_nested_as_deep_as_a_pickle_can(tmp_path) -> None:
    opened = b"ctorch.nn.modules.container\nModuleDict\n)\x81}X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00a"
    theirs = network()
    theirs.model._modules["deep"] = "a long way down"
    content = dumps({"ema": theirs}, protocol=3)
    text = b"X\x0f\x00\x00\x00a long way down"
    assert content.count(text) == 1
    path = tmp_path / "network.pkl"
    path.write_bytes(content.replace(text, opened * 5000 + b"N" + b"ssb" * 5000))
    assert "nested too deep" in refused(path)


@pytest.mark.parametrize("name", [7, "a" * 300])
def test_names_of_a_pickled_network(tmp_path, name) -> None:
    theirs = network()
    theirs.model._buffers[name] = torch.zeros(1)
    assert "whose name is no name" in refused(pickled(tmp_path, theirs))


def test_a_list_that_a_pickle_refers_to_often_is_not_copied() -> None:
    items, name = b"](K\x01K\x02e\x94", b"cbuiltins\nset\n\x94"
    first, _, *sets = parse(b"\x80\x04(" + items + name + b"h\x01h\x00\x85R" * 3 + b"t.", "it")
    assert len(sets) == 3
    assert all(made is first for made in sets)
    pairs, name = b"](K\x01K\x02\x86e\x94", b"ccollections\nOrderedDict\n\x94"
    first, _, *calls = parse(b"\x80\x04(" + pairs + name + b"h\x01h\x00\x85R" * 3 + b"t.", "it")
    assert all(call.arguments[0] is first for call in calls)


def test_references_to_one_storage_are_views_of_it(tmp_path) -> None:
    theirs = network()
    storage = torch.storage.TypedStorage(wrap_storage=torch.zeros(1000).untyped_storage(), dtype=torch.float32)
    function, arguments = storage.__reduce__()
    once = Call(function, *arguments)
    for i in range(50):
        theirs.model._parameters[f"extra{i}"] = Call(torch._utils._rebuild_tensor_v2, once, 0, (1000,), (1,), False, {})
    path = pickled(tmp_path, theirs)
    tensors = read_module(parse(path.read_bytes(), "it")["ema"], "ema").child("model").tensors()
    assert len({tensors[f"extra{i}"].data_ptr() for i in range(50)}) == 1
    assert "left over: SongUNet.extra0" in refused(path)


@pytest.mark.parametrize("part", ["_parameters", "_buffers", "_modules"])
def test_parts_that_modules_share(tmp_path, part) -> None:
    theirs = network()
    theirs.model.map_layer1.__dict__[part] = theirs.model.map_layer0.__dict__[part] | {"more": None}
    theirs.model.map_layer0.__dict__[part] = theirs.model.map_layer1.__dict__[part]
    assert f"{part} is already part of the network" in refused(pickled(tmp_path, theirs))


def test_a_wide_network_without_the_weights_for_it_takes_no_memory(tmp_path) -> None:
    save_model(build(load_recipe("table", ["data.shape=[3]", "model.width=8", "model.depth=1"])), tmp_path / "wide")
    path = tmp_path / "wide" / "model.json"
    path.write_text(path.read_text().replace('"width": 8', '"width": 200000'))
    with pytest.raises(CheckpointError, match=r"of another shape: .* instead of \(200000,"):
        load_model(tmp_path / "wide")
    theirs = network()
    theirs.model._init_kwargs["model_channels"] = 80_000
    assert "of another shape" in refused(pickled(tmp_path, theirs))


@pytest.mark.parametrize("name", ["ve/ncsnv2/cifar10", "ve/cifar10_ncsnpp_continuous", "vp/ddpm/cifar10"])
def test_networks_without_weights_have_no_numbers_at_all(name) -> None:
    with weightless():
        wide = build(load_recipe(name, ["model.channels=100000000"])).network
    assert {tensor.device.type for tensor in (*wide.parameters(), *wide.buffers())} == {"meta"}


PUBLISHED = COMMITTED / "ve_cifar10_ncsnpp_continuous"
CONFIG = parity_config(PUBLISHED)
CHECKPOINT = PUBLISHED / "checkpoint.pth"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("module.sigmas", torch.zeros(1).expand(10**11), "sigmas, are no numbers"),
        ("module.sigmas", torch.full((3,), float("nan")), "sde.sigma_max 50 instead of nan"),
        ("module.sigmas", torch.tensor(3.0), "sde.sigma_max 50 instead of 3"),
        ("module.all_modules.99.NIN_0.W", torch.zeros(1, 1).expand(10**6, 10**6), "left over"),
        ("module.all_modules.8.NIN_0.W", torch.zeros(1, 1).expand(10**6, 10**6), "of another shape"),
        ("module.all_modules.8.NIN_0.W", torch.zeros(8, 8).to_sparse(), "of another kind"),
    ],
)
def test_tensors_larger_than_their_memory(tmp_path, name, value, message) -> None:
    torch.save({**read_checkpoint(CHECKPOINT), name: value}, tmp_path / "state.pth")
    assert message in refused(tmp_path / "state.pth", config=CONFIG)


def test_weights_that_share_memory_to_look_many(tmp_path) -> None:
    state = read_checkpoint(CHECKPOINT)
    ones = {name: torch.ones(()).expand(value.shape) for name, value in state.items()}
    torch.save({**ones, "module.sigmas": state["module.sigmas"]}, tmp_path / "state.pth")
    assert "share memory with each other" in refused(tmp_path / "state.pth", config=CONFIG)


def test_files_that_are_compressed(tmp_path) -> None:
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "stored.pth")
    deflated = zipfile.ZipFile(tmp_path / "deflated.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "stored.pth") as stored, deflated:
        for name in stored.namelist():
            deflated.writestr(name, stored.read(name))
    assert read_checkpoint(tmp_path / "stored.pth")
    with pytest.raises(ConversionError, match=r"deflated\.pth .* it is compressed, to be unpacked to 400\d\d\d bytes"):
        read_checkpoint(tmp_path / "deflated.pth")
