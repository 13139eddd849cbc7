"""Published files from where their authors put them, each checked against its known SHA-256.

`published.json` lists, per source, the base address and the files below it.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pooch
import requests

from jaxroute.errors import SourceError

PUBLISHED: dict[str, dict] = json.loads(files("jaxroute.sources").joinpath("published.json").read_text())


def fetch(name: str, output: Path | str, *, mirror: str | None = None) -> Path:
    """Download the files of a source to `output/name`, skip those that are there, and return that folder.

    `mirror` is another base address that serves the same files under the same relative paths. Raises `SourceError` for
    an unknown name, and listing every file that could not be had or has another content than published.
    """
    if name not in PUBLISHED:
        raise SourceError(f"source={name!r} cannot be fetched; these can: {', '.join(PUBLISHED)}")
    entry = PUBLISHED[name]
    base = (mirror or entry["base"]).rstrip("/") + "/"
    folder = Path(output) / name
    store = pooch.create(
        path=folder, base_url=base, registry={file: f"sha256:{digest}" for file, digest in entry["files"].items()}
    )
    pooch.get_logger().setLevel("WARNING")
    download: Any = pooch.HTTPDownloader(progressbar=True, timeout=60)
    problems = []
    for file in entry["files"]:
        try:
            store.fetch(file, downloader=download)
        except requests.RequestException as error:
            problems.append(f"{base}{file}: {error}")
        except ValueError as error:  # pooch's word for another hash; the file is not kept
            problems.append(f"{base}{file} is not the published file: {error}")
    if problems:
        raise SourceError(f"{name} could not be fetched whole:" + "".join(f"\n  - {problem}" for problem in problems))
    return folder
