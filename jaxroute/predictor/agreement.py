r"""Agreement: what the answers of several models to one prompt show about each other.

    logit P(answer of m is right | the answers of S) = logit P(it is right | it alone) + sum_{n in S, n != m} f_mn v

f_mn compares the two answers: whether their final answers are the same, differ, or cannot be read, and how many of their
words they share; each of these by itself, times the log-odds of n's answer, so that a better model's agreement counts for more,
and times those of m's, so that wrong answers which weak models have in common do not outvote a strong one. v is fitted to all
sets of up to `MOST_TOGETHER` models at once. Only answers that are there are compared: a cascade may use what it has paid for.

The final answer is what the last `\boxed{}` holds, else what follows the last `answer is`, else a letter that the answer begins
with, else the last number of a short answer; longer ones that say none of it have no final answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxroute.predictor.softmax import fit_directions

KINDS = 4
"""Same final answer, different ones, one of them unread, shared words."""
WEIGHTS = 3 * KINDS
MOST_TOGETHER = 4
"""Models of a set that the fit looks at."""
MOST_SETS = 60
"""Sets that are fitted to; of more, as many are drawn."""
MOST_LOGIT = 4.0
"""Log-odds beyond which an answer's weight for others does not grow."""
PRECISION = 1.0
"""Of the prior of every weight, which has mean 0."""
SHORT = 40
"""Characters of an answer whose last number is its final answer."""
BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{+\s*([^{}]*?)\s*\}")
STATED = re.compile(r"(?:answer|choice|option)\s*(?:is|:)[\s:*(\[\"'`$]*([A-Za-z](?![\w'])|-?\d[\d.,]*\d|-?\d)", re.IGNORECASE)
LEADING = re.compile(r"[\s(*\[`\"']*(?:option\s+|choice\s+)?([A-Za-z])(?:[)\].:*`\"']|\s*$|\s*\n)", re.IGNORECASE)
NUMBER = re.compile(r"-?\d[\d.,]*\d|-?\d")
WORD = re.compile(r"\w+")


@dataclass(frozen=True, eq=False)
class Agreement:
    """How much other answers count, and what may be expected of the next one."""

    weight: Float[np.ndarray, " weights"]
    """v; all 0 where other answers say nothing."""
    scenarios: Float[np.ndarray, "models models nodes 2"]
    """[m, n]: equally likely pairs of what n's answer adds to the log-odds of m's, and by how much n's own move in all."""
    carry: float
    """Answers that move their own log-odds by x on average move those of the models not asked by `carry` x."""
    losses: tuple[float, float]
    """Held out, in nats per answer of a set: judged one by one, and together."""


def compared(answers: np.ndarray) -> Float[np.ndarray, "queries models models kinds"]:
    """Every two answers to a query, texts of shape `(queries, models)`, beside each other."""
    finals = np.vectorize(final_answer, otypes=[object])(answers)
    words = np.vectorize(lambda text: frozenset(WORD.findall(str(text).lower())), otypes=[object])(answers)
    found = np.zeros((*answers.shape, answers.shape[1], KINDS))
    for one, other in combinations(range(answers.shape[1]), 2):
        read = (finals[:, one] != "") & (finals[:, other] != "")
        same = read & (finals[:, one] == finals[:, other])
        pair = np.stack([same, read & ~same, ~read, _shared(words[:, one], words[:, other])], axis=1)
        found[:, one, other] = found[:, other, one] = pair
    return found


def evidence(
    weight: Float[np.ndarray, " weights"],
    pairs: Float[np.ndarray, "queries models models kinds"],
    logits: Float[np.ndarray, "queries models"],
) -> Float[np.ndarray, "queries models models"]:
    """[j, m, n]: what n's answer to query j adds to the log-odds of m's; `logits` are those of answers judged alone."""
    if not weight.any():
        return np.zeros(pairs.shape[:3])
    return _directions(pairs, logits) @ weight


def fit_agreement(
    pairs: Float[np.ndarray, "queries models models kinds"] | None,
    logits: Float[np.ndarray, "queries models"],
    moves: Float[np.ndarray, "queries models"],
    quality: Float[np.ndarray, "queries models"],
    fold: Int[np.ndarray, " queries"],
    *,
    nodes: int,
    clear: float,
) -> Agreement:
    """Of answers whose true quality is known, NaN where a model was not run.

    `logits` are those of answers judged alone, held out, and `moves` how far these lie from the estimates of the prompts.
    Without `pairs`, or where held-out losses are not lower by `clear` standard errors over the queries, answers show nothing of
    each other.
    """
    weight, held_out, losses = np.zeros(WEIGHTS), np.zeros((*quality.shape, quality.shape[1])), (np.nan, np.nan)
    run = ~np.isnan(quality)
    if pairs is not None and (run.sum(axis=1) > 1).any():
        directions = _directions(pairs, logits)
        rows = _rows(directions, logits, quality)
        move, by_fold = np.zeros(len(rows.query)), {}
        for one in np.unique(fold):
            held = fold[rows.query] == one
            by_fold[one] = rows.select(~held).fit()
            move[held] = rows.direction[held] @ by_fold[one]
        before, after = rows.losses(), rows.losses(move)
        losses = (float(before.mean()), float(after.mean()))
        gain = np.bincount(rows.query, before - after, len(fold))
        if gain.sum() > clear * np.sqrt(len(fold)) * gain.std() and gain.sum() > 1e-9 * len(rows.query):
            weight = rows.fit()
            for one, found in by_fold.items():
                held_out[fold == one] = directions[fold == one] @ found
    scenarios = _scenarios(held_out, moves, run, nodes)
    carry = _carry(held_out, moves, logits - moves, quality) if moves.any() or held_out.any() else 0.0
    return Agreement(weight, scenarios, carry, losses)


def final_answer(answer: str) -> str:
    """What an answer comes to; empty where that cannot be read."""
    text = str(answer).strip()
    if boxed := BOXED.findall(text):
        return str(boxed[-1]).strip().lower()
    if stated := STATED.findall(text):
        return _number(stated[-1].lower())
    if leading := LEADING.match(text):
        return leading[1].lower()
    numbers = NUMBER.findall(text) if len(text) <= SHORT else []
    return _number(numbers[-1]) if numbers else ""


@dataclass(frozen=True, eq=False)
class _Rows:
    """One row for every answer of every set of models on every query that they all answered."""

    query: Int[np.ndarray, " rows"]
    direction: Float[np.ndarray, "rows weights"]
    offset: Float[np.ndarray, " rows"]
    quality: Float[np.ndarray, " rows"]

    def select(self, kept: Bool[np.ndarray, " rows"]) -> _Rows:
        return _Rows(self.query[kept], self.direction[kept], self.offset[kept], self.quality[kept])

    def fit(self) -> Float[np.ndarray, " weights"]:
        """All rows of a query together count once: they say little more than one."""
        share = 1 / np.bincount(self.query)[self.query]
        target = np.stack([1 - self.quality, self.quality], axis=1) * share[:, None]
        direction = np.stack([np.zeros_like(self.direction), self.direction], axis=1)
        offset = np.stack([np.zeros_like(self.offset), self.offset], axis=1)
        return fit_directions(target, direction, np.full(WEIGHTS, PRECISION), np.zeros(WEIGHTS), offset)

    def losses(self, move: Float[np.ndarray, " rows"] | float = 0.0) -> Float[np.ndarray, " rows"]:
        """Nats."""
        logits = self.offset + move
        return np.logaddexp(0.0, logits) - self.quality * logits


def _rows(
    directions: Float[np.ndarray, "queries models models weights"],
    logits: Float[np.ndarray, "queries models"],
    quality: Float[np.ndarray, "queries models"],
) -> _Rows:
    run = ~np.isnan(quality)
    found: list[tuple[np.ndarray, ...]] = []
    for models in _sets(quality.shape[1], 2, MOST_TOGETHER):
        query = np.flatnonzero(run[:, list(models)].all(axis=1))
        for one in models:
            others = [other for other in models if other != one]
            direction = directions[query, one][:, others].sum(axis=1)
            found.append((query, direction, logits[query, one], quality[query, one]))
    return _Rows(*(np.concatenate(parts) for parts in zip(*found)))


def _sets(models: int, least: int, most: int) -> Iterator[tuple[int, ...]]:
    every = [one for size in range(least, min(most, models) + 1) for one in combinations(range(models), size)]
    if len(every) <= MOST_SETS:
        yield from every
    else:
        yield from (every[place] for place in np.random.default_rng(0).choice(len(every), MOST_SETS, replace=False))


def _directions(
    pairs: Float[np.ndarray, "queries models models kinds"], logits: Float[np.ndarray, "queries models"]
) -> Float[np.ndarray, "queries models models weights"]:
    inside = np.clip(logits, -MOST_LOGIT, MOST_LOGIT)
    return np.concatenate([pairs, pairs * inside[:, None, :, None], pairs * inside[:, :, None, None]], axis=-1)


def _scenarios(
    evidence: Float[np.ndarray, "queries models models"],
    moves: Float[np.ndarray, "queries models"],
    run: Bool[np.ndarray, "queries models"],
    nodes: int,
) -> Float[np.ndarray, "models models nodes 2"]:
    """Of every two models, rows in the order of what the second's answer adds to the first's, in parts of equal size."""
    models = run.shape[1]
    found = np.zeros((models, models, nodes, 2))
    for one in range(models):
        for other in range(models):
            both = run[:, one] & run[:, other]
            if one == other or both.sum() < nodes:
                continue
            added = evidence[both, one, other]
            own = moves[both, other] + evidence[both, other, one]
            order = np.lexsort((own, added))
            found[one, other] = [[added[part].mean(), own[part].mean()] for part in np.array_split(order, nodes)]
    return found


def _carry(
    evidence: Float[np.ndarray, "queries models models"],
    moves: Float[np.ndarray, "queries models"],
    before: Float[np.ndarray, "queries models"],
    quality: Float[np.ndarray, "queries models"],
) -> float:
    """One slope over all sets of models that were asked and models that were not, by logistic regression; never below 0."""
    run = ~np.isnan(quality)
    targets, offsets, directions = [], [], []
    for models in _sets(quality.shape[1], 1, MOST_TOGETHER - 1):
        asked = list(models)
        moved = moves[:, asked].mean(axis=1) + evidence[:, asked][:, :, asked].sum(axis=2).mean(axis=1)
        for other in set(range(quality.shape[1])) - set(models):
            rows = run[:, [*asked, other]].all(axis=1)
            targets.append(quality[rows, other])
            offsets.append(before[rows, other])
            directions.append(moved[rows])
    if not sum(map(len, targets)):
        return 0.0
    right, offset, moved = (np.concatenate(part) for part in (targets, offsets, directions))
    zero = np.zeros_like(right)
    target = np.stack([1 - right, right], axis=1)
    direction = np.stack([zero, moved], axis=1)[..., None]
    return max(0.0, float(fit_directions(target, direction, np.ones(1), np.zeros(1), np.stack([zero, offset], axis=1))[0]))


def _shared(one: np.ndarray, other: np.ndarray) -> Float[np.ndarray, " queries"]:
    """Words of both over words of either."""
    return np.array([len(a & b) / max(1, len(a | b)) for a, b in zip(one, other, strict=True)], float)


def _number(text: str) -> str:
    """`1,234.50` as `1234.5`; other texts as they are."""
    plain = text.replace(",", "").rstrip(".")
    return f"{float(plain):.10g}" if re.fullmatch(r"-?\d+(\.\d+)?", plain) else text
