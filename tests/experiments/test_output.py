"""Every experiment and benchmark takes `--output DIR`."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest
import tyro

import benchmarks
import experiments

PARTS = ("benchmarks.canned_upstream", "benchmarks.lora_step", "benchmarks.soak_load")
"""Processes that another benchmark starts."""
RUNNABLE = [
    f"{room.__name__}.{one.name}"
    for room in (experiments, benchmarks)
    for one in pkgutil.iter_modules(room.__path__)
    if f"python -m {room.__name__}.{one.name}" in Path(room.__path__[0], f"{one.name}.py").read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", [name for name in RUNNABLE if name not in PARTS])
def test_results_go_where_they_are_asked_to(name: str) -> None:
    module = importlib.import_module(name)
    config = tyro.cli(module.Config, args=["--output", "somewhere/else"])
    assert getattr(config, "output", None) == Path("somewhere/else") or config.evaluate.output == Path("somewhere/else")
