"""`jaxroute score`: the quality of every model on every prompt of files of any size."""

from __future__ import annotations

from typing import Annotated

import tyro

from jaxroute.batch.score_config import ScoreConfig
from jaxroute.batch.workers import EngineConfig


def main(
    config: Annotated[ScoreConfig, tyro.conf.arg(name="")], engine: Annotated[EngineConfig, tyro.conf.arg(name="")]
) -> None:
    """Estimate the quality of every model on every prompt of files of any size."""
    from jaxroute.batch.shards import score_file

    print(score_file(config, engine))
    print(f"written to {config.output}/")
