"""Windows: the prompts of one shard, which are read, estimated and written together, wherever that is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from jaxroute.batch.score_config import ScoreConfig
from jaxroute.batch.streams import WindowEstimator
from jaxroute.data.estimates import Estimates, Estimator
from jaxroute.data.prompt_files import PromptFiles
from jaxroute.data.prompts import PromptRow
from jaxroute.data.table import Queries
from jaxroute.errors import OutputError, PromptError
from jaxroute.predictor.predictor import Predictor
from jaxroute.routers.base import load


@dataclass(frozen=True)
class Window:
    """The prompts of shard `number`, of which the first is row `start` of the input."""

    number: int
    start: int
    rows: Sequence[PromptRow]

    @property
    def queries(self) -> Queries:
        return Queries([row.prompt for row in self.rows], [row.domain for row in self.rows])

    @property
    def place(self) -> str:
        """Which rows they are, in words."""
        return f"{self.rows[0].place} to {self.rows[-1].place}"


def read_windows(prompts: PromptFiles, rows_per_shard: int, numbers: Sequence[int]) -> Iterator[Window]:
    """The windows of these numbers, which ascend; no more than one is held."""
    if not numbers:
        return
    wanted, start = set(numbers), numbers[0] * rows_per_shard
    rows = prompts.read(skip=start)
    for number in range(numbers[0], numbers[-1] + 1):
        window = list(islice(rows, rows_per_shard))
        if number in wanted:
            yield Window(number, start, window)
        start += len(window)


class WindowScorer:
    """Weights in memory, and what they say of one window after the other."""

    def __init__(self, config: ScoreConfig, estimator: Estimator, progress: Callable[[int], object] | None = None):
        self._given = str(config.prompts)
        self._estimate = WindowEstimator(estimator, config.scoring, progress)

    def __call__(self, queries: Queries, place: str) -> Estimates:
        """Raises `PromptError` with the rows' `place` for a prompt that cannot be read."""
        try:
            # Features are large, and no shard holds them.
            return replace(self._estimate(queries), features=None)
        except PromptError as error:
            raise PromptError(f"prompts={self._given!r}, {place}: {error}") from error


def load_estimator(config: ScoreConfig) -> Estimator:
    """The checkpoint's, with what was asked of the reading of prompts."""
    estimator = load(config.checkpoint, encoder=config.encoder)
    given = {name: value for name in ("max_tokens", "truncation_side") if (value := getattr(config, name)) is not None}
    narrow = ["scoring.dtype"] * (config.scoring.dtype == "bfloat16")
    if not isinstance(estimator, Predictor):
        if wrong := [*given, *narrow]:
            raise OutputError(f"{', '.join(wrong)}: the checkpoint is of another router than the predictor: leave it out")
        return estimator
    return replace(estimator, features=replace(estimator.features, **given))
