"""Files that attack every reader: each is refused in one line, and nothing of it ran.

What an attack would do is to make a file; that it does not appear is checked after each. The attacks are pickles
written by hand, instruction by instruction, since Python's pickler makes only honest ones.
"""

import json
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import COMMITTED
from published_edm import EDMPrecond as Network
from published_edm import SongUNet, dumps

import scorefield as sf
from scorefield.checkpoint import CheckpointError, read_checkpoint, save_model
from scorefield.convert import ConversionError
from scorefield.data import DataError, open_data

CONFIG = COMMITTED / "ve_cifar10_ncsnpp_continuous" / "config.json"


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The command that an attack would run; the file that it makes must not be there in the end."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('canary', 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "touch canary"
    assert not (tmp_path / "canary").exists()
    assert "evil" not in sys.modules


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def named(module: str, name: str) -> bytes:
    """GLOBAL: push a function or class by its name."""
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def stacked(module: str, name: str) -> bytes:
    """STACK_GLOBAL: the same, with dots in the name that are followed."""
    return text(module) + text(name) + b"\x93"


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def attacks(command: str) -> dict[str, bytes]:
    """Bodies of pickles that leave one value on the stack, and run the command on the way if they are trusted."""
    python = f"__import__('os').system({command!r})"
    system = called(named("os", "system"), text(command))
    getattr_system = called(
        named("builtins", "getattr"), called(named("builtins", "__import__"), text("os")), text("system")
    )
    return {
        "os": system,
        "posix": called(named("posix", "system"), text(command)),
        "nt": called(named("nt", "system"), text(command)),
        "subprocess": called(named("subprocess", "getoutput"), text(command)),
        "popen": called(named("subprocess", "Popen"), b"](" + b"".join(map(text, command.split())) + b"e"),
        "new popen": named("subprocess", "Popen") + b"(" + text(command) + b"t\x81",
        "eval": called(named("builtins", "eval"), text(python)),
        "eval2": called(named("__builtin__", "eval"), text(python)),
        "exec": called(named("builtins", "exec"), text(python)),
        "getattr": called(getattr_system, text(command)),
        "import": named("evil", "anything"),
        "runpy": called(named("runpy", "run_path"), text("evil.py")),
        "partial": called(called(named("functools", "partial"), named("os", "system"), text(command))),
        "attrgetter": called(named("operator", "attrgetter"), text("system")),
        "dotted": called(stacked("torch.serialization", "os.system"), text(command)),
        "dotted2": called(stacked("torch", "serialization.os.system"), text(command)),
        "dotted3": called(stacked("collections", "OrderedDict.__init__.__globals__"), text(command)),
        "dotted4": called(named("torch._utils", "_rebuild_tensor_v2.__globals__.get"), text("os")),
        "copyreg": called(
            named("copyreg", "_reconstructor"), named("os", "_wrap_close"), named("builtins", "object"), b"N"
        ),
        "copyreg2": called(named("copyreg", "add_extension"), text("os"), text("system"), b"K\x07"),
        "extension": b"\x82\x07" + b"(" + text(command) + b"tR",
        "instance": b"(" + text(command) + b"ios\nsystem\n",
        "object": b"(" + named("os", "system") + text(command) + b"o",
        "persistent": text(command) + b"Q",
        "setstate": named("torch.nn.modules.container", "ModuleDict")
        + b")\x81}"
        + text("__setstate__")
        + named("os", "system")
        + b"sb",
        "build": named("collections", "OrderedDict") + b")R(" + text("__class__") + named("os", "system") + b"db",
        "build2": named("collections", "OrderedDict") + b"N(" + text("__reduce__") + named("os", "system") + b"d\x86b",
        "pickle": called(named("pickle", "loads"), text(command)),
        "torch": called(named("torch", "load"), text("evil.pth")),
        "hub": called(named("torch.hub", "load"), text("."), text("evil")),
        "numpy": called(named("numpy", "load"), text("evil.npy")),
        "numpy2": called(named("numpy.core.multiarray", "_reconstruct"), named("os", "system"), b"(K\x00t", text("b")),
        "scalar": called(named("numpy.core.multiarray", "scalar"), called(named("numpy", "dtype"), text("O")), system),
        "codecs": called(named("_codecs", "encode"), text(command), text("latin1")),
        "set": b"(" + system + b"\x91",
        "key": b"}" + system + text("value") + b"s",
        "left behind": system + b"0" + b"}",
        "in memory": system + b"q\x050}" + text("model") + b"h\x05s",
        "in a tuple": b"(" + system + b"K\x01K\x02t",
    }


NAMES = list(attacks(""))


def body(kind: str, command: str) -> bytes:
    """A whole pickle of protocol 4 with an attack in a dictionary beside an honest entry."""
    return b"\x80\x04}" + text("ema") + attacks(command)[kind] + b"s" + text("step") + b"K\x01s."


def zipped(path: Path, pickled: bytes) -> Path:
    """A file of today's `torch.save` with another pickle in it."""
    torch.save({"step": 1}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, pickled if name.endswith("data.pkl") else content)
    return path


def legacy(path: Path, pickled: bytes) -> Path:
    """A file of the `torch.save` before PyTorch 1.6: a few pickles in a row."""
    torch.save({"step": 1}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    honest = pickle.dumps({"step": 1}, 2)
    assert content.count(honest) == 1
    path.write_bytes(content.replace(honest, pickled.replace(b"\x80\x04", b"\x80\x02", 1)))
    return path


def refused(path: Path, error: type[Exception] = ConversionError, **options: object) -> str:
    with pytest.raises(error) as caught:
        sf.load(path, device="cpu", **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    assert "weights_only" not in message
    assert path.name in message
    return message


@pytest.mark.parametrize("kind", NAMES)
def test_pth_files(tmp_path, canary, kind) -> None:
    for make in (zipped, legacy):
        refused(make(tmp_path / "checkpoint.pth", body(kind, canary)), config=CONFIG)


@pytest.mark.parametrize("kind", NAMES)
def test_network_pickles(tmp_path, canary, kind) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(body(kind, canary))
    refused(path)


@pytest.mark.parametrize("kind", NAMES[::3])
def test_storages_in_network_pickles(tmp_path, canary, kind) -> None:
    """A storage is a file of its own in the pickle, with pickles of its own."""
    payload = legacy(tmp_path / "storage", body(kind, canary)).read_bytes()
    theirs = small_network()
    theirs.model.extra = Evil(payload)
    path = tmp_path / "network.pkl"
    path.write_bytes(dumps({"ema": theirs}))
    sf.load(path, device="cpu")  # what is no weight is not looked at
    theirs.model._parameters["extra"] = theirs.model.__dict__.pop("extra")
    path.write_bytes(dumps({"ema": theirs}))
    refused(path)


def small_network() -> Network:
    torch.manual_seed(0)
    return Network(16, 3, model_channels=8, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[])


class Evil:
    """A tensor whose storage is a file of somebody's making."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (Storage(self.payload), 0, (2,), (1,), False, {})


class Storage:
    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.payload,)


@pytest.mark.parametrize("kind", NAMES[::6])
def test_diffusers_bins(tmp_path, canary, kind) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(UNET))
    (folder / "scheduler_config.json").write_text(json.dumps({"_class_name": "DDPMScheduler"}))
    for make in (zipped, legacy):
        path = make(folder / "diffusion_pytorch_model.bin", body(kind, canary))
        with pytest.raises(ConversionError, match=r"diffusion_pytorch_model\.bin") as caught:
            sf.load(folder, device="cpu")
        assert "\n" not in str(caught.value)
        path.unlink()


UNET = {
    "_class_name": "UNet2DModel",
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [32, 32],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_eps": 1e-6,
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "downsample_padding": 0,
}


def test_the_attacks_are_real(tmp_path) -> None:
    """Python's own unpickler runs them, in a process of its own."""
    real = (
        "os",
        "posix",
        "subprocess",
        "popen",
        "eval",
        "exec",
        "getattr",
        "instance",
        "object",
        "set",
        "key",
    )
    (tmp_path / "evil.py").write_text("open('import', 'w').close()\n")
    for kind in (*real, "import"):
        (tmp_path / f"{kind}.pkl").write_bytes(body(kind, f"touch {kind}"))
    program = """
import pathlib, pickle
for path in pathlib.Path().glob("*.pkl"):
    try:
        pickle.loads(path.read_bytes())
    except Exception as error:
        print(path, repr(error))
"""
    place = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": "."}}
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, **place)
    made = {path.name for path in tmp_path.iterdir()}
    assert made >= {"import", *real}


def test_the_source_code_of_a_network_is_not_executed(tmp_path, canary, monkeypatch) -> None:
    monkeypatch.setattr("published_edm.SOURCE", "import os; os.system('touch canary')\nclass SongUNet: pass\n")
    path = tmp_path / "network.pkl"
    theirs = small_network()
    path.write_bytes(dumps({"ema": theirs}))
    assert b"touch canary" in path.read_bytes()
    sf.load(path, device="cpu")
    theirs.__class__ = type("system", (Network,), {})
    path.write_bytes(dumps({"ema": theirs}))
    refused(path)


def test_tensors_that_lie_about_their_size(tmp_path, canary) -> None:
    theirs = small_network()
    storage = torch.zeros(4).untyped_storage()

    class Liar(Evil):
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(self.payload), *self.shape, False, {})

    honest = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True).__reduce__()[1][0]
    path = tmp_path / "network.pkl"
    for shape in [
        (0, (2**40,), (0,)),
        (0, (8,), (1,)),
        (-1, (2,), (1,)),
        (2, (4,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (2.0,), (1,)),
    ]:
        liar = Liar(honest)
        liar.shape = shape
        theirs.model._parameters["extra"] = liar
        path.write_bytes(dumps({"ema": theirs}))
        refused(path)


def test_networks_that_contain_themselves(tmp_path, canary) -> None:
    theirs = small_network()
    theirs.model._modules["again"] = theirs.model.map_layer0
    path = tmp_path / "network.pkl"
    path.write_bytes(dumps({"ema": theirs}))
    assert "already part of the network" in refused(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04" + b"(" * 10_000 + b"t" * 9_999 + b".",
        b"\x80\x04" + b")" + b"\x85" * 30_000 + b".",
        b"\x80\x04]" + b"\x94h\x00a" * 10_000 + b".",
        b"\x80\x04" + b"X\xff\xff\xff\xff" + b"short.",
        b"\x80\x04" + b"\x8e" + b"\xff" * 7 + b"\x7f" + b"short.",
        b"\x80\x04\x8b\xff\xff\xff\x7f1.",
        b"\x80\x04K\x01.",
        b"\x80\x04.",
        b"\x80\x04N0N00.",
        b"\x80\x04e.",
        b"\x80\x04h\x07.",
        b"\x80\x04}K\x01\x85K\x02s.",
        b"\x80\x07N.",
        b"\x80\x04}X\x03\x00\x00\x00emaNs",
    ],
    ids=range(14),
)
def test_pickles_that_are_odd(tmp_path, canary, content) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("make", [zipped, legacy, None], ids=["zip", "legacy", "network"])
def test_damaged_files_are_read_or_refused(tmp_path, canary, make) -> None:
    """Bytes changed, lost and added anywhere: an error of ours, or none."""
    path, numbers = tmp_path / "file", random.Random(0)
    if make is None:
        content = dumps({"ema": Network(8, 1, model_channels=8, channel_mult=[1], num_blocks=1, attn_resolutions=[])})
    else:
        content = make(path, pickle.dumps({"model": {"module.weight": 1.0}, "ema": None}, 2)).read_bytes()
    options = {} if make is None else {"config": CONFIG}
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(numbers.choice([1, 2, 5])):
            place = numbers.randrange(min(len(damaged), 4000))
            damaged[place : place + numbers.randrange(3)] = numbers.randbytes(numbers.randrange(3))
        path.write_bytes(damaged)
        with suppress(ConversionError):
            sf.load(path, device="cpu", **options)


def test_torchscript_is_refused(tmp_path, canary) -> None:
    with zipfile.ZipFile(zipped(tmp_path / "checkpoint.pth", body("os", canary)), "a") as archive:
        archive.writestr("checkpoint/constants.pkl", body("os", canary))
        archive.writestr("checkpoint/code/__torch__.py", "import os\nos.system('touch canary')\n")
    refused(tmp_path / "checkpoint.pth", config=CONFIG)


def test_object_arrays_are_refused(tmp_path, canary) -> None:
    class Array:
        def __reduce__(self):
            return os.system, (canary,)

    np.save(tmp_path / "data.npy", np.array([Array()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "data.npz", samples=np.array([Array()], dtype=object))
    for name in ("data.npy", "data.npz"):
        with pytest.raises(DataError):
            open_data(str(tmp_path / name))


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    from scorefield.recipes import load_recipe
    from scorefield.recipes.build import build

    save_model(build(load_recipe("table", ["model.width=8", "model.depth=1"])), tmp_path / "ours")
    return tmp_path / "ours"


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 10**9) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 100)
        + b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,4]}}'.ljust(100)
        + b"\0\0\0\0",
        struct.pack("<Q", 100)
        + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4000000]}}'.ljust(100)
        + b"\0\0\0\0",
        b"\x80\x04cposix\nsystem\nX\x0c\x00\x00\x00touch canary\x85R.",
    ],
    ids=["endless", "long", "list", "large tensor", "far tensor", "pickle"],
)
def test_weights_that_are_no_safetensors(ours, canary, header) -> None:
    (ours / "weights.safetensors").write_bytes(header)
    message = refused(ours, CheckpointError)
    assert "weights.safetensors" in message


@pytest.mark.parametrize("depth", [1_000_000])
@pytest.mark.parametrize("name", ["model.json", "config.json"])
def test_json_of_great_depth(ours, tmp_path, canary, name, depth) -> None:
    if name == "model.json":
        (ours / name).write_text("[" * depth)
        refused(ours, CheckpointError)
        with pytest.raises(CheckpointError):
            read_checkpoint(ours)
    else:
        (tmp_path / name).write_text("[" * depth)
        path = COMMITTED / "ve_cifar10_ncsnpp_continuous" / "checkpoint.pth"
        with pytest.raises(ConversionError, match=r"config\.json is not JSON"):
            sf.load(path, config=tmp_path / name)


def test_links_lead_to_files_like_any_other(tmp_path, ours, canary) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password: 1234\n")
    for name in ("checkpoint.pth", "network.pkl"):
        (tmp_path / name).symlink_to(secret)
        assert "1234" not in refused(tmp_path / name, **({"config": CONFIG} if name.endswith("pth") else {}))
    (ours / "weights.safetensors").unlink()
    (ours / "weights.safetensors").symlink_to(secret)
    assert "1234" not in refused(ours, CheckpointError)
    loop = tmp_path / "loop.pth"
    loop.symlink_to(loop)
    refused(loop, CheckpointError)


def test_modules_of_the_file_are_not_in_the_way() -> None:
    """The generator of these tests left nothing behind under the names of the published code."""
    assert "torch_utils" not in sys.modules
    assert SongUNet.__module__ == "published_edm"
