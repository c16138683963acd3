import pickle

import pytest
import torch
from parity import COMMITTED, parity_config, parity_folders

from scorefield.convert import ConversionError, convert_unet, read_checkpoint, unet_options
from scorefield.nn import UNet

NAME = "ve_cifar10_ncsnpp_continuous"
CHECKPOINT = COMMITTED / NAME / "checkpoint.pth"
CONFIG = parity_config(COMMITTED / NAME)


class Trap:
    """What a malicious file would run when it is unpickled."""

    def __reduce__(self):
        return (print, ("unpickled",))


def edited(tmp_path, **changes):
    """The checkpoint with entries replaced; None removes one."""
    checkpoint = {"model": read_checkpoint(CHECKPOINT, ema=False), "step": 1, **changes}
    path = tmp_path / "checkpoint.pth"
    torch.save({key: value for key, value in checkpoint.items() if value is not None}, path)
    return path


def test_names_of_both_generations_of_numpy_are_read() -> None:
    for folder in parity_folders():
        assert read_checkpoint(folder / "checkpoint.pth", ema=False)


def test_reading_leaves_no_permissions_behind() -> None:
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(CHECKPOINT)
    assert set(torch.serialization.get_safe_globals()) == before


def test_raw_and_averaged_weights_have_the_same_names_and_shapes() -> None:
    raw, averaged = read_checkpoint(CHECKPOINT, ema=False), read_checkpoint(CHECKPOINT)
    assert list(raw) == list(averaged)
    for name, value in raw.items():
        assert value.shape == averaged[name].shape
        constant = name in ("module.sigmas", "module.all_modules.0.W")
        assert torch.equal(value, averaged[name]) == constant, name


def test_a_file_that_runs_code_is_refused(tmp_path, capsys) -> None:
    with pytest.raises(ConversionError, match="not a checkpoint that can be read safely"):
        read_checkpoint(edited(tmp_path, trap=Trap()))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps({"model": 1}, 2)], ids=["empty", "junk", "pickle"])
def test_another_file_is_refused(tmp_path, content) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(ConversionError, match=r"file\.pth"):
        read_checkpoint(tmp_path / "file.pth")


def test_a_missing_file_says_so(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "absent.pth")


def test_checkpoints_without_what_is_asked_for(tmp_path) -> None:
    with pytest.raises(ConversionError, match="no 'model' entry"):
        read_checkpoint(edited(tmp_path, model=None))
    with pytest.raises(ConversionError, match=r"no averaged weights for 156 trainable ones; read .* ema=False"):
        read_checkpoint(edited(tmp_path))
    with pytest.raises(ConversionError, match="2 averaged weights for 156 trainable ones"):
        read_checkpoint(edited(tmp_path, ema={"shadow_params": [torch.zeros(1)] * 2}))
    with pytest.raises(ConversionError, match=r"another shape for module\.all_modules\.1\.weight"):
        read_checkpoint(edited(tmp_path, ema={"shadow_params": [torch.zeros(1)] * 156}))
    assert read_checkpoint(edited(tmp_path), ema=False)


def test_options() -> None:
    options = unet_options(CONFIG)
    assert options["channels"] == 8
    assert options["multipliers"] == (1, 2)
    assert options["resample"] == "fir"
    assert options["progressive_input"] == "residual"
    assert options["nonlinearity"] == "silu"
    assert options["centered"] is False
    UNet(**options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.name": "ncsnv2"}, "model.name is 'ncsnv2'; only networks with 'ncsnpp'"),
        ({"model.name": None}, "model.name is None"),
        ({"model.normalization": "InstanceNorm++"}, "model.normalization is 'InstanceNorm"),
        ({"model.nonlinearity": "gelu"}, "model.nonlinearity is 'gelu'; known are swish, relu"),
        ({"model.nf": None}, "lacks 'model.nf'"),
    ],
    ids=str,
)
def test_configurations_that_no_unet_has(changes, message) -> None:
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    with pytest.raises(ConversionError, match=message):
        unet_options(config)


def test_every_weight_of_the_network_is_made_and_every_weight_of_the_file_is_used() -> None:
    state = read_checkpoint(CHECKPOINT)
    options, converted = convert_unet(state, CONFIG)
    network = UNet(**options)
    assert converted.keys() == network.state_dict().keys()
    assert len(converted) == len(state) - 1
    bare = {name.removeprefix("module."): value for name, value in state.items()}
    assert all(torch.equal(value, converted[name]) for name, value in convert_unet(bare, CONFIG)[1].items())


def test_missing_left_over_and_mis_shaped_weights_are_listed() -> None:
    state = read_checkpoint(CHECKPOINT)
    del state["module.all_modules.3.bias"]
    state["module.all_modules.99.weight"] = torch.zeros(1)
    state["module.all_modules.19.bias"] = torch.zeros(4)
    with pytest.raises(ConversionError) as caught:
        convert_unet(state, CONFIG)
    message = str(caught.value)
    assert "missing: all_modules.3.bias;" in message
    assert "left over: all_modules.99.weight;" in message
    assert "mis-shaped: head.conv.bias (4,) instead of (3,)" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "changes",
    [{"model.nf": 16}, {"model.num_res_blocks": 2}, {"model.conditional": False}, {"model.fir": False}],
    ids=str,
)
def test_another_configuration_is_noticed_where_the_weights_can_tell(changes) -> None:
    state = read_checkpoint(CHECKPOINT)
    with pytest.raises(ConversionError, match="do not fit the configuration"):
        convert_unet(state, {**CONFIG, **changes})
