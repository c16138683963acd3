import numpy as np
import pytest
import torch
from PIL import Image

from scorefield.data import DataError, hole, read_mask


def test_white_is_kept(tmp_path):
    values = np.array([[255, 0, 127], [128, 200, 1]], dtype=np.uint8)
    expected = torch.tensor([[[True, False, False], [True, True, False]]])
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).convert("RGB").save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        mask = read_mask(tmp_path / name, (2, 3))
        assert mask.dtype == torch.bool
        assert torch.equal(mask, expected)


def test_bad_mask_files(tmp_path):
    Image.fromarray(np.zeros((2, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png: mask of height 2, width 3 given, height 3, width 3"):
        read_mask(tmp_path / "a.png", 3)
    with pytest.raises(DataError, match=r"b.png: cannot be read"):
        read_mask(tmp_path / "b.png", 3)
    (tmp_path / "c.png").write_text("x")
    with pytest.raises(DataError, match=r"c.png: not a readable image"):
        read_mask(tmp_path / "c.png", 3)


def test_rectangle():
    mask = hole("3, 1,2,4", (6, 8))
    assert mask.shape == (1, 6, 8)
    assert not mask[0, 1:5, 3:5].any()
    assert int((~mask).sum()) == 8
    assert not hole("0,0,8,6", (6, 8)).any()


def test_random_pixels_are_a_function_of_the_seed():
    mask = hole("0.3", 10, seed=4)
    assert int((~mask).sum()) == 30
    assert torch.equal(mask, hole(".3", (10, 10), seed=4))
    assert not torch.equal(mask, hole("0.3", 10, seed=5))
    assert not torch.equal(mask, hole("0.3", 10))


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("", "expected X,Y,W,H"),
        ("a", "expected X,Y,W,H"),
        ("1,2,3", "expected X,Y,W,H"),
        ("1,2,3,4,5", "expected X,Y,W,H"),
        ("1,2,3,", "expected X,Y,W,H"),
        ("1.5,2,3,4", "expected X,Y,W,H"),
        ("nan", "expected X,Y,W,H"),
        ("-0.5", "expected X,Y,W,H"),
        ("50%", "expected X,Y,W,H"),
        ("0", "between 0 and 1"),
        ("1", "between 0 and 1"),
        ("8", "between 0 and 1"),
        ("0.001", "0 pixels"),
        ("0.999", "64 pixels"),
        ("0,0,0,4", "is empty"),
        ("0,0,4,-1", "is empty"),
        ("-1,0,4,4", "not inside the image of width 8, height 8"),
        ("5,0,4,4", "not inside the image"),
        ("0,5,4,4", "not inside the image"),
    ],
)
def test_bad_holes(spec, match):
    with pytest.raises(DataError, match=match) as error:
        hole(spec, 8)
    assert "\n" not in str(error.value)
