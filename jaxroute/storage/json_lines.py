"""One row of a file of JSON lines, with nothing inside that a reader may take for the end of a line.

Only a newline ends a line, and JSON writes one inside a text as an escape. But U+0085, U+2028 and U+2029 may stand in a JSON
text as they are, and programs that split a file at every character that Unicode calls a separator, as Python's `str.splitlines`
does, break such a line in two. So they are written as escapes, which mean the same. So is half of a surrogate pair, which UTF-8
cannot hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

ESCAPED = re.compile("[\x85\u2028\u2029\ud800-\udfff]")


def json_line(row: Mapping[str, Any]) -> str:
    """The row as JSON with its newline; other letters as they are."""
    return ESCAPED.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(row, ensure_ascii=False)) + "\n"
