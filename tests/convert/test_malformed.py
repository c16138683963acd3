"""Files that are no attack and no model: each is refused in one line that names the file."""

import pytest
import torch
from published_edm import EDMPrecond, dumps

import scorefield as sf
from scorefield.convert import ConversionError

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
