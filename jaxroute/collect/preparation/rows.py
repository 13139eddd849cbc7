"""Rows of a prompt file, written as JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxroute.storage.files import replacing
from jaxroute.storage.json_lines import json_line


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """An object per line, written atomically."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json_line(row))
