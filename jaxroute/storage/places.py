"""Places: local paths, and URLs of what fsspec reads and writes (s3://, gs://, memory://), both with the methods of a Path.

A URL's path is a `upath.UPath`. Files there are put as whole objects, which object stores do atomically; there are no locks, so
two processes must not write to one folder.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import IO, Any

from jaxroute.errors import PlaceError

INSTALL = "pip install 'jaxroute[scale]'"
URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")
"""`Path` makes one slash of two."""


def placed(field: str, given: Path) -> Path:
    """The path that is meant: `given` itself, or that of a URL. Raises `PlaceError` naming the package that is missing."""
    found = URL.fullmatch(str(given))
    if is_remote(given) or not found or given.exists():
        return given
    scheme, rest = found.groups()
    if scheme in ("file", "local"):
        return Path("/", rest)
    if importlib.util.find_spec("upath") is None:
        raise PlaceError(f"{field}='{scheme}://{rest}': URLs need fsspec and universal-pathlib: {INSTALL}")
    import fsspec
    from upath import UPath

    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise PlaceError(f"{field}='{scheme}://{rest}': its package is missing: {error}") from error
    except ValueError as error:
        raise PlaceError(f"{field}='{scheme}://{rest}': fsspec knows no scheme {scheme!r}") from error
    remote: Any = UPath(f"{scheme}://{rest}")
    return remote


def is_remote(path: Path) -> bool:
    """Whether it is not on this machine's file system."""
    return not isinstance(path, Path)  # pyright: ignore[reportUnnecessaryIsInstance]


def check_local(field: str, path: Path) -> Path:
    """Raise `PlaceError` for a URL, where none can be used."""
    found = placed(field, path)
    if is_remote(found):
        raise PlaceError(f"{field}={str(found)!r} must be on this machine: URLs are not supported here")
    return found


def readable(path: Path) -> Path | IO[bytes]:
    """What pyarrow and numpy read: a local path as it is, which they can map into memory, else an open file."""
    return path.open("rb") if is_remote(path) else path


def matching(pattern: Path) -> list[Path]:
    """The files that a pattern names."""
    if is_remote(pattern):
        remote: Any = pattern
        found = [type(remote)(remote.fs.unstrip_protocol(name)) for name in remote.fs.glob(remote.path)]
    else:
        anchor = Path(pattern.anchor or ".")
        found = list(anchor.glob(str(pattern.relative_to(anchor))))
    return sorted((path for path in found if not path.is_dir()), key=str)


def put(local: Path, path: Path) -> None:
    """Copy a finished file to a URL's path, as one object."""
    remote: Any = path
    remote.fs.put_file(str(local), remote.path)
