"""How does one budget grow over many files and many processes?

    uv run --extra scale python -m benchmarks.scale [--small]

Every part is a function in a file of its own and returns its figures; all are written to result.json.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from benchmarks import scale_engines, scale_shards
from benchmarks.start import processor
from jaxroute.storage.files import write_json

Result = dict[str, float | str | bool]


@dataclass(frozen=True)
class Config:
    """One budget over many files; a full run takes up to a quarter of an hour, `--small` two minutes."""

    output: Path = Path("runs/benchmarks/scale")
    """Folder for result.json, and for the files that are made; those are removed at the end."""
    small: bool = False
    """A hundredth of the queries, to see that everything runs; its figures say nothing."""
    only: list[str] = field(default_factory=list[str])
    """Parts to run, by the names of their functions; all if none is given, but for crowded_from_disk."""


PARTS = [
    scale_shards.identical_shards,
    scale_shards.capacities,
    scale_shards.merged_summaries,
    scale_shards.assigned_from_disk,
    scale_engines.engines,
]
"""Each takes (small, scratch folder) and returns figures by their names."""
ON_REQUEST = [scale_shards.crowded_from_disk]
"""Run where `--only` names them."""


def main(config: Config) -> Result:
    """Run them all; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    result: Result = {"small": str(config.small), "processor": processor()}
    for part in [*PARTS, *ON_REQUEST]:
        if part.__name__ not in config.only and (config.only or part in ON_REQUEST):
            continue
        started = time.perf_counter()
        found = part(config.small, config.output / "scratch")
        result |= found
        for name, value in found.items():
            print(f"{name:<52} {value if isinstance(value, str | bool) else f'{value:.4g}'}", flush=True)
        print(f"  {part.__name__}: {time.perf_counter() - started:.0f} s", flush=True)
    write_json(config.output / "result.json", result)
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
