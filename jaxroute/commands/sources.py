"""`jaxroute sources`: the formats that can be read, the schema of your own outcomes, and published files to fetch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxroute.data.sources import SCHEMA, SOURCES
from jaxroute.data.sources.fetch import PUBLISHED, fetch
from jaxroute.errors import SourceError
from jaxroute.storage.files import check_folder


@dataclass(frozen=True)
class Sources:
    """List the sources of outcomes and the schema of your own, or fetch published files."""

    action: Annotated[Literal["list", "fetch"], tyro.conf.Positional] = "list"
    """`list`, or `fetch NAME`."""
    name: Annotated[str | None, tyro.conf.Positional] = None
    """The source to fetch, such as routellm-mmlu."""
    output: Path = Path("data")
    """Folder to fetch into."""
    mirror: str | None = None
    """Another base address that serves the same files under the same paths."""


def main(config: Annotated[Sources, tyro.conf.arg(name="")]) -> None:
    """List the sources of outcomes and the schema of your own, or fetch published files."""
    if config.action == "list" and config.name:
        raise SourceError(f"name={config.name!r} goes with fetch: jaxroute sources fetch {config.name}")
    if config.action == "fetch":
        if config.name is None:
            raise SourceError(f"fetch needs the name of a source; known are {', '.join(PUBLISHED)}")
        check_folder("output", config.output)
        folder = fetch(config.name, config.output, mirror=config.mirror)
        print(f"{config.name} is in {folder}/")
        return
    for name, source in SOURCES.items():
        fetchable = f"\n    fetch: jaxroute sources fetch {name}" if name in PUBLISHED else ""
        print(f"{name}\n    holds: {source.holds}\n    from:  {source.origin}\n    path:  {source.path}{fetchable}")
    print(f"\nschema of `table`\n{SCHEMA}")
