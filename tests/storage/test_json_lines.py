"""A row is one line for every reader, and reads back as it was."""

from __future__ import annotations

import json

from jaxroute.storage.json_lines import json_line


def test_every_character_reads_back_and_ends_no_line() -> None:
    row = {chr(number): [chr(number), number] for number in range(0x3000)} | {"half": "\ud83d cut", "whole": "\U0001f600 é"}
    line = json_line(row)
    assert len(line.splitlines()) == 1 and line.endswith("}\n") and json.loads(line) == row
    assert "é" in line and "\U0001f600" in line and line.encode()
