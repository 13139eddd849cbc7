"""Progress by model: cells that were asked, dollars, and the time that is left."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from tqdm.auto import tqdm

from jaxroute.collect.plans import Cell
from jaxroute.endpoints import StoredAnswer

MOST_BARS = 24
"""More models do not fit a screen: then, and where nobody watches, one bar counts all of them."""
EVERY_SECONDS = 0.5
T = TypeVar("T")


class Progress:
    """Bars on the standard error stream, one per model; used in a `with` block."""

    def __init__(self, models: Sequence[str]) -> None:
        self.models = list(models)
        self.by_model = sys.stderr.isatty() and len(models) <= MOST_BARS
        self.bars: dict[str, tqdm] = {}
        self.spent: dict[str, float] = {}
        self.failed: Counter[str] = Counter()

    def begin(self, cells: Sequence[Cell]) -> None:
        """A batch of cells is asked next."""
        count = Counter(self._name(self.models[column]) for _, column in cells)
        width = max(map(len, self.models))
        for name, total in count.items():
            if name in self.bars:
                self.bars[name].total += total
                self.bars[name].refresh()
            else:
                # Many bars make room for the summary, which says the same.
                self.bars[name] = tqdm(
                    total=total,
                    desc=name.ljust(width) if self.by_model else name,
                    unit=" answers",
                    smoothing=0.05,
                    mininterval=EVERY_SECONDS,
                    position=len(self.bars),
                    leave=not self.by_model,
                )

    def answered(self, stored: StoredAnswer) -> None:
        """A cell of the batch is stored."""
        name = self._name(stored.model)
        self.spent[name] = self.spent.get(name, 0.0) + stored.spent_usd
        self.failed[name] += not stored.answered
        if name in self.bars:
            failed = f", {self.failed[name]:,} failed" if self.failed[name] else ""
            self.bars[name].set_postfix_str(f"{self.spent[name]:.4f} dollars{failed}", refresh=False)
            self.bars[name].update()

    def judging(self, waiting: list[T]) -> Iterable[T]:
        """The same, with a bar that counts how many were taken."""
        return tqdm(waiting, desc="judging", unit=" answers", mininterval=EVERY_SECONDS) if waiting else waiting

    def say(self, text: str) -> None:
        """A line between the bars."""
        tqdm.write(text, file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        for bar in self.bars.values():
            bar.close()

    def _name(self, model: str) -> str:
        return model if self.by_model else "asking"
