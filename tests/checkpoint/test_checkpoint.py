import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jaxtyping
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import scorefield as sf
from scorefield import checkpoint
from scorefield.checkpoint import CheckpointError, load_model, read_checkpoint, save_model
from scorefield.recipes import load_recipe
from scorefield.recipes.build import RecipeModel, build

SMALL = ["data.shape=[3]", "model.width=8", "model.depth=1"]


def small_model(seed: int = 0) -> RecipeModel:
    torch.manual_seed(seed)
    model = build(load_recipe("table", SMALL))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def output(model: RecipeModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().denoise(torch.linspace(-1, 1, 6).reshape(2, 3), torch.tensor(0.3))


def test_a_model_comes_back_exactly(tmp_path: Path) -> None:
    model = small_model()
    save_model(model, tmp_path / "m", steps=3, note="ä")
    loaded = load_model(tmp_path / "m")
    assert torch.equal(output(loaded), output(model))
    assert loaded.recipe == model.recipe
    assert not loaded.training
    assert read_checkpoint(tmp_path / "m").metadata == {"steps": 3, "note": "ä"}
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["model.json", "weights.safetensors"]


def test_a_model_saves_itself_with_what_is_known_of_it(tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path / "first", steps=3)
    loaded = load_model(tmp_path / "first")
    loaded.save_pretrained(tmp_path / "second", images=7)
    again = load_model(tmp_path / "second")
    assert torch.equal(output(again), output(model))
    assert (dict(loaded.metadata), dict(again.metadata)) == ({"steps": 3}, {"steps": 3, "images": 7})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_16_bits_load_as_float32_and_buffers_stay_exact(tmp_path: Path, dtype: torch.dtype) -> None:
    model = small_model()
    save_model(model, tmp_path, dtype=dtype)
    loaded = load_model(tmp_path)
    for (name, mine), theirs in zip(model.network.named_parameters(), loaded.network.parameters(), strict=True):
        assert theirs.dtype == torch.float32, name
        assert torch.equal(theirs, mine.to(dtype).float()), name
    for (name, mine), theirs in zip(model.network.named_buffers(), loaded.network.buffers(), strict=True):
        assert torch.equal(theirs, mine), name
    stored = load_file(tmp_path / "weights.safetensors")
    assert stored["linear_in.weight"].dtype == dtype


@pytest.mark.parametrize("key", ["recipe", "metadata"])
@pytest.mark.parametrize("value", [[], [1], None, "x", 3])
def test_a_description_of_another_form_is_damaged(tmp_path: Path, key: str, value: object) -> None:
    save_model(small_model(), tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    fails(tmp_path, f"{path}: its {key} is {value!r}, expected an object")
    with pytest.raises(CheckpointError, match=f"its {key} is"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("width", [2**40, 2**63])
def test_a_network_larger_than_any_memory_is_refused(tmp_path: Path, width: int) -> None:
    save_model(small_model(), tmp_path)
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace('"width": 8', f'"width": {width}'))
    with pytest.raises(ValueError, match="a network mlp of these sizes cannot be made"):
        load_model(tmp_path)


def test_weights_that_16_bits_cannot_hold_are_refused(tmp_path: Path) -> None:
    model = small_model()
    model.network.linear_in.bias.data[3] = 65_520.0
    with pytest.raises(CheckpointError, match=r"linear_in\.bias has numbers beyond those of torch\.float16"):
        save_model(model, tmp_path / "half", dtype=torch.float16)
    assert not (tmp_path / "half").exists()
    save_model(model, tmp_path / "brain", dtype=torch.bfloat16)
    assert load_model(tmp_path / "brain").network.linear_in.bias[3] == 65_536.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    model = small_model()
    model.network.linear_in.bias.data[3] = value
    save_model(model, tmp_path, dtype=torch.float16)
    fails(tmp_path, "has NaN or infinity in linear_in.bias; take an earlier save of the training")


def test_an_unknown_precision_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    save_model(small_model(), tmp_path)
    with pytest.raises(ValueError, match="precision='bfloat16' is unknown; choose one of 'fp32', 'bf16'"):
        sf.load(tmp_path, device="cpu", precision="bfloat16")


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    save_model(small_model(), tmp_path)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_model(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_a_bundled_name_wins_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle"
    save_model(small_model(1), bundle / "digits")
    monkeypatch.setattr(checkpoint, "_bundle", lambda: bundle)
    monkeypatch.chdir(tmp_path)
    save_model(small_model(2), "digits")
    assert torch.equal(output(load_model("digits")), output(small_model(1)))
    assert torch.equal(output(load_model("./digits")), output(small_model(2)))
    assert torch.equal(output(load_model(Path("digits"))), output(small_model(2)))
    assert checkpoint.bundled_models() == ("digits",)


def fails(folder: Path, *parts: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def rewrite(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    path = folder / "weights.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    weights = {**load_file(path), **change}
    save_file({name: w for name, w in weights.items() if w is not None}, path, metadata)


def test_missing_left_over_and_misshaped_weights_are_named(tmp_path: Path) -> None:
    save_model(small_model(), tmp_path)
    rewrite(tmp_path, {"linear_in.weight": None, "stray": torch.zeros(1), "linear_in.bias": torch.zeros(7)})
    fails(tmp_path, "missing: linear_in.weight", "left over: stray", "linear_in.bias (7,)", "(8,)")


def test_a_training_that_has_snapshots_only_is_no_folder_of_the_hub(tmp_path: Path) -> None:
    for number in range(2):
        save_model(small_model(), tmp_path / "run" / "snapshots" / f"{number}")
    with pytest.raises(CheckpointError, match=r"no model .*run: it has no weights\.safetensors"):
        sf.load(tmp_path / "run", device="cpu")
    assert sf.load(tmp_path / "run" / "snapshots" / "1", device="cpu").space.shape == (3,)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights(tmp_path: Path, keep: int) -> None:
    save_model(small_model(), tmp_path)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    fails(tmp_path, str(path), "damaged")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not JSON"),
        ('{"format": 1', "not JSON"),
        ("[1]", "no format"),
        ('{"format": "1"}', "no format"),
        ('{"format": 999}', "newer scorefield"),
    ],
)
def test_a_damaged_description(tmp_path: Path, text: str, expected: str) -> None:
    save_model(small_model(), tmp_path)
    (tmp_path / "model.json").write_text(text)
    fails(tmp_path, str(tmp_path / "model.json"), expected)


def test_a_description_that_is_not_text(tmp_path: Path) -> None:
    save_model(small_model(), tmp_path)
    (tmp_path / "model.json").write_bytes(b"\xff\xfe\x00")
    fails(tmp_path, "model.json")


def test_an_unknown_key_in_the_recipe_is_named(tmp_path: Path) -> None:
    save_model(small_model(), tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    content["recipe"]["model"]["wdith"] = 3
    (tmp_path / "model.json").write_text(json.dumps(content))
    fails(tmp_path, "unknown key model.wdith", "did you mean width")


def test_weights_and_description_of_different_saves_are_refused(tmp_path: Path) -> None:
    save_model(small_model(1), tmp_path / "a")
    save_model(small_model(2), tmp_path / "b")
    (tmp_path / "b" / "model.json").replace(tmp_path / "a" / "model.json")
    fails(tmp_path / "a", "one save")


def test_no_model(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", "nowhere", "is not there")
    fails(tmp_path, "has no weights.safetensors")


def test_metadata_that_are_not_numbers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    save_model(small_model(1), tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        save_model(small_model(2), tmp_path, bits_per_dim=float("nan"))
    assert torch.equal(output(load_model(tmp_path)), output(small_model(1)))


class Stop(BaseException):
    """A kill between two writes."""


@pytest.mark.parametrize("writes", range(8))
def test_a_save_that_ends_anywhere_leaves_the_old_or_the_new_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    save_model(small_model(1), tmp_path, number=1)
    left = writes
    real = os.replace

    def replace(source: object, target: object, **_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Stop
        real(str(source), str(target))
        left -= 1
        if left < 0:
            raise Stop

    monkeypatch.setattr(Path, "replace", replace)
    try:
        save_model(small_model(2), tmp_path, number=2)
    except Stop:
        monkeypatch.undo()
    number = read_checkpoint(tmp_path).metadata["number"]
    assert torch.equal(output(load_model(tmp_path)), output(small_model(number)))
    monkeypatch.undo()
    save_model(small_model(3), tmp_path, number=3)
    assert read_checkpoint(tmp_path).metadata["number"] == 3
    assert torch.equal(output(load_model(tmp_path)), output(small_model(3)))


SAVER = """
import itertools, sys, torch
from scorefield.checkpoint import save_model
from scorefield.recipes import load_recipe
from scorefield.recipes.build import build
model = build(load_recipe("table", {overrides!r}))
for number in itertools.count():
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, number)
    save_model(model, sys.argv[1], number=number)
"""


def test_a_killed_process_leaves_weights_and_description_of_one_save(tmp_path: Path) -> None:
    program = SAVER.format(overrides=SMALL)
    for delay in (0.0, 0.013, 0.029):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "m")])
        start = time.monotonic()
        while not (tmp_path / "m" / "model.json").is_file() and time.monotonic() < start + 30:
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        number = read_checkpoint(tmp_path / "m").metadata["number"]
        weights = load_model(tmp_path / "m").network.parameters()
        assert all(bool((weight == number).all()) for weight in weights)
        (tmp_path / "m" / "model.json").unlink()
        (tmp_path / "m" / "weights.safetensors").unlink()


def test_a_full_disk_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(small_model(1), tmp_path)
    before = {path.name for path in tmp_path.iterdir()}

    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        save_model(small_model(2), tmp_path)
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} == before
    assert torch.equal(output(load_model(tmp_path)), output(small_model(1)))
