import numpy as np
import pytest
import torch

from scorefield.data import ArraySource, DataError, open_data, save_samples


def refused(match, spec, **options):
    with pytest.raises(DataError, match=match) as error:
        open_data(spec, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(2,), (7,), (3, 16), (1, 5, 4), (1, 3, 4, 5)])
def test_floats_keep_their_units_and_shape(shape, tmp_path):
    values = np.random.default_rng(0).normal(3, 100, (6, *shape))
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", anything=values)
    for spec in (values, torch.from_numpy(values), tmp_path / "a.npy", tmp_path / "a.npz"):
        source = open_data(spec)
        assert (len(source), source.shape, source.levels, source.classes) == (6, shape, None, 0)
        assert source.tensor().dtype == torch.float32
        assert np.array_equal(source.tensor().numpy(), values.astype(np.float32))
        assert source[2][1] is None


def test_items_are_copies():
    values = np.zeros((2, 3), dtype=np.float32)
    open_data(values)[0][0][:] = 7
    assert not values.any()


def test_other_float_types():
    x = torch.linspace(0, 1, 6).reshape(2, 3)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert open_data(x.to(dtype)).tensor().dtype == torch.float32
    assert open_data(x.requires_grad_()).tensor().requires_grad is False


def test_stored_images_become_channels_first():
    values = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    first = values.transpose(0, 3, 1, 2)
    assert np.array_equal(open_data(values).tensor(), first)
    assert np.array_equal(open_data(np.ascontiguousarray(first)).tensor(), first)
    assert open_data(values[..., 0]).shape == (1, 8, 6)
    assert open_data(values[:, 0, :, 0]).shape == (6,)
    assert open_data(values, channels=3, size=(8, 6)).levels == 256


def test_stored_images_are_resized_on_demand():
    values = np.full((4, 3, 8, 16), 9, dtype=np.uint8)
    refused("array: RGB of height 8, width 16 given, grey of height 4, width 4 expected", values, channels=1, size=4)
    x = open_data(values, channels=1, size=4, resize=True).tensor()
    assert x.shape == (4, 1, 4, 4)
    assert (x == 9).all()
    refused("2 channels given", values[:, :2], size=4, resize=True)
    refused("convert the data first", values / 255, size=4, resize=True)
    refused(r"shape \(2,\) given, grey of any size expected", np.zeros((4, 2)), channels=1)


@pytest.mark.parametrize("key", ["samples", "images", "x", "arr_0"])
@pytest.mark.parametrize("label_key", ["labels", "y", "arr_1"])
def test_keys_of_npz(tmp_path, key, label_key):
    arrays = {key: np.ones((3, 2)), label_key: np.array([0, 2, 1]), "seed": np.int64(4)}
    np.savez(tmp_path / "a.npz", **arrays)
    source = open_data(tmp_path / "a.npz", labels=True)
    assert source.tensor().mean() == 1
    assert (source.classes, source.labels.tolist(), source[1][1]) == (3, [0, 2, 1], 2)


def test_saved_samples_are_data(tmp_path):
    x = torch.rand(4, 3, 8, 8)
    save_samples(tmp_path / "a.npz", x, seed=0, indices=range(4))
    assert torch.equal(open_data(tmp_path / "a.npz").tensor(), x)


def test_values_that_mean_nothing_are_refused(tmp_path):
    x = np.zeros((5, 3))
    for bad in (np.nan, np.inf, 1e300):
        x[3, 1] = bad
        refused("array: item 3 has NaN, an infinity or overflows", x)
    for dtype in (np.int64, np.int32, np.uint16, np.bool_, np.complex64):
        refused(f"{np.dtype(dtype)} given, uint8 or float expected; convert", np.zeros((5, 3), dtype))
    refused("int64 given", torch.zeros(5, 3, dtype=torch.int64))
    refused(r"shape \(5,\) given", np.zeros(5))
    refused("at least one item", np.zeros((0, 3)))
    np.save(tmp_path / "a.npy", np.array([[{}]]), allow_pickle=True)
    refused("a.npy: not a readable array file", tmp_path / "a.npy")


def test_nan_is_found_beyond_the_first_chunk(monkeypatch):
    monkeypatch.setattr("scorefield.data.arrays._CHUNK_BYTES", 48)
    x = np.zeros((9, 3))
    x[7, 2] = np.nan
    refused("item 7", x)


def test_labels_that_mean_nothing_are_refused():
    for labels in (np.zeros(4, np.int64), np.zeros(5), np.array([0, 1, 2, 3, -1])):
        with pytest.raises(DataError, match="5 integers"):
            ArraySource(np.zeros((5, 2)), labels)


def test_broken_files(tmp_path):
    np.savez(tmp_path / "a.npz", u=np.zeros((2, 2)), v=np.zeros((2, 2)))
    refused("a.npz: arrays u, v given", tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    np.save(tmp_path / "b.npy", np.zeros((20, 20)))
    for name, content in (
        ("a.npz", whole[:100]),
        ("a.npz", b""),
        ("b.npy", (tmp_path / "b.npy").read_bytes()[:900]),
        ("b.npy", b"text"),
        ("b.npy", b""),
    ):
        (tmp_path / name).write_bytes(content)
        refused(f"{name}: not a readable array file", tmp_path / name)
