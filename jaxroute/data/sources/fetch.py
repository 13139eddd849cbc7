"""Published files from where their authors put them, each checked against its known SHA-256.

`published.json` lists, per source, its folder here, the base address, and for every file its path below that address.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pooch
import requests

from jaxroute.errors import SourceError

PUBLISHED: dict[str, dict] = json.loads(files("jaxroute.data.sources").joinpath("published.json").read_text())


def fetch(name: str, output: Path | str, *, mirror: str | None = None) -> Path:
    """Download the files of a source below `output`, skip those that are there, and return their folder.

    All sources fetched to one `output` lie as experiments expect them in JAXROUTE_DATA. `mirror` is another base address
    that serves the same files under the same paths. Raises `SourceError` for an unknown name, and listing every file that
    could not be had or has another content than published.
    """
    if name not in PUBLISHED:
        raise SourceError(f"source={name!r} cannot be fetched; these can: {', '.join(PUBLISHED)}")
    entry = PUBLISHED[name]
    base = (mirror or entry["base"]).rstrip("/") + "/"
    folder = Path(output) / entry["folder"]
    store = pooch.create(
        path=folder,
        base_url=base,
        registry={name: f"sha256:{file['sha256']}" for name, file in entry["files"].items()},
        urls={name: base + file["path"] for name, file in entry["files"].items()},
    )
    pooch.get_logger().setLevel("WARNING")
    download: Any = pooch.HTTPDownloader(progressbar=True, timeout=60)
    problems = []
    for file, known in entry["files"].items():
        try:
            store.fetch(file, downloader=download)
        except requests.RequestException as error:
            problems.append(f"{base}{known['path']}: {error}")
        except ValueError as error:  # pooch's word for another hash; the file is not kept
            problems.append(f"{base}{known['path']} is not the published file: {error}")
    if problems:
        raise SourceError(f"{name} could not be fetched whole:" + "".join(f"\n  - {problem}" for problem in problems))
    return folder
