"""Rows of a prompt file, written as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxroute.data.messages import is_text
from jaxroute.storage.files import replacing


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """An object per line, written atomically."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False)
            # Half of a surrogate pair, which a field beside the prompt may hold, is only possible as an escape.
            file.write((line if is_text(line) else json.dumps(row)) + "\n")
