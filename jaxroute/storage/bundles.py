"""A bundle: a JSON description and named arrays in one folder, written atomically and checked against one digest when read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import ml_dtypes
import numpy as np

from jaxroute.errors import CheckpointError
from jaxroute.storage.digests import file_digest, text_digest
from jaxroute.storage.files import replacing_folder

ARRAYS = "arrays.npz"
DIGEST = "sha256"
BFLOAT16 = "|bfloat16"
"""After the name of an array whose kind .npz files do not know; its bits are kept."""


def write_bundle(
    folder: Path | str,
    name: str,
    description: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    *,
    beside: Callable[[Path], None] | None = None,
) -> None:
    """Write `folder/name` (JSON) and `folder/arrays.npz`; an earlier bundle is replaced when the new one is complete.

    `beside` writes whatever else belongs to it into the folder that it is given.
    """
    with replacing_folder(folder) as partial:
        stored = {
            name + BFLOAT16 * (array.dtype == ml_dtypes.bfloat16): array.view(np.uint16)
            if array.dtype == ml_dtypes.bfloat16
            else array
            for name, array in ((name, np.asarray(array, order="C")) for name, array in arrays.items())
        }
        np.savez(partial / ARRAYS, **stored)  # pyright: ignore[reportArgumentType]
        digest = _digest(description, partial / ARRAYS)
        (partial / name).write_text(json.dumps({**description, DIGEST: digest}, indent=2) + "\n")
        if beside is not None:
            beside(partial)


def read_bundle(
    folder: Path, name: str, check: Callable[[dict[str, Any]], list[str]]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `write_bundle` wrote, the description without its digest.

    `check` lists what is wrong with a description. Raises `CheckpointError` with all of that, or where a file is missing,
    damaged or changed.
    """
    described = read_description(folder, name)
    digest = described.pop(DIGEST, None)
    if problems := check(described):
        raise CheckpointError(f"checkpoint={str(folder)!r}: " + "; ".join(problems))
    try:
        if _digest(described, folder / ARRAYS) != digest:
            raise CheckpointError(
                f"checkpoint={str(folder)!r}: {name} or {ARRAYS} is not as saved; copy it again or train again"
            )
        with np.load(folder / ARRAYS, allow_pickle=False) as stored:
            return described, {
                name.removesuffix(BFLOAT16): stored[name].view(ml_dtypes.bfloat16) if name.endswith(BFLOAT16) else stored[name]
                for name in stored.files
            }
    except (OSError, EOFError, BadZipFile, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"checkpoint={str(folder)!r}: {ARRAYS} is damaged; copy it again or train again ({error})"
        ) from error


def read_description(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object `folder/name`; raises `CheckpointError` where it is none."""
    path = folder / name
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CheckpointError(f"checkpoint={str(folder)!r} is not a checkpoint: {path} cannot be read: {why}") from error
    if not isinstance(described, dict):
        raise CheckpointError(f"checkpoint={str(folder)!r} is not a checkpoint: {path} holds no object")
    return described


def misfits(described: Mapping[str, Any], kinds: Mapping[str, type], *, what: str = "") -> list[str]:
    """Missing and unknown fields, and those of another kind than `kinds` says (`object`: any); `what` precedes their names."""
    problems = [f"{what}{name} is missing" for name in kinds if name not in described]
    problems += [f"{what}{name} is unknown" for name in described if name not in kinds]
    problems += [
        f"{what}{name}={_short(described[name])} is not a {kind.__name__}"
        for name, kind in kinds.items()
        if name in described and kind is not object and (not isinstance(described[name], kind) or described[name] is True)
    ]
    return problems


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _digest(description: Mapping[str, Any], arrays: Path) -> str:
    """SHA-256 over both files, so that neither can be exchanged alone."""
    return text_digest(f"{json.dumps(description, sort_keys=True)} {file_digest(arrays)}")
