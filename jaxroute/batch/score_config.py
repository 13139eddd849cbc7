"""What `jaxroute score` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jaxroute.encoders.scoring_config import ScoringConfig
from jaxroute.errors import OutputError
from jaxroute.guarantees.safe_choice import UNKNOWN_BELOW, check_unknown_below


@dataclass(frozen=True)
class ScoreConfig:
    """Estimate the quality of every model on every prompt of files of any size."""

    checkpoint: Path
    """Folder that `jaxroute train` or `jaxroute demo` wrote."""
    prompts: Path
    """.jsonl, .json (an array), .csv or .parquet with a "prompt" or chat "messages" each, an OpenAI batch file, or .txt with a
    prompt per line; also a folder of such files, or a pattern in quotes ('logs/*.jsonl'), read in the order of their names; or
    the URL of any of these (s3://...)."""
    output: Path
    """Folder of the shards, or its URL. What a stopped run left there is kept, and the same command resumes from it."""
    format: Literal["parquet", "jsonl"] = "parquet"
    """Of the shards."""
    rows_per_shard: int = 10_000
    """Prompts that are held in memory, scored and written together; equal ones among them are computed once."""
    max_tokens: int | None = None
    """Cut longer prompts; default: as in training."""
    truncation_side: Literal["left", "right"] | None = None
    """Which end of a too long prompt is cut; default: as in training."""
    encoder: str | None = None
    """Where the encoder lies now, if it has moved."""
    unknown_below: float = UNKNOWN_BELOW
    """Count the prompts that are unlike all training prompts: those whose p_value is under this. Their estimates are written as
    they are."""
    scoring: ScoringConfig = field(default_factory=ScoringConfig)

    def __post_init__(self) -> None:
        if self.rows_per_shard < 1:
            raise OutputError(f"rows_per_shard={self.rows_per_shard} must be at least 1")
        check_unknown_below(self.unknown_below)
