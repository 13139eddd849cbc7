"""How a file of outcomes is read where it is not as the schema says: other scales, repeats, tokens in place of dollars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from jaxroute.data.prices import FLAT_COST_NOTE, TOKENS_PER_PRICE, Price, PriceList, load_prices, priced
from jaxroute.errors import TableError

REPEATS = ("refuse", "mean")


@dataclass(frozen=True)
class TableOptions:
    """How a file of outcomes is read."""

    scale: float = 1.0
    """The best score: 10 or 100 where scores go from 0 to that; quality is score / scale."""
    clip: bool = False
    """Cut scores outside of the scale to its ends, where these are the minority."""
    repeats: Literal["refuse", "mean"] = "refuse"
    """Several outcomes of one model on one query: refused with their places, or averaged. Without a query_id, a query is its
    prompt; in a wide file without a query_id, repeated prompts are queries of their own, and are averaged with `mean` only."""
    paid: bool = True
    """Whether outcomes need dollars; without, missing ones count as 0: for what reads qualities only."""
    prices: PriceList | Path | str | None = None
    """A price list or its file: dollars from tokens for outcomes without cost_usd, and a check of those that have it."""

    def __post_init__(self) -> None:
        problems = []
        if isinstance(self.scale, bool) or not isinstance(self.scale, int | float) or not 0 < self.scale < float("inf"):
            problems.append(f"scale={self.scale!r} must be a number above 0")
        if not isinstance(self.clip, bool):
            problems.append(f"clip={self.clip!r} must be True or False")
        if self.repeats not in REPEATS:
            problems.append(f"repeats={self.repeats!r} must be one of {', '.join(REPEATS)}")
        if problems:
            raise TableError("; ".join(problems))

    def prices_of(self, models: list[str]) -> list[Price] | None:
        """The price of every model; None where no list is given. Raises `TableError`."""
        if self.prices is None:
            return None
        path = self.prices if isinstance(self.prices, Path) else Path(self.prices) if isinstance(self.prices, str) else None
        return priced(load_prices(path, models) if path else self.prices, models)  # type: ignore[arg-type]


def clipped(scores: Float[np.ndarray, "..."], scale: float) -> tuple[Float[np.ndarray, "..."], int]:
    """The scores cut to [0, scale], and how many were. Raises `TableError` where most of them lie outside."""
    outside = int(np.sum((scores < 0) | (scores > scale)))
    if outside > 0.5 * np.sum(~np.isnan(scores)):
        raise TableError(
            f"{outside:,} of {np.sum(~np.isnan(scores)):,} scores lie outside of [0, {scale:g}]: that is another scale, not a "
            "few scores to clip; give the best score as scale=10 or scale=100"
        )
    return np.clip(scores, 0.0, scale), outside


def dollars(
    prices: list[Price],
    column: np.ndarray | None,
    input_tokens: Float[np.ndarray, "..."] | None,
    output_tokens: Float[np.ndarray, "..."] | None,
) -> tuple[Float[np.ndarray, "..."], str]:
    """Dollars of every cell from its tokens, or every model's mean price where tokens are not counted; and a note about it.

    `column` says which model each cell is of; None: the last axis counts models.
    """
    first = np.array([price.input for price in prices])
    second = np.array([price.output for price in prices])
    first, second = (first, second) if column is None else (first[column], second[column])
    if input_tokens is None or output_tokens is None:
        return (first + second) / 2, FLAT_COST_NOTE
    return (input_tokens * first + output_tokens * second) / TOKENS_PER_PRICE, "costs are tokens times prices"


def averaged(values: Float[np.ndarray, "..."], at: tuple[np.ndarray, ...], shape: tuple[int, int]) -> Float[np.ndarray, "..."]:
    """The mean of all values that belong to one cell, (queries, models); NaN where there is none."""
    known = ~np.isnan(values)
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, at, np.where(known, values, 0.0))
    np.add.at(count, at, known)
    return np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)
