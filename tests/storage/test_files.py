"""Files that are whole or not there: what is said where a disk is full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from jaxroute.storage.files import replacing, replacing_folder


@pytest.mark.parametrize("opened", [replacing, replacing_folder])
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path: Path, opened):
    """A write that finds no space left has an error without a name."""
    place = tmp_path / "result"
    with opened(place) as partial:
        (partial if partial.is_file() else partial / "one").write_text("old")
    with pytest.raises(OSError, match="result") as caught, opened(place):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(place)
    assert (place if place.is_file() else place / "one").read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


def test_other_errors_keep_the_name_that_they_have(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "result"):
        (tmp_path / "missing").read_text()
    assert caught.value.filename == str(tmp_path / "missing")
