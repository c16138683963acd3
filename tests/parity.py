"""Recorded behaviour of the published PyTorch code on small random networks, and where to find it."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).parent
COMMITTED = TESTS / "fixtures" / "parity"
SHARED = Path(os.environ.get("SCOREFIELD_SHARED", TESTS.parent.parent / "shared")) / "parity"


def parity_folders() -> list[Path]:
    """The folders of all recorded networks: those committed here, then others that lie beside this repository."""
    folders: dict[str, Path] = {}
    for root in (COMMITTED, SHARED):
        for path in sorted(root.glob("*/fixture.npz")):
            folders.setdefault(path.parent.name, path.parent)
    return list(folders.values())


def parity_config(folder: Path) -> dict[str, Any]:
    """The flattened configuration of a recorded network."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())["config"]
    return config


def parity_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The recorded inputs and outputs."""
    with np.load(folder / "fixture.npz", allow_pickle=False) as arrays:
        return dict(arrays)
