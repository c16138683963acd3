import urllib.error

import pytest
import torch
import torchvision

from scorefield.data import DataError, open_data
from scorefield.data.vision import data_root


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOREFIELD_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


class Tiny(torchvision.datasets.FakeData):
    """Twelve small images and their classes, as a data set with parts and a download."""

    def __init__(self, root, train=True, download=False):
        assert root
        assert download
        super().__init__(size=12 if train else 5, image_size=(3, 8, 8), num_classes=4)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Tiny)


def test_fake_data():
    source = open_data("torchvision:FakeData", channels=3, size=16, resize=True, labels=True)
    assert (len(source), source.shape, source.levels, source.classes) == (1000, (3, 16, 16), 256, 10)
    x, label = source[3]
    assert x.dtype == torch.uint8
    assert label == torchvision.datasets.FakeData()[3][1]


@pytest.mark.usefixtures("tiny")
def test_parts_and_labels():
    source = open_data("torchvision:CIFAR10")
    assert (len(source), source.classes, source.labels.shape) == (12, 4, (12,))
    assert source.tensor().shape == (12, 3, 8, 8)
    assert len(open_data("torchvision:CIFAR10", split="test")) == 5
    with pytest.raises(DataError, match=r"image 0: RGB of height 8.*height 9"):
        open_data("torchvision:CIFAR10", size=9)


@pytest.mark.usefixtures("tiny")
def test_targets_are_used_where_they_are(monkeypatch):
    monkeypatch.setattr(Tiny, "targets", [3] * 12, raising=False)
    source = open_data("torchvision:CIFAR10")
    monkeypatch.setattr(Tiny, "__getitem__", None)
    assert source.labels.tolist() == [3] * 12


def test_unknown_names_and_parts():
    with pytest.raises(DataError, match=r"did you mean torchvision:CIFAR10\?"):
        open_data("torchvision:Cifar10")
    with pytest.raises(DataError, match="no such data set"):
        open_data("torchvision:")
    with pytest.raises(DataError, match="no such data set"):
        open_data("torchvision:os")
    with pytest.raises(DataError, match="no parts"):
        open_data("torchvision:FakeData", split="test")


@pytest.mark.parametrize("failure", [urllib.error.URLError("no route"), RuntimeError("Error downloading\nx")])
def test_failed_download_is_one_line(monkeypatch, failure, root):
    def fail(*_args, **_kwargs):
        raise failure

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", fail)
    with pytest.raises(DataError, match="torchvision:MNIST: cannot be downloaded") as error:
        open_data("torchvision:MNIST")
    assert "\n" not in str(error.value)
    assert str(root) in str(error.value)


def test_root(monkeypatch, root):
    assert data_root() == root
    monkeypatch.delenv("SCOREFIELD_DATA")
    assert data_root().parts[-2:] == (".cache", "scorefield")
