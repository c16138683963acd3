import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import images, vectors
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from scorefield.checkpoint import CheckpointError, load_model, read_checkpoint
from scorefield.data import Source, open_data
from scorefield.recipes import Recipe, RecipeError, load_recipe
from scorefield.recipes.build import build
from scorefield.training import TrainingError, train
from scorefield.training.preview import preview_samples

HERE = Path(__file__).parent
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
Case = Callable[..., tuple[Recipe, Source]]


class Interrupted(BaseException):
    """The end of a process, without its cost."""


def interrupt(*_: object) -> Tensor:
    raise Interrupted


def last_state(folder: Path) -> dict[str, Tensor]:
    return load_file(sorted((folder / "state").iterdir())[-1])


def assert_same(one: Path, other: Path) -> None:
    first, second = last_state(one), last_state(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("case", [vectors, images])
def test_a_resumed_training_is_bit_for_bit_the_undisturbed_one(case: Case, tmp_path: Path) -> None:
    train(*case("training.sample_every=3"), tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(*case("training.sample_every=3"), tmp_path / "parts", preview=interrupt)
    torch.manual_seed(17)
    train(*case("training.sample_every=3"), tmp_path / "parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_training_starts_from_given_weights(tmp_path: Path) -> None:
    recipe, source = vectors()
    given = train(recipe, source, tmp_path / "given").model
    still = ["training.lr=1e-12", "training.warmup=0", "training.weight_decay=0"]
    train(*vectors("training.seed=9", "training.steps=1", *still), tmp_path / "on", init=given)
    for name, tensor in given.network.state_dict().items():
        for part in ("network", "average"):
            torch.testing.assert_close(last_state(tmp_path / "on")[f"{part}.{name}"], tensor)
    train(*vectors("training.seed=9", "training.steps=1", *still), tmp_path / "on", init=build(recipe))
    torch.testing.assert_close(last_state(tmp_path / "on")["network.linear_in.weight"], given.network.linear_in.weight)
    with pytest.raises(TrainingError, match=r"parameterization VPrediction, the recipe's is DataPrediction"):
        train(*vectors("model.parameterization=data"), init=given)
    with pytest.raises(TrainingError, match=r"blocks.0.condition.bias \(16,.*give a model of the same network"):
        train(*vectors("model.width=24"), init=given)


def test_some_labels_are_left_out_so_that_a_model_with_classes_knows_what_none_means() -> None:
    def none(dropout: float) -> Tensor:
        trained = train(*images(f"training.label_dropout={dropout}", "training.steps=3")).model
        return trained.network.condition.label.weight[3]

    still = train(*images("training.lr=1e-30")).model.network.condition.label.weight[3]
    assert torch.equal(none(0.0), still)
    assert not torch.equal(none(0.9), still)


def test_a_sampler_that_cannot_be_is_found_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"predictor = none with sde.name = vp"):
        train(*vectors("sampling.predictor=none", "sampling.corrector=langevin"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_snapshot_is_there_before_the_state_that_would_not_make_it_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("scorefield.training.trainer.save_state", interrupt)
    with pytest.raises(Interrupted):
        train(*vectors("training.snapshot_every=2"), tmp_path)
    assert (tmp_path / "snapshots" / "000000002" / "model.json").exists()


def test_training_leaves_the_random_state_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(*vectors())
    assert torch.equal(torch.rand(3), expected)


def test_the_seed_decides_and_so_the_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(*vectors(f"training.seed={seed}"), tmp_path / name)
    assert_same(tmp_path / "a", tmp_path / "b")
    assert not torch.equal(
        last_state(tmp_path / "a")["network.linear_in.weight"], last_state(tmp_path / "c")["network.linear_in.weight"]
    )


def test_the_average_follows_the_weights_by_the_warmed_up_decay(tmp_path: Path) -> None:
    train(*vectors("training.checkpoint_every=1", "training.ema=0.5"), tmp_path)
    before, after = (load_file(path) for path in sorted((tmp_path / "state").iterdir()))
    for name, tensor in after.items():
        if name.startswith("average.") and "frequencies" not in name:
            network = after[name.replace("average.", "network.")]
            torch.testing.assert_close(tensor, 0.5 * before[name] + 0.5 * network)
    train(*vectors("training.checkpoint_every=1", "training.ema=0.9"), tmp_path / "warm")
    before, after = (load_file(path) for path in sorted((tmp_path / "warm" / "state").iterdir()))
    name = "linear_in.weight"
    expected = 11 / 20 * before[f"average.{name}"] + 9 / 20 * after[f"network.{name}"]
    torch.testing.assert_close(after[f"average.{name}"], expected)


def test_every_step_drops_out_other_units(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    real = torch.manual_seed

    def record(seed: int) -> torch.Generator:
        seeds.append(seed)
        return real(seed)

    monkeypatch.setattr(torch, "manual_seed", record)
    train(*vectors())
    assert len(set(seeds)) == 11  # the weights' and one a step


def test_the_run_folder(tmp_path: Path) -> None:
    recipe, source = images("training.sample_every=3")
    done = train(recipe, source, tmp_path / "run", console=Console(file=(tmp_path / "log").open("w")))
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.iterdir()) == [
        "metrics.jsonl",
        "model.json",
        "recipe.yaml",
        "samples",
        "state",
        "weights.safetensors",
    ]
    assert load_recipe(folder) == recipe
    assert [path.name for path in sorted((folder / "samples").iterdir())] == ["000000003.png", "000000006.png"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[1]["lr"] == pytest.approx(recipe.training.lr / 2)
    assert read_checkpoint(folder).metadata == {"steps": 6, "images_seen": 48}
    average = {name: tensor for name, tensor in last_state(folder).items() if name.startswith("average.")}
    for name, tensor in load_model(folder).network.state_dict().items():
        assert torch.equal(tensor, average[f"average.{name}"])
        assert torch.equal(tensor, done.model.network.state_dict()[name])
    assert "step 6: loss" in (tmp_path / "log").read_text()


def test_clipping_scales_the_gradient(tmp_path: Path) -> None:
    # With a huge eps Adam's first step is lr g/eps: linear in the gradient.
    linear = ["training.eps=1e6", "training.lr=1e6", "training.warmup=0", "training.steps=1", "training.decay=0"]
    start = train(*vectors(*linear, "training.lr=1e-30", "training.ema=0")).model
    free = train(*vectors(*linear, "training.clip=0", "training.ema=0"), tmp_path / "free").model
    norm = json.loads((tmp_path / "free" / "metrics.jsonl").read_text())["gradient_norm"]
    clipped = train(*vectors(*linear, f"training.clip={norm / 4}", "training.ema=0")).model
    loose = train(*vectors(*linear, f"training.clip={norm * 4}", "training.ema=0")).model
    for a, b, c, d in zip(*(m.parameters() for m in (start, free, clipped, loose)), strict=True):
        torch.testing.assert_close(c - a, (b - a) / 4, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(d, b)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    case = ["training.lr=1e30", "training.warmup=0", "training.clip=0", "training.checkpoint_every=1"]
    with pytest.raises(
        TrainingError, match=r"step \d+: loss .*learning rate 1e\+30.*not finite.*lower training.lr"
    ) as e:
        train(*vectors(*case), tmp_path)
    assert "\n" not in str(e.value)
    assert read_checkpoint(tmp_path).metadata["steps"] >= 1


def test_nan_in_the_data_stops_before_the_weights_change(tmp_path: Path) -> None:
    recipe, _ = vectors("training.steps=20", "training.checkpoint_every=1")

    class Spoilt(Source):
        name, shape, levels, classes = "spoilt", (2,), None, 0

        def __len__(self) -> int:
            return 100

        def item(self, index: int) -> Tensor:
            return torch.full((2,), float("nan") if index == 50 else 0.5)

        def label(self, index: int) -> int:
            raise NotImplementedError

    with pytest.raises(TrainingError, match="not finite"):
        train(recipe, Spoilt(), tmp_path)
    for tensor in last_state(tmp_path).values():
        assert bool(tensor.isfinite().all())


@pytest.mark.parametrize("writes", [1, 5, 8, 11])
def test_a_full_disk_loses_nothing(writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = vectors("training.checkpoint_every=1", "training.steps=4")
    train(*case, tmp_path / "whole")
    left, real = writes, os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        train(*case, tmp_path / "parts")
    monkeypatch.undo()
    train(*case, tmp_path / "parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_the_first_signal_ends_a_training_cleanly(tmp_path: Path) -> None:
    recipe, source = vectors("training.sample_every=3")

    def ask(model: object) -> Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        return torch.zeros(1, 2)

    before = signal.getsignal(signal.SIGINT)
    stopped = train(recipe, source, tmp_path, preview=ask)
    assert (stopped.steps, stopped.finished) == (4, False)
    assert read_checkpoint(tmp_path).metadata["steps"] == 4
    assert signal.getsignal(signal.SIGINT) is before


def test_more_steps_go_on_and_fewer_are_refused(tmp_path: Path) -> None:
    train(*vectors("training.steps=4"), tmp_path)
    done = train(*vectors("training.steps=6", "training.log_every=2", "sampling.steps=9"), tmp_path)
    assert done.finished
    assert done.steps == 6
    with pytest.raises(TrainingError, match=r"has made 6 steps, training.steps is 5"):
        train(*vectors("training.steps=5"), tmp_path)


@pytest.mark.parametrize(
    ("override", "named"),
    [("training.lr=5e-3", "training.lr"), ("model.width=8", "model.width"), ("sde.name=subvp", "sde.name")],
)
def test_another_recipe_is_refused(override: str, named: str, tmp_path: Path) -> None:
    train(*vectors("training.steps=2"), tmp_path)
    with pytest.raises(TrainingError, match=f"trained with {named} = "):
        train(*vectors("training.steps=2", override), tmp_path)
    with pytest.raises(TrainingError, match="holds a training"):
        train(*vectors("training.steps=2"), tmp_path, resume=False)


def test_a_model_older_than_its_state_is_renewed(tmp_path: Path) -> None:
    train(*vectors(), tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    train(*vectors(), tmp_path)
    assert read_checkpoint(tmp_path).metadata["steps"] == 10


def test_a_damaged_state_is_one_line(tmp_path: Path) -> None:
    train(*vectors(), tmp_path)
    path = tmp_path / "state" / "000000010.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"000000010\.safetensors: not a training state") as caught:
        train(*vectors("training.steps=12"), tmp_path)
    assert "\n" not in str(caught.value)
    path.unlink()
    assert train(*vectors(), tmp_path).finished


@pytest.mark.parametrize(
    ("data", "overrides", "expected"),
    [
        (np.zeros((4, 3), np.float32), [], r"shape \[3\], the recipe's data.shape is \[2\]"),
        (np.zeros((4, 8, 8, 1), np.uint8), ["data.shape=[1, 8, 8]"], "levels 256, the recipe's data.levels is None"),
        (np.zeros((4, 2), np.float32), ["data.classes=3"], "no classes, the recipe's data.classes is 3"),
    ],
)
def test_data_that_do_not_fit(data: np.ndarray, overrides: list[str], expected: str) -> None:
    with pytest.raises(TrainingError, match=expected):
        train(load_recipe("table", overrides), open_data(data))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(TrainingError, match="device cuda asked for, this machine gives cpu"):
        train(*vectors(), device="cuda")


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    train(*vectors("training.tensorboard=true", "training.steps=2"), tmp_path / "a")
    assert list((tmp_path / "a" / "tensorboard").iterdir())
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"scorefield\[tensorboard\]"):
        train(*vectors("training.tensorboard=true", "training.steps=2"), tmp_path / "b")


def test_two_processes_train_the_model_of_one(tmp_path: Path) -> None:
    whole = train(*vectors("model.dropout=0", "training.steps=4"), device="cpu").model
    program = (
        "import sys, torch; torch.set_num_threads(1); from cases import vectors; from scorefield.training import train;"
        "train(*vectors('model.dropout=0', 'training.steps=4'), sys.argv[1], device='cpu')"
    )
    (tmp_path / "program.py").write_text(program)
    subprocess.run(
        [*TORCHRUN, str(tmp_path / "program.py"), str(tmp_path / "run")],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    for one, two in zip(whole.parameters(), load_model(tmp_path / "run").parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", [vectors, images])
def test_a_step_in_parts_is_the_step(case: Case) -> None:
    same = ["model.dropout=0", "training.steps=3", "training.precision=fp32"]
    one, other = (train(*case(*same, f"training.parts={parts}")).model.state_dict() for parts in (1, 4))
    for name, weight in one.items():
        assert torch.allclose(other[name], weight, rtol=1e-4, atol=1e-5), name
    with pytest.raises(TrainingError, match=r"batch_size = 8 .* training.parts = 3"):
        train(*case("training.parts=3"))


def test_it_learns() -> None:
    data = np.random.default_rng(0).normal(size=(512, 2)).astype(np.float32) * 0.3 + np.float32([1.0, -0.5])
    overrides = ["training.steps=300", "training.batch_size=64", "training.warmup=20", "training.ema=0.98"]
    small = ["model.width=32", "model.depth=2", "sampling.steps=50", "training.lr=3e-3", "training.betas=[0.9, 0.99]"]
    samples = preview_samples(train(load_recipe("table", [*overrides, *small]), open_data(data)).model, 400)
    torch.testing.assert_close(samples.mean(0), torch.tensor([1.0, -0.5]), atol=0.1, rtol=0)
    torch.testing.assert_close(samples.std(0), torch.tensor([0.3, 0.3]), atol=0.1, rtol=0)
