"""Clients that are not among our dependencies ask the proxy, where they are installed.

OPENAI_NODE names a folder in which `npm install openai` was run, LANGCHAIN_PYTHON a Python with langchain-openai.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.serve.proxies import proxy

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


def test_openai_for_node(tmp_path: Path) -> None:
    folder, node = os.environ.get("OPENAI_NODE"), shutil.which("node")
    if not folder or node is None:
        pytest.skip("OPENAI_NODE names no folder with OpenAI's client for Node, or there is no node")
    assert _says([node, str(HERE / "other_client.mjs")], tmp_path, Path(folder)) == "all is well"


def test_langchain(tmp_path: Path) -> None:
    python = os.environ.get("LANGCHAIN_PYTHON")
    if not python:
        pytest.skip("LANGCHAIN_PYTHON names no Python with langchain-openai")
    assert _says([python, str(HERE / "other_client.py")], tmp_path, tmp_path) == "all is well"


def _says(command: list[str], tmp_path: Path, folder: Path) -> str:
    with proxy(tmp_path) as one:
        done = subprocess.run([*command, one.base_url], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]
