"""What all tests share: real data where it is at hand, a cache of their own, a tiny encoder on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def data() -> Path:
    """The folder of published outcomes; the test is skipped where JAXROUTE_DATA does not name it."""
    folder = os.environ.get("JAXROUTE_DATA")
    if not folder:
        pytest.skip("JAXROUTE_DATA is not set: it names the folder with the published outcomes (see the README)")
    return Path(folder)


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, so that features are computed and not remembered."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("JAXROUTE_CACHE", str(folder))
    return folder
