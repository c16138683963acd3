import json
import multiprocessing
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from scorefield import data
from scorefield.data import DataError, open_data


def one_line(error):
    return "\n" not in str(error.value)


def refused(match, spec, **options):
    """Opening or reading raises one line that matches."""
    with pytest.raises(DataError, match=match) as error:
        open_data(spec, **options).tensor()
    assert one_line(error)


def test_importing_does_not_import_torchvision():
    program = "import sys, scorefield.data as d; d.open_data; print('torchvision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_public_name_is_there():
    assert all(callable(getattr(data, name)) for name in data.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        data.nothing  # noqa: B018


def test_zip_agrees_with_pillow(digits, photos):
    for path, shape in ((digits, (1, 28, 28)), (photos, (3, 32, 32))):
        source = open_data(path, channels=shape[0], size=shape[1], labels=True)
        assert (source.shape, source.levels, source.classes) == (shape, 256, 10)
        with zipfile.ZipFile(path) as archive:
            pairs = json.loads(archive.read("dataset.json"))["labels"]
            assert len(source) == len(pairs)
            for index in (0, 1, len(pairs) - 1):
                name, label = pairs[index]
                expected = np.asarray(Image.open(archive.open(name))).reshape(*shape[1:], shape[0])
                x, y = source[index]
                assert x.dtype == torch.uint8
                assert np.array_equal(x.permute(1, 2, 0).numpy(), expected)
                assert y == label
        assert source.labels.tolist() == [label for _, label in pairs]
        assert torch.equal(source.tensor()[-1], source[-1][0])


def test_examples():
    digits = open_data("example:mnist", channels=1, size=28, labels=True)
    assert len(digits) == 64
    assert digits.labels.bincount().tolist() == [7] * 4 + [6] * 6
    refused("example:cifar10, example:mnist", "example:nothing")


def test_example_photographs_are_held_out_ones():
    source = open_data("example:cifar10", channels=3, size=32, labels=True)
    x = source.tensor()
    assert x.shape == (40, 3, 32, 32)
    assert source.labels.bincount().tolist() == [4] * 10
    assert source.labels[:8].tolist() == [3, 8, 8, 0, 6, 6, 1, 6]  # the test set begins so
    assert x[0, :, 0, 0].tolist() == [158, 112, 49]
    assert len(x.flatten(1).unique(dim=0)) == 40
    assert (x.float() - x.float().mean(1, keepdim=True)).abs().mean() > 10


def test_single_image_and_folder(tmp_path, make):
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        for k in range(2):
            Image.fromarray(make.pixels(seed=10 * label + k)).save(tmp_path / name / f"{k}.png")
    (tmp_path / "bee" / "notes.txt").write_text("no image")
    (tmp_path / "bee" / ".hidden.png").write_text("no image")
    source = open_data(tmp_path)
    assert (len(source), source.shape, source.classes) == (4, (3, 8, 6), 2)
    assert source.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(source[3][0].permute(1, 2, 0), make.pixels(seed=11))

    document = {"labels": [["ant/0.png", 4], ["ant/1.png", 0], ["bee/0.png", 1], ["bee/1.png", 1]]}
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    assert open_data(str(tmp_path)).labels.tolist() == [4, 0, 1, 1]
    (tmp_path / "dataset.json").write_text('{"labels": null}')
    assert open_data(tmp_path).labels is None
    refused("no class labels", tmp_path, labels=True)

    single = open_data(tmp_path / "ant" / "0.png")
    assert (len(single), single[0][1]) == (1, None)


def test_images_beside_folders_have_no_classes(tmp_path, make):
    (tmp_path / "ant").mkdir()
    for path in (tmp_path / "ant" / "0.png", tmp_path / "1.png"):
        Image.fromarray(make.pixels()).save(path)
    assert open_data(tmp_path).classes == 0


def test_labels_of_a_zip(tmp_path, make):
    images = [make.pixels(seed=k) for k in range(3)]
    assert open_data(make.zip(tmp_path / "a.zip", images)).labels is None
    assert open_data(make.zip(tmp_path / "b.zip", images, labels=[2, 0, 2])).classes == 3
    bad = tmp_path / "c.zip"
    first = "00000/img00000000.png"
    for document, match in (
        ({"labels": [[first, 0]]}, "no label for 00000/img00000001.png"),
        ({"labels": [[first, 0.5]]}, "label 0.5 for 00000/img00000000.png"),
        ({"labels": [[first, -1]]}, "label -1"),
        ({"labels": [[first, [0, 1]]]}, "label"),
        ({"labels": {first: 0}}, "not a list"),
        ([1, 2], "not a list"),
        ("{", "not valid JSON"),
    ):
        refused(f"c.zip:dataset.json: .*{match}", make.zip(bad, images, document=document))


def test_size_and_channels_that_differ_are_refused(tmp_path, make):
    path = tmp_path / "a.png"
    Image.fromarray(make.pixels(8, 6)).save(path)
    refused(
        "a.png: RGB of height 8, width 6 given, images of height 8, width 8 expected; pass resize=True", path, size=8
    )
    refused("RGB of height 8, width 6 given, grey of any size expected", path, channels=1)
    assert open_data(path, size=(8, 6), channels=3).shape == (3, 8, 6)


def test_resize_crops_the_centre_and_converts(tmp_path):
    picture = np.zeros((20, 40, 3), dtype=np.uint8)
    picture[:, 10:30] = (200, 100, 0)
    Image.fromarray(picture).save(tmp_path / "a.png")
    x = open_data(tmp_path / "a.png", size=10, resize=True).tensor()[0]
    assert x.shape == (3, 10, 10)
    assert (x == torch.tensor([200, 100, 0])[:, None, None]).all()
    grey = open_data(tmp_path / "a.png", size=10, channels=1, resize=True).tensor()[0]
    assert (grey == round(0.299 * 200 + 0.587 * 100)).all()
    refused("needs a size", tmp_path / "a.png", resize=True)
    refused("1 or 3 channels", tmp_path / "a.png", channels=2, size=8, resize=True)
    refused("no image", tmp_path / "a.png", size=0)


def test_resize_averages_what_it_cannot_show(tmp_path):
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checkers).save(tmp_path / "a.png")
    x = open_data(tmp_path / "a.png", size=16, resize=True).tensor()
    assert (x.float() - 127.5).abs().max() < 8


def test_mixed_sizes(tmp_path, make):
    path = make.zip(tmp_path / "a.zip", [make.pixels(8, 8), make.pixels(8, 8), make.pixels(9, 8)])
    source = open_data(path)
    assert source[1][0].shape == (3, 8, 8)
    refused("img00000002.png: RGB of height 9, width 8 given, RGB of height 8, width 8 expected", path)
    assert open_data(path, size=4, resize=True).tensor().shape == (3, 3, 4, 4)
    path = make.zip(tmp_path / "b.zip", [make.pixels(8, 8), make.pixels(8, 8, channels=1)])
    refused("img00000001.png: grey of height 8", path)


def test_modes_that_lose_nothing(tmp_path, make):
    path = tmp_path / "a.png"
    rgb = Image.fromarray(make.pixels(8, 8))
    few = Image.fromarray(make.pixels(8, 8) // 128 * 255)
    cases = {
        "RGBA": (rgb.convert("RGBA"), rgb),
        "LA": (rgb.convert("L").convert("LA"), rgb.convert("L")),
        "P": (few.convert("P", palette=Image.Palette.ADAPTIVE), few),
        "1": (rgb.convert("1"), rgb.convert("1").convert("L")),
    }
    for mode, (saved, expected) in cases.items():
        assert saved.mode == mode
        saved.save(path)
        x = open_data(path).tensor()[0]
        assert np.array_equal(x.permute(1, 2, 0).numpy().squeeze(), np.asarray(expected)), mode


def test_photographs_are_turned_upright(tmp_path, make):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(make.pixels(8, 6)).save(tmp_path / "a.png", exif=exif)
    upright = open_data(tmp_path / "a.png").tensor()[0].permute(1, 2, 0).numpy()
    assert np.array_equal(upright, np.rot90(make.pixels(8, 6), -1))


def png_of_16_bits(colour_type, channels):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 2, 2, 16, colour_type, 0, 0, 0)
    rows = (b"\0" + bytes(4 * channels)) * 2
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_images_that_would_lose_something_are_refused(tmp_path, make):
    path = tmp_path / "a.png"
    clear = Image.fromarray(make.pixels(8, 8)).convert("RGBA")
    clear.putpixel((0, 0), (1, 2, 3, 100))
    clear.save(path)
    refused("a.png: transparent pixels", path)
    Image.fromarray(np.full((4, 4), 300, dtype=np.uint16)).save(path)
    refused("a.png: more than 8 bits per channel", path)
    for colour_type, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
        path.write_bytes(png_of_16_bits(colour_type, channels))
        refused("a.png: more than 8 bits per channel", path)
    Image.fromarray(make.pixels(8, 8)).convert("CMYK").save(tmp_path / "a.tif")
    refused("a.tif: Pillow mode CMYK", tmp_path / "a.tif")
    frames = [Image.fromarray(make.pixels(8, 8, seed=k)) for k in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    refused("a.png: 3 frames", path)


def test_broken_images(tmp_path, make):
    whole = make.png(make.pixels(64, 64))
    path = tmp_path / "a.png"
    for content in (whole[: len(whole) // 2], whole[:20], b"", b"text", whole[:200] + bytes(40) + whole[240:]):
        path.write_bytes(content)
        refused("a.png: not a readable image", path)
    jpeg = tmp_path / "b.jpg"
    Image.fromarray(make.pixels(64, 64)).save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:-500])
    refused("b.jpg: not a readable image", jpeg)
    archive = make.zip(tmp_path / "c.zip", [whole, whole[:-300]])
    refused("c.zip:00000/img00000001.png: not a readable image", archive)


def test_missing_empty_and_unknown(tmp_path, make):
    refused("nothing.png.*no such data", tmp_path / "nothing.png")
    refused("no such data", "")
    refused("no images in this folder", tmp_path)
    (tmp_path / "a.txt").write_text("x")
    refused("a.txt: unknown kind of file", tmp_path / "a.txt")
    refused("no images in this zip", make.zip(tmp_path / "a.zip", []))
    (tmp_path / "link.png").symlink_to(tmp_path / "gone")
    refused("link.png: cannot be read .No such file", tmp_path)


def test_broken_zips(tmp_path, digits):
    whole = digits.read_bytes()
    path = tmp_path / "a.zip"
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        refused("a.zip: not a readable zip", path)
    start = whole.index(b"IDAT")
    path.write_bytes(whole[:start] + bytes(8) + whole[start + 8 :])
    refused("a.zip:00000/img00000000.png: cannot be read .Bad CRC", path)


def test_labels_only_where_there_are_some(tmp_path, make):
    refused("no class labels", make.zip(tmp_path / "a.zip", [make.pixels()]), labels=True)


def test_indexing(digits):
    source = open_data(digits)
    assert torch.equal(source[-1][0], source[len(source) - 1][0])
    with pytest.raises(IndexError, match="which has"):
        source[len(source)]
    assert len(list(source)) == len(source)


def _sum(queue, source, order):
    queue.put([int(source[i][0].sum()) for i in order])


@pytest.mark.skipif(os.name != "posix", reason="fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_processes_read_the_same_zip(digits):
    source = open_data(digits)
    expected = [int(source[i][0].sum()) for i in range(100)]
    context = multiprocessing.get_context("fork")
    queues = [context.Queue() for _ in range(3)]
    children = [context.Process(target=_sum, args=(queue, source, list(range(100)) * 5)) for queue in queues]
    for child in children:
        child.start()
    assert [int(source[i][0].sum()) for i in range(100)] * 5 == expected * 5
    for queue, child in zip(queues, children, strict=True):
        assert queue.get(timeout=20) == expected * 5
        child.join(timeout=20)


def test_sources_can_be_pickled(digits, tmp_path):
    copy = tmp_path / "a.zip"
    shutil.copy(digits, copy)
    source = open_data(copy)
    again = pickle.loads(pickle.dumps(source))
    assert torch.equal(again[5][0], source[5][0])
