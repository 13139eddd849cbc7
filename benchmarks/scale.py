"""How does one budget grow over many files and many processes?

    uv run --extra scale python -m benchmarks.scale [--small]

Every part is a function in a file of its own and returns its figures; all are written to result.json.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal

import tyro

from benchmarks.bytecode import shared_bytecode
from benchmarks.start import processor
from jaxroute.storage.cache import keep_compiled
from jaxroute.storage.files import write_json

Result = dict[str, float | str | bool]
Part = Literal["identical_shards", "capacities", "merged_summaries", "assigned_from_disk", "engines", "crowded_from_disk"]


@dataclass(frozen=True)
class Config:
    """One budget over many files; a full run takes up to a quarter of an hour, `--small` a minute."""

    output: Path = Path("runs/benchmarks/scale")
    """Folder for result.json, and for the files that are made; those are removed at the end."""
    small: bool = False
    """A hundredth of the queries, to see that everything runs; its figures say nothing."""
    only: list[Part] = field(default_factory=list[Part])
    """Parts to run, by the names of their functions; all if none is given, but for crowded_from_disk."""


PARTS: dict[Part, str] = {
    "identical_shards": "scale_shards",
    "capacities": "scale_shards",
    "merged_summaries": "scale_shards",
    "assigned_from_disk": "scale_shards",
    "engines": "scale_engines",
    "crowded_from_disk": "scale_shards",
}
"""Each takes (small, scratch folder) and returns figures by their names; with the file in which it is."""
ON_REQUEST: set[Part] = {"crowded_from_disk"}
"""Run only where `--only` names them."""


def main(config: Config) -> Result:
    """Run them all; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    result: Result = {"small": str(config.small), "processor": processor()}
    keep_compiled()
    with shared_bytecode():
        for name, file in PARTS.items():
            if name not in config.only and (config.only or name in ON_REQUEST):
                continue
            started = time.perf_counter()
            found = getattr(import_module(f"benchmarks.{file}"), name)(config.small, config.output / "scratch")
            result |= found
            for figure, value in found.items():
                print(f"{figure:<52} {value if isinstance(value, str | bool) else f'{value:.4g}'}", flush=True)
            print(f"  {name}: {time.perf_counter() - started:.0f} s", flush=True)
    write_json(config.output / "result.json", result)
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
