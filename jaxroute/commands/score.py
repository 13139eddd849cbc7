"""`jaxroute score`: the quality of every model on every prompt of a file, of any size."""

from __future__ import annotations

from typing import Annotated

import tyro

from jaxroute.batch.shards import ScoreConfig, score_file


def main(config: Annotated[ScoreConfig, tyro.conf.arg(name="")]) -> None:
    """Estimate the quality of every model on every prompt of a file, of any size."""
    print(score_file(config))
    print(f"written to {config.output}/")
