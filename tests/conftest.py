"""Shapes and types in signatures are checked in every test that does not ask for them not to be."""

from collections.abc import Iterator

import jaxtyping
import pytest
import typecheck

jaxtyping.install_import_hook("scorefield", "typecheck.check")


@pytest.fixture(autouse=True)
def _awake() -> Iterator[None]:
    yield
    typecheck.wake()


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signatures are not checked, as in normal use, so that the library's own errors are seen."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
