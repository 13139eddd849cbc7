"""RoutingTable: what every model answered, how well and for how much, query by query."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt64

from jaxroute.data.messages import is_text
from jaxroute.data.prices import PriceList, check_against_dollars
from jaxroute.data.reading import such_cells
from jaxroute.data.rows import repeated
from jaxroute.data.table_files import OPTIONAL, PER_MODEL, read_outcomes, table_problems, write_outcomes
from jaxroute.data.table_options import TableOptions
from jaxroute.errors import TableError, counted, listed

MOST_USD = 1e12
"""No answer costs as much; sums of larger numbers overflow."""


@dataclass(frozen=True, eq=False)
class RoutingTable:
    """Outcomes of `models` (M) on `prompts` (N). Arrays are `(queries, models)`; a cell never run is NaN, never 0.

    Raises `TableError`, listing everything that is wrong, when the parts do not fit together.
    """

    prompts: list[str]
    models: list[str]
    quality: Float[np.ndarray, "queries models"]
    """In [0, 1]; NaN where the model was never run."""
    cost_usd: Float[np.ndarray, "queries models"]
    """Dollars per query; `(models,)` is accepted and spread over the queries."""
    query_ids: list[str] = field(default_factory=list)
    """Distinct; the row's number where a source has none."""
    domains: list[str] = field(default_factory=list)
    """Empty text where unknown."""
    input_tokens: Float[np.ndarray, "queries models"] | None = None
    output_tokens: Float[np.ndarray, "queries models"] | None = None
    latency_seconds: Float[np.ndarray, "queries models"] | None = None
    log_likelihood: Float[np.ndarray, "queries models"] | None = None
    response: np.ndarray | None = None
    """Texts, `(queries, models)`, empty where never run."""
    name: str = "table"
    """What it is, for people; a simulation says so here."""
    note: str = ""
    """What a reader of its numbers must know, printed with the summary."""

    def __post_init__(self) -> None:
        count, width = len(self.prompts), len(self.models)
        put = object.__setattr__
        put(self, "query_ids", [str(name) for name in self.query_ids] or [str(row) for row in range(count)])
        put(self, "domains", list(self.domains) or [""] * count)
        put(self, "quality", np.asarray(self.quality, np.float64))
        cost = np.asarray(self.cost_usd, np.float64)
        put(self, "cost_usd", np.broadcast_to(cost, (count, width)).copy() if cost.shape == (width,) else cost)
        problems = [
            f"{name} has {len(values)} entries, prompts has {count}"
            for name, values in (("query_ids", self.query_ids), ("domains", self.domains))
            if len(values) != count
        ]
        if not all(isinstance(model, str) and model.strip() for model in self.models):
            problems.append("models must be names and not empty")
        if len(set(self.models)) != width:
            problems.append(f"models must be distinct: {listed(repeated(self.models))} appear twice")
        if len(set(self.query_ids)) != len(self.query_ids):
            problems.append(f"query_ids must be distinct: {listed(repeated(self.query_ids))} appear twice")
        for name in ("quality", "cost_usd", *OPTIONAL):
            value = getattr(self, name)
            if value is not None and value.shape != (count, width):
                problems.append(f"{name} has shape {value.shape}, expected (queries, models) = {(count, width)}")
        if not all(isinstance(prompt, str) and prompt.strip() for prompt in self.prompts):
            problems.append("prompts must be texts and not empty")
        elif broken := [row for row, prompt in enumerate(self.prompts) if not is_text(prompt)]:
            problems.append(f"prompts[{broken[0]}] holds half of a surrogate pair ({len(broken)} such prompts)")
        if self.quality.shape == self.cost_usd.shape == (count, width) and len(self.query_ids) == count:
            outside = (self.quality < 0) | (self.quality > 1)
            if outside.any():
                row, column = np.argwhere(outside)[0]
                problems.append(
                    f"quality of {self.models[column]!r} on query {self.query_ids[row]!r} is {self.quality[row, column]}; "
                    f"it must lie in [0, 1] ({such_cells(int(outside.sum()))})"
                )
            bad = (self.cost_usd < 0) | (self.cost_usd > MOST_USD) | (np.isnan(self.cost_usd) & ~np.isnan(self.quality))
            if bad.any():
                row, column = np.argwhere(bad)[0]
                problems.append(
                    f"cost_usd of {self.models[column]!r} on query {self.query_ids[row]!r} is {self.cost_usd[row, column]}; "
                    f"it must be from 0 to {MOST_USD:g} dollars wherever the model was run ({such_cells(int(bad.sum()))})"
                )
        if problems:
            raise TableError(f"{self.name}: " + "; ".join(problems))

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def queries(self) -> Queries:
        """What is known of the queries before any model answers."""
        return Queries(self.prompts, self.domains)

    def select(self, queries: Sequence[int] | np.ndarray | None = None, models: Sequence[str] | None = None) -> RoutingTable:
        """The rows at the positions (or under the boolean mask) `queries`, and the named `models`, in the given order."""
        rows = np.arange(len(self)) if queries is None else np.asarray(queries)
        if rows.dtype == bool and rows.shape != (len(self),):
            raise TableError(f"the mask queries has shape {rows.shape}, the table {len(self)} queries")
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(int)
        chosen = self.models if models is None else list(models)
        unknown = [model for model in chosen if model not in self.models]
        if unknown:
            raise TableError(f"unknown model {listed(unknown)}; this table has: {listed(self.models)}")
        columns = np.array([self.models.index(model) for model in chosen], int)
        cells = {
            name: getattr(self, name)[np.ix_(rows, columns)]
            for name in ("quality", "cost_usd", *OPTIONAL)
            if getattr(self, name) is not None
        }
        return replace(
            self,
            prompts=[self.prompts[row] for row in rows],
            query_ids=[self.query_ids[row] for row in rows],
            domains=[self.domains[row] for row in rows],
            models=chosen,
            **cells,
        )

    def split(self, fraction: float, *, seed: int) -> tuple[RoutingTable, RoutingTable]:
        """Two parts, the first with `fraction` of the queries of every domain (to within one), order kept."""
        if not 0 < fraction < 1:
            raise TableError(f"fraction={fraction} must lie between 0 and 1")
        first = np.asarray(stratified_order(self.domains, seed=seed, prompts=self.prompts) < fraction)
        return self.select(np.flatnonzero(first)), self.select(np.flatnonzero(~first))

    def complete(self) -> tuple[RoutingTable, int]:
        """Only the queries that every model was run on, and how many were dropped."""
        whole = ~np.isnan(self.quality).any(axis=1)
        return self.select(np.flatnonzero(whole)), int(np.sum(~whole))

    @property
    def never_run(self) -> list[str]:
        """The models without an outcome: nothing can be learnt of them."""
        return [model for model, cells in zip(self.models, self.quality.T) if np.isnan(cells).all()]

    @property
    def digest(self) -> str:
        """SHA-256 over everything that is known of the queries and of every model on them."""
        digest = hashlib.sha256(json.dumps([self.prompts, self.models, self.domains]).encode())
        for name in PER_MODEL:
            if (value := getattr(self, name)) is not None:
                content = json.dumps(value.tolist()).encode() if name == "response" else np.ascontiguousarray(value).tobytes()
                digest.update(name.encode() + content)
        return digest.hexdigest()

    @property
    def prompt_numbers(self) -> UInt64[np.ndarray, " queries"]:
        """A number per prompt, by its text as `text_key` has it: what a checkpoint keeps of the prompts it was trained on."""
        return numbers_of(self.prompts)

    def mean_cost_usd(self) -> Float[np.ndarray, " models"]:
        """Each model's mean over the queries that it was run on, in dollars per query; NaN where it never was.

        Summed exactly, so that a cost that is always the same is its own mean.
        """
        columns = [cost[~np.isnan(quality)] for cost, quality in zip(self.cost_usd.T, self.quality.T, strict=True)]
        return np.array([math.fsum(column) / len(column) if len(column) else math.nan for column in columns])

    @property
    def has_constant_costs(self) -> bool:
        """Whether every answer of a model costs the same, for every model: nothing of it depends on the prompt."""
        run = np.where(np.isnan(self.quality), np.nan, self.cost_usd)
        known = [column[~np.isnan(column)] for column in run.T]
        return all(not len(column) or column.min() == column.max() for column in known)

    def check_prices(self, prices: PriceList) -> None:
        """Raise `TableError` where `prices`, dollars per million tokens, contradict the table's dollars by powers of ten."""
        run = ~np.isnan(self.quality)
        tokens = [_means(run, part) for part in (self.input_tokens, self.output_tokens) if part is not None]
        check_against_dollars(prices, self.models, _means(run, self.cost_usd), *(tokens if len(tokens) == 2 else ()))

    def save(self, path: Path | str) -> None:
        """Write as Parquet, CSV or JSON lines (by suffix), in the wide schema that `load_source("table", path)` reads."""
        columns: dict[str, list | np.ndarray] = {"query_id": self.query_ids, "domain": self.domains, "prompt": self.prompts}
        for column, model in enumerate(self.models):
            for part in PER_MODEL:
                if (values := getattr(self, part)) is not None:
                    columns[f"{model}|{part}"] = values[:, column]
        write_outcomes(Path(path), columns)

    @staticmethod
    def load(
        path: Path | str,
        *,
        scale: float = 1.0,
        clip: bool = False,
        repeats: Literal["refuse", "mean"] = "refuse",
        paid: bool = True,
        prices: PriceList | Path | str | None = None,
    ) -> RoutingTable:
        """Read what `save` wrote, or anyone's file in the same schema; options as in `TableOptions`. Raises `SourceError`."""
        options = TableOptions(scale=scale, clip=clip, repeats=repeats, paid=paid, prices=prices)
        columns = read_outcomes(Path(path), options)
        try:
            table = RoutingTable(**columns)
            if options.prices is not None:
                table.check_prices(dict(zip(table.models, options.prices_of(table.models) or [])))
            return table
        except TableError as error:
            problems = table_problems(Path(path))
            problems.add(str(error))
            problems.stop()
            raise

    def __str__(self) -> str:
        counts = counted(len(self), "query"), counted(len(self.models), "model"), counted(len(set(self.domains)), "domain")
        head = f"{self.name}: {', '.join(counts)}"
        lines = [head, f"  {'model':<46} {'run':>7} {'quality':>8} {'usd/query':>11}"]
        for column, (model, cost) in enumerate(zip(self.models, self.mean_cost_usd(), strict=True)):
            run = ~np.isnan(self.quality[:, column])
            quality = self.quality[run, column].mean() if run.any() else np.nan
            lines.append(f"  {model[:46]:<46} {run.sum():>7,} {quality:>8.3f} {cost:>11.3g}")
        extra = [name for name in OPTIONAL if getattr(self, name) is not None]
        lines += [f"  also: {', '.join(extra)}"] if extra else []
        lines += [f"  {self.note}"] if self.note else []
        return "\n".join(lines)


@dataclass(frozen=True)
class Queries:
    """What is known before any model answers; a domain is empty where unknown."""

    prompts: list[str]
    domains: list[str]

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True)
class Joined:
    """Two tables as one, and what became of the rows; `unmatched` counts distinct texts of the left table."""

    table: RoutingTable
    matched: int
    unmatched: int
    repeated: int
    """Rows that repeated a text with the same outcomes; the first in file order is kept."""
    conflicting: int
    """Texts dropped because their rows disagree about an outcome."""


def join(left: RoutingTable, right: RoutingTable, *, key: Callable[[str], str] | None = None) -> Joined:
    """Both tables' models on the prompts they share, in the order, with the prompts, of `left`.

    `key` makes texts comparable (default `text_key`). Raises `TableError` when the tables share a model or no prompt.
    """
    key = key or text_key
    shared = sorted(set(left.models) & set(right.models))
    if shared:
        raise TableError(f"both tables have the models {listed(shared)}; select one side's first")
    ours, theirs = _first_rows(left, key), _first_rows(right, key)
    texts = [text for text in ours.rows if text in theirs.rows]
    if not texts:
        raise TableError(f"{left.name} and {right.name} share no prompt; compare a prompt of each")
    clear = [text for text in texts if text not in ours.conflicting and text not in theirs.conflicting]
    first = left.select([ours.rows[text] for text in clear])
    second = right.select([theirs.rows[text] for text in clear])
    both = {
        name: np.concatenate([getattr(first, name), getattr(second, name)], axis=1)
        for name in ("quality", "cost_usd", *OPTIONAL)
        if getattr(first, name) is not None and getattr(second, name) is not None
    }
    table = RoutingTable(
        prompts=first.prompts,
        query_ids=first.query_ids,
        domains=[one or other for one, other in zip(first.domains, second.domains, strict=True)],
        models=first.models + second.models,
        name=f"{left.name} + {right.name}",
        note="; ".join(dict.fromkeys(note for note in (left.note, right.note) if note)),
        **both,
    )
    return Joined(
        table=table,
        matched=len(clear),
        unmatched=len(ours.rows) - len(texts),
        repeated=sum(ours.repeats[text] for text in clear),
        conflicting=len(texts) - len(clear),
    )


def numbers_of(prompts: Sequence[str]) -> UInt64[np.ndarray, " prompts"]:
    """A number per text, by which it is known again: equal for texts that `text_key` makes equal."""
    digests = (hashlib.sha256(text_key(prompt).encode()).digest() for prompt in prompts)
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)


def text_key(text: str) -> str:
    """The text without case, white space and a trailing `Answer:`."""
    return re.sub(r"\s+", "", text.casefold()).removesuffix("answer:")


def stratified_order(
    labels: Sequence[str], *, seed: int, prompts: Sequence[str] | None = None
) -> Float[np.ndarray, " queries"]:
    """A number in (0, 1) per query; below any fraction lies that share of every label, to within one query.

    Rarer labels are offset at random, so that many small ones add up to the right share as well. Equal `prompts` get the number
    of the first, so that none is on both sides of a split.
    """
    generator = np.random.default_rng(seed)
    order = np.empty(len(labels))
    names = np.asarray(labels)
    for label in np.unique(names):
        rows = np.flatnonzero(names == label)
        order[generator.permutation(rows)] = (np.arange(len(rows)) + generator.uniform(0.001, 0.999)) / len(rows)
    first: dict[str, int] = {}
    same = [first.setdefault(text_key(prompt), row) for row, prompt in enumerate(prompts or [])]
    return order[same] if same else order


@dataclass(frozen=True)
class _FirstRows:
    rows: dict[str, int]
    conflicting: set[str]
    repeats: dict[str, int]


def _first_rows(table: RoutingTable, key: Callable[[str], str]) -> _FirstRows:
    rows: dict[str, int] = {}
    repeats: dict[str, int] = {}
    conflicting: set[str] = set()
    for row, prompt in enumerate(table.prompts):
        text = key(prompt)
        first = rows.setdefault(text, row)
        repeats[text] = repeats.get(text, -1) + 1
        if not np.array_equal(table.quality[first], table.quality[row], equal_nan=True):
            conflicting.add(text)
    return _FirstRows(rows, conflicting, repeats)


def _means(run: np.ndarray, cells: Float[np.ndarray, "queries models"]) -> Float[np.ndarray, " models"]:
    """Every model's mean over the runs whose number is known; NaN where there is none."""
    known = run & ~np.isnan(cells)
    count = known.sum(axis=0)
    return np.divide(np.where(known, cells, 0.0).sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0)
