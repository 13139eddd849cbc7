"""Files that are whole or not there: written to a temporary name beside their place, then renamed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from jaxroute.errors import OutputError
from jaxroute.storage.places import is_remote, put

LOCK = ".lock"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What goes wrong with a disk, as against a file, whose name the system says."""


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path (same suffix) to write to; it takes the place of `path` when the block ends well.

    What belongs to a URL is written on this machine and then put there as one object.
    """
    path = Path(path) if isinstance(path, str) else path
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            partial = Path(folder) / path.name
            yield partial
            put(partial, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".partial-", suffix=path.suffix)
    os.close(handle)
    partial = Path(name)
    try:
        with _naming(path):
            yield partial
        partial.chmod(0o666 & ~umask())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder to fill; it takes the place of `path`, and of what stood there, when the block ends well."""
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=".partial-"))
    try:
        with _naming(path):
            yield partial
        partial.chmod(0o777 & ~umask())
        if path.exists():
            # A folder cannot be exchanged in one step; should the second rename fail, the first is undone.
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=".replaced-"))
            os.replace(path, old)
            try:
                os.replace(partial, path)
            except OSError:
                os.replace(old, path)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A full disk names the file that was being written, which the system does not say."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Raise `OutputError` where another process works in `folder`; a process that was killed holds nothing.

    Where nothing was written, nothing stays: neither the lock nor a folder that was made for it. URLs have no locks.
    """
    if is_remote(folder):
        yield
        return
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(f"{str(folder)!r}: another process writes there; wait for it or give another folder") from error
    try:
        yield
    finally:
        # While it is held: nobody else then has the file that is removed.
        if empty := [path.name for path in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
        lock.release()
        if empty and made:
            folder.rmdir()


def check_file(field: str, path: Path, *, source: Path | None = None) -> None:
    """Raise `OutputError` where no file could be written to `path`, or it is `source`: before the work, not after it."""
    if not str(path) or path.is_dir() or path.name in ("", ".", ".."):
        raise OutputError(f"{field}={str(path)!r} is a folder: give the name of a file")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OutputError(f"{field}={str(path)!r} is a link or a device, which a new file would replace: give another name")
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise OutputError(f"{field}={str(path)!r} is the file that is read: give another name")
    _check_parents(field, path)


def check_folder(field: str, path: Path, *, ours: Callable[[Path], bool] | None = None) -> None:
    """The same for a folder; with `ours`, one that holds anything else is not replaced either."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"{field}={str(path)!r} is a file: give the name of a folder")
    if ours and path.is_dir() and any(path.iterdir()) and not ours(path):
        raise OutputError(f"{field}={str(path)!r} holds other files, which would be lost: give a new folder")
    if not is_remote(path):
        _check_parents(field, path)


def _check_parents(field: str, path: Path) -> None:
    for parent in path.absolute().parents:
        if parent.exists():
            if not parent.is_dir():
                raise OutputError(f"{field}={str(path)!r} cannot be made: {str(parent)!r} is a file")
            if not os.access(parent, os.W_OK | os.X_OK) or parent.is_relative_to("/proc"):
                raise OutputError(f"{field}={str(path)!r} cannot be made: {str(parent)!r} cannot be written to")
            return


def umask() -> int:
    """What the user takes away from new files' permissions; temporary ones start with less."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path | str, content: Mapping) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")
