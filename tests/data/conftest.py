"""Real images, the shared zips where they are and else the few that are committed; and small made-up ones."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def real(shared, committed):
    path = Path(os.environ.get("SCOREFIELD_SHARED", ROOT.parent / "shared")) / "data" / shared
    return path if path.is_file() else ROOT / "tests" / "fixtures" / "data" / committed


@pytest.fixture(scope="session")
def digits():
    return real("mnist-test-1k.zip", "mnist-100.zip")


@pytest.fixture(scope="session")
def photos():
    return real("cifar10-test-2k.zip", "cifar10-60.zip")


class Make:
    """Makes pixels and files of them."""

    def pixels(self, height=8, width=6, channels=3, seed=0):
        values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
        return values[..., 0] if channels == 1 else values

    def png(self, pixels):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()

    def zip(self, path, images, labels=None, document=None):
        """Images are pixels or bytes; ``document`` is the text, or the object, of dataset.json instead of labels."""
        names = [f"{k // 1000:05d}/img{k:08d}.png" for k in range(len(images))]
        if labels is not None:
            document = {"labels": [list(pair) for pair in zip(names, labels, strict=True)]}
        with zipfile.ZipFile(path, "w") as archive:
            for name, image in zip(names, images, strict=True):
                archive.writestr(name, image if isinstance(image, bytes) else self.png(image))
            if document is not None:
                archive.writestr("dataset.json", document if isinstance(document, str) else json.dumps(document))
        return path


@pytest.fixture(scope="session")
def make():
    return Make()
