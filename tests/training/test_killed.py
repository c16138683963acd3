import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scorefield.checkpoint import load_model, read_checkpoint

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "killed.py", str(folder)], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, {name: int(count) for name, count in map(str.split, done.stdout.splitlines())}


@pytest.mark.parametrize("name", ["writing", "running", "stopped"])
def test_a_training_that_died_ends_with_the_weights_of_an_undisturbed_one(
    runs: tuple[Path, dict[str, int]], name: str
) -> None:
    folder, _ = runs
    undisturbed, died = (load_file(sorted((folder / which / "state").iterdir())[-1]) for which in ("undisturbed", name))
    assert undisturbed.keys() == died.keys()
    for key, tensor in undisturbed.items():
        assert torch.equal(tensor, died[key]), key
    model = load_model(folder / name)
    for (key, tensor), of_model in zip(
        load_model(folder / "undisturbed").named_parameters(), model.parameters(), strict=True
    ):
        assert torch.equal(tensor, of_model), key
    assert read_checkpoint(folder / name).metadata == {"steps": 10, "images_seen": 80}


def test_it_did_die(runs: tuple[Path, dict[str, int]]) -> None:
    _, counts = runs
    assert counts["writing"] >= 10
    assert counts["running"] >= 1
    assert counts["stopped"] == 3  # ended by itself, not finished


def test_nothing_is_left_behind(runs: tuple[Path, dict[str, int]]) -> None:
    folder, _ = runs
    for name in ("writing", "running", "stopped"):
        assert [path.name for path in sorted((folder / name / "state").iterdir())] == [
            "000000009.safetensors",
            "000000010.safetensors",
        ]
        rows = (folder / name / "metrics.jsonl").read_text().splitlines()
        assert len(rows) == 10
